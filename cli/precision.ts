import { Option } from "commander";
import { DEFAULT_PRECISION, PRECISIONS } from "../engine/index.js";

export function precisionOption(): Option {
  return new Option("--precision <name>", `how KV states are kept; a corpus keeps to its first (default: ${DEFAULT_PRECISION})`).choices(PRECISIONS);
}
