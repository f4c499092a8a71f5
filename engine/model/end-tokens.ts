/** Tokens with which model families end a turn or an answer, whatever the file gives as its end token. */
const END_TEXTS = new Set([
  "</s>",
  "<EOT>",
  "<end_of_turn>",
  "<end_of_utterance>",
  "<eos>",
  "<turn|>",
  "<|call|>",
  "<|calls|>",
  "<|end_of_text|>",
  "<|end|>",
  "<|endoftext|>",
  "<|eom_id|>",
  "<|eot_id|>",
  "<|file_sep|>",
  "<|fim_pad|>",
  "<|flush|>",
  "<|im_end|>",
  "<|repo_name|>",
  "<|return|>",
  "<|tool_response>",
  "<｜end▁of▁sentence｜>",
  "[EOS]",
  "[EOT]",
]);

/** Keys with one end token each; `tokenizer.ggml.eos_token_ids` lists those of a `generation_config.json`. */
const END_KEYS = ["eos", "eot", "eom"].map((name) => `tokenizer.ggml.${name}_token_id`);
const END_LIST_KEY = "tokenizer.ggml.eos_token_ids";

/**
 * Every token that ends an answer: those that the file names, and control tokens known by their text.
 * @param control the text of each control token, by id
 */
export function endTokensOf(metadata: Readonly<Record<string, unknown>>, control: ReadonlyMap<number, string>): ReadonlySet<number> {
  const named = END_KEYS.map((key) => metadata[key])
    .filter((id) => id !== undefined)
    .map(Number);
  const listed = Array.isArray(metadata[END_LIST_KEY]) ? metadata[END_LIST_KEY].map(Number) : [];
  const texts = new Set(control.values());
  // If one token ends a message and others end the answer (harmony's channels), the first does not end the answer.
  const inChannels =
    texts.has("<|end|>") && (texts.has("<|call|>") || texts.has("<|calls|>")) && (texts.has("<|return|>") || texts.has("<|flush|>"));
  const known = [...control].filter(([, text]) => END_TEXTS.has(text)).map(([id]) => id);
  const ends = new Set([...named, ...listed, ...known]);
  for (const [id, text] of control) if (inChannels && text === "<|end|>") ends.delete(id);
  return ends;
}
