/** How activations enter the linear layers: quantised to 8 bits (fast), or as they are (exact). */
export type Activations = "int8" | "float32";

/** All of them, with the default first. */
export const ACTIVATIONS: readonly Activations[] = ["int8", "float32"];

/** What `loadModel` uses by default. */
export const DEFAULT_ACTIVATIONS: Activations = "int8";
