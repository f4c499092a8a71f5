export { dequantize } from "./dequantize.js";
export type { CodeEncoding, Encoding, FloatEncoding } from "./encoding.js";
export { type Form, formOf, keepsGroups, type Ordered, type Packed, type PackedForm, pack } from "./pack.js";
export { BYTE_GROUP, packBytes } from "./pack-bytes.js";
export { ENCODINGS, encodingOf } from "./table.js";
