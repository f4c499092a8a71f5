export { KvspliceError, cancelledError, type ErrorCode } from "./error.js";
export { endOf, isBlockPiece, positionsOf, tokensOf, withoutCache } from "./plan.js";
export type { BlockKey, BlockPiece, BlockSource, FreshPiece, Piece, Plan } from "./plan.js";
export { PlanWriter } from "./plan-writer.js";
export { keptRuns, type Range } from "./ranges.js";
export type { ChatTemplate, Frame, Role, ThoughtTags } from "./chat-template.js";
export { Pace } from "./pace.js";
export { encodeWithin, type Reading, type ReadOptions, type Tokenizer } from "./tokenizer.js";
