import type { LoadOptions, Model } from "../../../engine/index.js";
import type { Embedder } from "../../../rag/index.js";

type Engine = typeof import("../../../engine/index.js");
type Loading = typeof import("../../../rag/embed/load.js");

/** Commands in this process share a model, which none of them closes. For `vi.mock`. */
export function withSharedModels(engine: Engine): Engine {
  const load = onceFor(({ onProgress: _, onIdentified: __, ...options }: LoadOptions) => engine.loadModel(options));
  return {
    ...engine,
    async loadModel({ onIdentified, ...options }: LoadOptions = {}) {
      const model = await load(options);
      await onIdentified?.(model);
      return Object.create(model, { close: { value: async () => undefined } }) as Model;
    },
    loadTokenizer: onceFor(engine.loadTokenizer),
  };
}

/** They share an embedder too. */
export function withSharedEmbedders(loading: Loading): Loading {
  const load = onceFor(loading.loadEmbedder);
  return {
    ...loading,
    loadEmbedder: async (options = {}) => Object.create(await load(options), { close: { value: async () => undefined } }) as Embedder,
  };
}

function onceFor<O extends object, T>(load: (options: O) => Promise<T>): (options?: O) => Promise<T> {
  const loaded = new Map<string, Promise<T>>();
  return (options = {} as O) => {
    const key = JSON.stringify(options);
    if (!loaded.has(key)) loaded.set(key, load(options));
    return loaded.get(key)!;
  };
}
