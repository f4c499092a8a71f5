import { z } from "zod";

/** Makes the object schemas of requests, which drop or refuse unknown fields. */
export type ObjectOf = typeof z.object;

/** Object schemas that refuse unknown fields if `strict`, and drop them otherwise. */
export function objectOf(strict: boolean): ObjectOf {
  return strict ? (z.strictObject as unknown as ObjectOf) : z.object;
}

/** Fields of a body that its schema does not know. */
export function unreadFields(body: unknown, schema: z.ZodType): readonly string[] {
  if (!(schema instanceof z.ZodObject) || typeof body !== "object" || body === null) return [];
  return Object.keys(body).filter((name) => !Object.hasOwn(schema.shape, name));
}
