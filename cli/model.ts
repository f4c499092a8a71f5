import { loadModel, type Model, type Precision } from "../engine/index.js";

export type ModelOptions = { readonly model?: string; readonly precision?: Precision | undefined };

/** Loads the model for one command and closes it afterwards. */
export async function withModel<T>({ model: path, precision }: ModelOptions, use: (model: Model) => Promise<T>): Promise<T> {
  const model = await loadModel({ ...(path !== undefined && { path }), ...(precision !== undefined && { precision }) });
  try {
    return await use(model);
  } finally {
    await model.close();
  }
}
