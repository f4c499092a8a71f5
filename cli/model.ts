import { loadModel, type Activations, type Model, type Precision } from "../engine/index.js";

export type ModelOptions = { readonly model?: string; readonly precision?: Precision | undefined; readonly activations?: Activations };

/** Loads the model for one command and closes it afterwards. */
export async function withModel<T>({ model: path, precision, activations }: ModelOptions, use: (model: Model) => Promise<T>): Promise<T> {
  const model = await loadModel({ ...(path !== undefined && { path }), ...(precision !== undefined && { precision }), ...(activations !== undefined && { activations }) });
  try {
    return await use(model);
  } finally {
    await model.close();
  }
}
