/**
 * Patterns of formats that are narrower than llguidance's own, so that every validator accepts what is written: no leap
 * seconds, no 29 February, mail addresses only at a domain of letters, digits and dots, and no empty URIs.
 */
const DATE = "\\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|02-(?:0[1-9]|1\\d|2[0-8]))";
const TIME = "(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d{1,6})?(?:Z|[+-](?:0\\d|1[0-3]):[0-5]\\d)";
const PATH = "(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})";
const HOST = "[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?";
const PATTERNS: Readonly<Record<string, string>> = {
  date: `^${DATE}$`,
  time: `^${TIME}$`,
  "date-time": `^${DATE}T${TIME}$`,
  email: "^[A-Za-z0-9_+-]+(?:\\.[A-Za-z0-9_+-]+)*@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,20}[A-Za-z0-9])?\\.)+[A-Za-z]{2,8}$",
  uri: `^[A-Za-z][A-Za-z0-9+.-]*:(?://${HOST}(?::\\d{1,5})?(?:/${PATH}*)*|${PATH}+)(?:\\?(?:${PATH}|[/?])*)?(?:#(?:${PATH}|[/?])*)?$`,
};

/** Keywords whose values are not schemas. */
const VALUES = new Set(["const", "enum", "default", "examples"]);

/** A schema with patterns in place of these formats, wherever they occur in it. */
export function withPatterns(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(withPatterns);
  if (typeof schema !== "object" || schema === null) return schema;
  const { format, ...rest } = schema as Readonly<Record<string, unknown>>;
  const held = Object.fromEntries(Object.entries(rest).map(([key, value]) => [key, VALUES.has(key) ? value : withPatterns(value)]));
  if (format === undefined) return held;
  const pattern = typeof format === "string" && Object.hasOwn(PATTERNS, format) ? PATTERNS[format] : undefined;
  if (pattern === undefined) return { ...held, format: withPatterns(format) };
  if (!("pattern" in held) && !("allOf" in held)) return { ...held, pattern };
  const { allOf = [], ...others } = held;
  return { ...others, allOf: [...(allOf as unknown[]), { pattern }] };
}
