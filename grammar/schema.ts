import { z } from "zod";
import { KvspliceError } from "../plan/index.js";
import { withPatterns } from "./formats.js";

/** A JSON Schema, or a schema of zod 4. */
export type Schema = boolean | Readonly<Record<string, unknown>> | z.ZodType;

/**
 * One space after a comma and a colon, as models write JSON on one line, and no other white space: a small model that may
 * write more may write nothing else.
 */
const SPACING = { item_separator: ", ", key_separator: ": ", whitespace_flexible: false };

/**
 * A JSON Schema in the form that grammars take, with the white space of answers.
 * @throws KvspliceError `bad_argument` for anything that is not a schema
 */
export function schemaOf(schema: Schema): Readonly<Record<string, unknown>> {
  if (schema instanceof z.ZodType) return schemaOf(z.toJSONSchema(schema) as Readonly<Record<string, unknown>>);
  if (schema === true) return schemaOf({});
  if (schema === false) throw new KvspliceError("bad_argument", "The schema is false: no answer is valid.");
  if (typeof schema === "object" && schema !== null && !Array.isArray(schema))
    return { ...(withPatterns(schema) as typeof schema), "x-guidance": SPACING };
  throw new KvspliceError("bad_argument", "The schema is neither a JSON Schema (an object, true or false) nor a zod 4 schema.");
}
