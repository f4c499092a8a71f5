import type { ParameterType, VariableType } from "./tree.js";

/** What the type expects, in words, if a text is not a value of it; undefined if it is. */
export function wrongValue(type: ParameterType | VariableType, value: string): string | undefined {
  switch (type) {
    case "text":
      return undefined;
    case "number":
      return /^-?\d+(\.\d+)?(e[+-]?\d+)?$/i.test(value) ? undefined : "it takes a number, as in `3` or `0.5`";
    case "boolean":
      return value === "true" || value === "false" ? undefined : "it takes `true` or `false`";
  }
}
