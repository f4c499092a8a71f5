/**
 * A device that is lost or out of memory may return zeros or NaN.
 * @throws if these values are such
 */
export function mustBeComputed(values: Float32Array): void {
  if (values.every(Number.isFinite) && values.some((value) => value !== 0)) return;
  throw new Error("The device returned no valid numbers.");
}
