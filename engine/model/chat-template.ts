import { Template } from "@huggingface/jinja";
import { type ChatTemplate, KvspliceError, type Role } from "../../plan/index.js";

type Message = { readonly role: Role; readonly content: string };

/** Stands for a message's content while the text around it is found. */
const CONTENT = "\u0001content\u0001";

/** A conversation that a message of the role may follow, for templates that insist on taking turns. */
const BEFORE: Record<Role, readonly Message[]> = {
  system: [{ role: "user", content: "a" }],
  user: [
    { role: "system", content: "a" },
    { role: "user", content: "a" },
    { role: "assistant", content: "a" },
  ],
  assistant: [{ role: "user", content: "a" }],
};

/** @throws KvspliceError `bad_model` if the model file has no chat template, or one that does not render. */
export function createChatTemplate(metadata: Readonly<Record<string, unknown>>, controlText: (id: unknown) => string): ChatTemplate {
  const source = metadata["tokenizer.chat_template"];
  if (typeof source !== "string") throw new KvspliceError("bad_model", "The model file has no chat template. Use an instruction-tuned model.");
  let template: Template;
  try {
    template = new Template(source);
  } catch (cause) {
    throw new KvspliceError("bad_model", "The model's chat template cannot be parsed.", { cause });
  }
  const render = (messages: readonly Message[], generate = false): string => {
    try {
      return template.render({
        messages,
        add_generation_prompt: generate,
        bos_token: controlText(metadata["tokenizer.ggml.bos_token_id"]),
        eos_token: controlText(metadata["tokenizer.ggml.eos_token_id"]),
      });
    } catch (cause) {
      throw new KvspliceError("bad_model", "The model's chat template does not render plain conversations.", { cause });
    }
  };
  const turn = BEFORE.assistant;
  return {
    frame(role, options = {}) {
      const before = options.first ? [] : BEFORE[role];
      const start = before.length ? render(before).length : 0;
      const [open, close] = render([...before, { role, content: CONTENT }]).slice(start).split(CONTENT) as [string, string];
      return { open, close };
    },
    generationPrompt: render(turn, true).slice(render(turn).length),
  };
}
