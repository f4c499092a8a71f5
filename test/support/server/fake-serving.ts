import { Engine } from "../../../engine/engine.js";
import { type BlockSource, type Language, loadTokenizer, type Model } from "../../../engine/index.js";
import { FakeBackend, type FakeOptions } from "../engine/fake-backend.js";
import { fakeEmbedder } from "../rag/fakes.js";
import { type Serving, type ServingOptions, startServing } from "./serving.js";

let language: Promise<Language> | undefined;

/** Number of ids to search for words. */
const LOW_IDS = 5_000;

/**
 * A model with the real one's vocabulary, template and card, but without weights. Its answers are readable words, a function
 * of every token that it sees, and never end by themselves.
 */
export async function wordyModel(
  options: Pick<FakeOptions, "before"> = {},
): Promise<{ readonly model: Model; readonly backend: FakeBackend }> {
  language ??= loadTokenizer();
  const spoken = await language;
  const { tokenizer, chat } = spoken;
  const vocabulary = Math.max(...tokenizer.encode(chat.generationPrompt, { control: true }), LOW_IDS) * 10;
  const says = Array.from({ length: LOW_IDS }, (_, id) => id).filter((id) =>
    /^ [a-z]{2,}$/.test(tokenizer.decode([id], { continues: true })),
  );
  const backend = new FakeBackend({ vocabulary, says, ...options });
  const keyOf = ({ tokens, offsets, after }: BlockSource) => JSON.stringify([tokens, offsets, after]);
  return {
    backend,
    model: new Engine({
      id: "fake".repeat(16),
      name: "kvsplice-135m",
      backend,
      precision: "float32",
      encoding: "exact",
      keyOf,
      language: spoken,
    }),
  };
}

/** A server with such a model, for tests of requests rather than of a model's answers. */
export async function startFakeServing({
  before,
  ...options
}: Partial<ServingOptions> & Pick<FakeOptions, "before"> = {}): Promise<
  Serving & { readonly model: Model; readonly backend: FakeBackend }
> {
  const { model, backend } = await wordyModel(before && { before });
  const serving = await startServing({ model, embedder: fakeEmbedder(), ...options });
  return { ...serving, model, backend };
}
