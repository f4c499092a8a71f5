/**
 * A device that is lost or out of memory may return zeros or NaN.
 * @throws if these values are such
 */
export function mustBeComputed(values: Float32Array): void {
  if (values.every(Number.isFinite) && values.some((value) => value !== 0)) return;
  throw new Error("The device returned no valid numbers.");
}

/**
 * @param sound 1 for each token whose numbers all were within float16's range
 * @throws if one is not: what was computed from it may look valid
 */
export function mustBeSound(sound: Float32Array): void {
  if (!sound.every((value) => value === 1)) throw new Error("The model's numbers are too large for float16.");
}
