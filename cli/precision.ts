import { Option } from "commander";
import { DEFAULT_PRECISION, PRECISIONS } from "../engine/index.js";

export function precisionOption(): Option {
  return new Option(
    "--precision <name>",
    `precision of stored KV states; fixed when a corpus is created (default: ${DEFAULT_PRECISION})`,
  ).choices(PRECISIONS);
}
