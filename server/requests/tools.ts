import { z } from "zod";
import type { ObjectOf } from "./object.js";

const MAX_TOOLS = 128;
const MAX_DESCRIPTION = 10_000;

/** A tool's name, description and parameters. */
const described = {
  name: z.string().regex(/^[\w.-]{1,128}$/, "expected up to 128 letters, digits, dots, dashes and underscores"),
  description: z.string().max(MAX_DESCRIPTION).nullish(),
  parameters: z.record(z.string(), z.unknown()).nullish(),
  strict: z.boolean().nullish(),
};
const type = z.literal("function", { error: "only functions are supported" });
const words = z.enum(["none", "auto", "required"]);
const CHOICES = "expected none, auto, required, or an object that names a function";

export type ToolField = { readonly type: "function"; readonly function: z.output<z.ZodObject<typeof described>> };
export type ToolChoiceField = z.output<typeof words> | { readonly type: "function"; readonly function: { readonly name: string } };

/** Functions that a model may call (https://platform.openai.com/docs/guides/function-calling). */
export const toolFields = (object: ObjectOf) => ({
  tools: z
    .array(object({ type, function: object(described) }))
    .max(MAX_TOOLS)
    .nullish(),
  tool_choice: z.union([words, object({ type, function: object({ name: z.string() }) })], { error: CHOICES }).nullish(),
  parallel_tool_calls: z.boolean().nullish(),
});

/** The same for the Responses API, where a function's fields are in the tool itself. */
export const responseToolFields = (object: ObjectOf) => ({
  tools: z
    .array(object({ type, ...described }).transform(({ type, ...function_ }): ToolField => ({ type, function: function_ })))
    .max(MAX_TOOLS)
    .nullish(),
  tool_choice: z
    .union(
      [words, object({ type, name: z.string() }).transform(({ type, ...function_ }): ToolChoiceField => ({ type, function: function_ }))],
      { error: CHOICES },
    )
    .nullish(),
  parallel_tool_calls: z.boolean().nullish(),
});

/** `formatField` for the Responses API, where the schema's fields are in the format itself. */
export const textFormatField = (object: ObjectOf) =>
  z
    .discriminatedUnion(
      "type",
      [
        object({ type: z.literal("text") }),
        object({ type: z.literal("json_object") }),
        object({
          type: z.literal("json_schema"),
          name: z.string().nullish(),
          description: z.string().nullish(),
          schema: z.record(z.string(), z.unknown()),
          strict: z.boolean().nullish(),
        }),
      ],
      { error: "expected text, json_object or json_schema" },
    )
    .nullish()
    .transform((format) => (format?.type === "json_schema" ? { type: format.type, json_schema: { schema: format.schema } } : format));

/** The format of the answer's text (https://platform.openai.com/docs/guides/structured-outputs). */
export const formatField = (object: ObjectOf) =>
  z
    .discriminatedUnion(
      "type",
      [
        object({ type: z.literal("text") }),
        object({ type: z.literal("json_object") }),
        object({
          type: z.literal("json_schema"),
          json_schema: object({
            name: z.string().nullish(),
            description: z.string().nullish(),
            schema: z.record(z.string(), z.unknown()),
            strict: z.boolean().nullish(),
          }),
        }),
      ],
      { error: "expected text, json_object or json_schema" },
    )
    .nullish();
