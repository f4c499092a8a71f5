import { Tensor } from "../../../runtime/index.js";

/** A tensor as it is sent from thread to thread. */
export type TensorData = Pick<Tensor, "type" | "data" | "dims">;

/** The tensors as data, and the memory that can be moved with them. */
export function dataOf(tensors: Readonly<Record<string, Tensor>>): { data: Record<string, TensorData>; memory: ArrayBuffer[] } {
  const data: Record<string, TensorData> = {};
  const memory: ArrayBuffer[] = [];
  for (const [name, { type, data: values, dims }] of Object.entries(tensors)) {
    data[name] = { type, data: values, dims };
    memory.push((values as Float32Array).buffer as ArrayBuffer);
  }
  return { data, memory };
}

export function tensorsOf(data: Readonly<Record<string, TensorData>>): Record<string, Tensor> {
  return Object.fromEntries(Object.entries(data).map(([name, { type, data: values, dims }]) => [name, new Tensor(type, values, dims)]));
}
