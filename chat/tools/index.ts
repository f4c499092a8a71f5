export { type CallForm, type Framed, type Tool, type ToolCall, type ToolTurns, writeCalls, writeResults } from "../../plan/index.js";
export { type CallGrammarOptions, callGrammar, type ToolChoice } from "./call-grammar.js";
export { CallReader, type Read } from "./call-reader.js";
export { type ToolChat, toolForm, withTools } from "./catalogue.js";
export { type Said, spoken, type ToolForm } from "./spoken.js";
