/** The type of the numbers that linear layers multiply and sum. */
export type ProductType = "float32" | "float16";
