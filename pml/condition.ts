/** The condition in a module's `if`: `premium`, `!premium`, `tone=formal`, `tone!=formal`. */
export type Condition = {
  readonly variable: string;
  /** The value to compare with; absent if the condition only asks whether there is one. */
  readonly value?: string;
  readonly negated: boolean;
};

/** Undefined if the text is not a condition. */
export function conditionOf(text: string): Condition | undefined {
  const [, not, variable = "", unequal, value] = /^(!)?([^\s!=]+)(?:(!)?=(.*))?$/s.exec(text) ?? [];
  if (variable === "" || (not && value !== undefined)) return undefined;
  return { variable, ...(value !== undefined && { value }), negated: not !== undefined || unequal !== undefined };
}

/** `false` and the empty text count as no value. */
export function holds({ value: wanted, negated }: Condition, value: string): boolean {
  const found = wanted === undefined ? value !== "" && value !== "false" : value === wanted;
  return found !== negated;
}
