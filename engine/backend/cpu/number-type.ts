/** The type of the numbers that layers multiply, sum and pass on. */
export type NumberType = "float32" | "float16";
