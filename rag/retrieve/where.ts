import picomatch from "picomatch";

import { KvspliceError } from "../../plan/index.js";
import type { Fields, FieldValue } from "../fields.js";

/** What a field must be: a value, one of several, or within inclusive bounds. In a list, one value must match. */
export type Condition =
  | FieldValue
  | readonly FieldValue[]
  | { readonly from?: string | number; readonly to?: string | number; readonly not?: FieldValue | readonly FieldValue[] };

/**
 * Which chunks a question may find: those whose fields meet every condition. Besides a document's own fields there are
 * `title`, `page`, `date` (the document's own, or when its file was last written), and `path`, which takes the end of a path, a
 * folder, or a glob: `guides`, `setup.md`, `guides/*.md`.
 *
 *     { path: "guides", team: ["ops", "web"], date: { from: "2024-01-01" } }
 */
export type Where = Readonly<Record<string, Condition>>;

/** `KEY=VALUE`, with `!=`, `>=` or `<=` for the sign. */
const WRITTEN = /^([^=<>!]+?)\s*(!=|>=|<=|=)\s*(.+)$/s;

const SIGNS: Readonly<Record<string, "not" | "from" | "to">> = { "!=": "not", ">=": "from", "<=": "to" };

/**
 * Parses conditions from the command line: `team=ops`, `team=ops,web` (one of them), `team!=ops`, `date>=2024-01-01`.
 * @throws KvspliceError `bad_argument`
 */
export function parseWhere(texts: readonly string[]): Where {
  const where = new Map<string, Condition>();
  for (const text of texts) {
    const [, key, sign, value] = WRITTEN.exec(text.trim()) ?? [];
    if (key === undefined)
      throw new KvspliceError(
        "bad_argument",
        `"${text}" is not a condition. Write KEY=VALUE, such as team=ops, team=ops,web, team!=ops, date>=2024-01-01 or path=guides.`,
      );
    const known = where.get(key);
    const bounds = typeof known === "object" && !Array.isArray(known) ? known : {};
    if (known !== undefined && (sign === "=" || bounds !== known))
      throw new KvspliceError("bad_argument", `"${text}" is a second condition on ${key}. Separate several values with commas.`);
    const values = value!.split(",").map((each) => each.trim());
    const several = values.length === 1 ? values[0]! : values;
    where.set(key, sign === "=" ? several : { ...bounds, [SIGNS[sign!]!]: sign === "!=" ? several : value! });
  }
  return Object.fromEntries(where);
}

/** Whether a chunk with these fields meets the conditions. */
export function matcherOf(where: Where): (fields: Fields) => boolean {
  const tests = Object.entries(where).map(([name, condition]) => {
    const test = testOf(condition, name === "path" ? isPath : isEqual);
    return (fields: Fields) => {
      const value = Object.hasOwn(fields, name) ? fields[name] : undefined;
      return test(value === undefined ? [] : typeof value === "object" ? value : [value]);
    };
  });
  return (fields) => tests.every((test) => test(fields));
}

type Test = (values: readonly FieldValue[]) => boolean;
type Equality = (wanted: FieldValue) => (value: FieldValue) => boolean;

function testOf(condition: Condition, equality: Equality): Test {
  const oneOf = (wanted: FieldValue | readonly FieldValue[]): Test => {
    const tests = (typeof wanted === "object" ? wanted : [wanted]).map(equality);
    return (values) => values.some((value) => tests.some((test) => test(value)));
  };
  if (typeof condition !== "object" || Array.isArray(condition)) return oneOf(condition as FieldValue | readonly FieldValue[]);
  const { from, to, not } = condition as Exclude<Condition, FieldValue | readonly FieldValue[]>;
  const unwanted = not === undefined ? () => false : oneOf(not);
  if (from === undefined && to === undefined) return (values) => !unwanted(values);
  const isWithin = (value: FieldValue) =>
    (from === undefined || compare(value, from) >= 0) && (to === undefined || compare(value, to) <= 0);
  return (values) => values.some(isWithin) && !unwanted(values);
}

/** Commands have only texts, but documents may have `3` and `true` as a number and a boolean. */
const isEqual: Equality = (wanted) => (value) => value === wanted || String(value) === String(wanted);

const isPath: Equality = (wanted) => {
  const pattern = String(wanted)
    .replace(/^\.?\//, "")
    .replace(/\/$/, "");
  const matches = picomatch([`**/${pattern}`, `**/${pattern}/**`], { dot: true });
  return (value) => matches(String(value).replaceAll("\\", "/"));
};

/** As numbers if both are, or else as texts, so that dates with the year first sort by time; `to: "2024"` includes that whole year. */
function compare(value: FieldValue, bound: string | number): number {
  const numbers = [Number(value), Number(bound)] as const;
  if (typeof value !== "string" && !numbers.some(Number.isNaN)) return numbers[0] - numbers[1];
  const [text, limit] = [String(value), String(bound)];
  return text.startsWith(limit) ? 0 : text < limit ? -1 : 1;
}
