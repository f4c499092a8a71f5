/** One value of a field; a list has several. */
export type FieldValue = string | number | boolean;

/** A document's metadata, by name: `{ author: "Oda", tags: ["ships", "light"], date: "1871-10-01" }`. */
export type Fields = Readonly<Record<string, FieldValue | readonly FieldValue[]>>;

/** A longer string is text, not a field. */
const MOST_CHARACTERS = 1_000;

/** Maximum fields of a document, and maximum values of a list. */
const MOST_FIELDS = 64;

/**
 * The fields of a user's object: texts, numbers, booleans, dates, and lists of them. The fields of an inner object are
 * named with a dot, as in `author.name`; values that are too long or empty are left out.
 */
export function fieldsOf(value: object): Fields {
  return Object.fromEntries([...entriesOf(value, "")].slice(0, MOST_FIELDS));
}

function* entriesOf(value: object, before: string): Generator<[string, Fields[string]]> {
  for (const [key, inner] of Object.entries(value) as [string, unknown][]) {
    const name = before + key.trim();
    const single = valueOf(inner);
    if (single !== undefined) yield [name, single];
    else if (Array.isArray(inner)) {
      const values = inner
        .map(valueOf)
        .filter((each) => each !== undefined)
        .slice(0, MOST_FIELDS);
      if (values.length > 0) yield [name, values];
    } else if (typeof inner === "object" && inner !== null && before === "") yield* entriesOf(inner, `${name}.`);
  }
}

function valueOf(value: unknown): FieldValue | undefined {
  if (typeof value === "boolean" || (typeof value === "number" && Number.isFinite(value))) return value;
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? undefined : dateText(value);
  if (typeof value !== "string" || value.trim() === "" || value.length > MOST_CHARACTERS) return undefined;
  return value.trim();
}

/** `2024-05-01` at midnight, otherwise with the time: as texts they sort by time. */
export function dateText(date: Date): string {
  return date
    .toISOString()
    .replace(/T00:00:00\.000Z$/, "")
    .replace(/\.000Z$/, "Z");
}
