import { z } from "zod";
import type { ObjectOf } from "./object.js";

const MOST_CONDITIONS = 32;
const MOST_VALUES = 256;

const value = z.union([z.string(), z.number(), z.boolean()]);
const values = z.union([value, z.array(value).min(1).max(MOST_VALUES)]);
const bound = z.union([z.string(), z.number()]).optional();

/** Conditions on the fields of a corpus's documents: `Where` of kvsplice/rag. Unknown bounds are refused, or they would find too much. */
export const whereField = z
  .record(
    z.string().min(1),
    z.union([values, z.strictObject({ from: bound, to: bound, not: values.optional() })], {
      error: "expected a value, a list of values, or an object with from, to and not",
    }),
  )
  .refine((conditions) => Object.keys(conditions).length <= MOST_CONDITIONS, `expected at most ${MOST_CONDITIONS} conditions`)
  .nullish();

/** Which documents of a corpus are searched for a question. */
export const corpusObject = (object: ObjectOf, mostDocuments: number) =>
  object({
    name: z.string().nullish(),
    documents: z.int().min(1).max(mostDocuments).nullish(),
    where: whereField,
    floor: z.union([z.number().min(0).max(1), z.literal(false)], { error: "expected a number from 0 to 1, or false" }).nullish(),
  });
