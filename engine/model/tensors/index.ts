export { dequantize } from "./dequantize.js";
export { formOf, keepsGroups, pack, type Form, type Ordered, type Packed, type PackedForm } from "./pack.js";
export { ENCODINGS, encodingOf } from "./table.js";
export type { CodeEncoding, FloatEncoding, Encoding } from "./encoding.js";
