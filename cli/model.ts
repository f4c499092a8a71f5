import { loadModel, type Model } from "../engine/index.js";

/** Loads the model for one command and closes it afterwards. */
export async function withModel<T>(path: string | undefined, use: (model: Model) => Promise<T>): Promise<T> {
  const model = await loadModel(path === undefined ? {} : { path });
  try {
    return await use(model);
  } finally {
    await model.close();
  }
}
