import { Tensor } from "../../../runtime/index.js";
import { memoryOf } from "../../../runtime/thread.js";

/** A tensor as it is sent from thread to thread. */
export type TensorData = Pick<Tensor, "type" | "data" | "dims">;

type ByName<T> = Readonly<Record<string, T>>;

export function dataOf(tensors: ByName<Tensor>): ByName<TensorData> {
  return Object.fromEntries(Object.entries(tensors).map(([name, { type, data, dims }]) => [name, { type, data, dims }]));
}

export function tensorsOf(sent: ByName<TensorData>): ByName<Tensor> {
  return Object.fromEntries(Object.entries(sent).map(([name, { type, data, dims }]) => [name, new Tensor(type, data, dims)]));
}

/** The memory of tensors of numbers, to be moved along with them. */
export function memoryOfTensors(sent: ByName<TensorData>): ArrayBuffer[] {
  return memoryOf(Object.values(sent).map(({ data }) => data as Exclude<Tensor["data"], readonly string[]>));
}
