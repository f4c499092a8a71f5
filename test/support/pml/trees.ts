import fc from "fast-check";
import {
  assistant,
  comment,
  document,
  type Inclusion,
  importSchema,
  type Module,
  module,
  type Prompt,
  type PromptMessage,
  parameter,
  prompt,
  type Schema,
  type SchemaNode,
  scaffold,
  schema,
  system,
  union,
  user,
  valueOf,
  variable,
} from "../../../pml/index.js";

/** Trees of any shape that the grammar allows, valid or not by the other rules. */

type Child = string | SchemaNode;

const name = fc.stringMatching(/^[a-cA-Cé_][a-c1-3_.-]{0,3}$/);
const text = fc.string({
  unit: fc.constantFrom(..."ab .\n\n\n\t<>&\"'é\u00a0]\r-", "]]>", "  ", "&amp;", "😀", "word ", "\n  "),
  maxLength: 12,
});
const space = fc.constantFrom(
  {},
  {},
  {},
  { space: "preserve" } as const,
  { space: "default" } as const,
  { wrap: "soft" } as const,
  { wrap: "hard" } as const,
);
const remark = fc.stringMatching(/^[a-z <&\n]{0,8}$/).map(comment);
const role = fc.constantFrom(system, user, assistant);
const reference = text.map(document);

const maybe = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });
/** The options that were drawn. */
const given = <Options extends object>(options: Options) =>
  Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as {
    [Key in keyof Options]: NonNullable<Options[Key]>;
  };
const context = fc.constantFrom("none", "before", "all" as const);
const length = fc.integer({ min: 1, max: 9 });
const condition = fc.constantFrom("v", "!v", "v=a <b>", 'v!="', "v=");

const parameterOf = fc
  .record({ name, length, default: maybe(text), placeholder: maybe(text), type: fc.constantFrom("text", "number" as const) })
  .map(({ name, ...options }): SchemaNode => parameter(name, given(options)));
const valueIn = fc
  .record({ name, length, placeholder: maybe(text) })
  .map(({ name, ...options }): SchemaNode => valueOf(name, given(options)));
const variableOf = fc
  .record({ name, type: fc.constantFrom("text", "number", "boolean" as const), default: maybe(text) })
  .map(({ name, ...options }): Child => variable(name, given(options)));
const scaffoldOf = fc.tuple(name, fc.array(name, { maxLength: 3 })).map(([key, modules]): Child => scaffold(key, modules));
const importOf = text.map((file): Child => importSchema(file));

const { inSchema } = fc.letrec<{ module: Module; union: Child; message: Child; inSchema: Child[]; inModule: Child[]; inMessage: Child[] }>(
  (tie) => {
    const anywhere = [text, remark, reference, scaffoldOf, importOf, valueIn, tie("module"), tie("union")] as const;
    const content = (...nodes: fc.Arbitrary<Child>[]) => fc.array(fc.oneof({ depthSize: "small" }, ...nodes), { maxLength: 5 });
    return {
      module: fc
        .tuple(
          name,
          fc.record({
            cache: fc.boolean(),
            src: maybe(text),
            priority: maybe(length),
            context: maybe(context),
            repeat: maybe(length),
            if: maybe(condition),
          }),
          space,
          tie("inModule"),
        )
        .map(([key, options, spaced, children]): Module => module(key, { ...given(options), ...spaced }, ...children)),
      union: fc
        .tuple(maybe(name), fc.array(fc.oneof(tie("module"), remark), { maxLength: 3 }))
        .map(([seen, members]) => (seen === undefined ? union(...members) : union({ default: seen }, ...members))),
      message: fc
        .tuple(role, fc.boolean(), space, tie("inMessage"))
        .map(([build, open, spaced, children]) => build({ open, ...spaced }, ...children) as SchemaNode),
      inSchema: content(...anywhere, tie("message"), variableOf),
      inModule: content(...anywhere, tie("message"), parameterOf),
      inMessage: content(...anywhere, parameterOf),
    };
  },
);

export const anySchema: fc.Arbitrary<Schema> = fc
  .tuple(name, maybe(context), space, inSchema)
  .map(([key, sees, spaced, children]) => schema(key, { ...(sees && { context: sees }), ...spaced }, ...children));

type Inclusions = { readonly [name: string]: Inclusion };
const { inclusions } = fc.letrec<{ inclusions: Inclusions }>((tie) => ({
  inclusions: fc.dictionary(name, fc.oneof({ depthSize: "small" }, fc.constant(true), text, tie("inclusions")), { maxKeys: 3 }),
}));
const words = fc.oneof(text, remark, reference);
const message = fc
  .tuple(role, fc.boolean(), space, fc.array(words, { maxLength: 4 }))
  .map(([build, open, spaced, children]) => build({ open, ...spaced }, ...children) as PromptMessage);

export const anyPrompt: fc.Arbitrary<Prompt> = fc
  .tuple(
    name,
    fc.dictionary(name, fc.oneof(fc.constant(true), inclusions, text, fc.array(inclusions, { minLength: 1, maxLength: 2 })), {
      maxKeys: 3,
    }),
    space,
    fc.array(fc.oneof(words, message), { maxLength: 4 }),
  )
  .map(([key, includes, spaced, rest]) => prompt(key, includes, spaced, ...rest));

const ink = fc.constantFrom(
  "\n",
  "\n",
  "\n  ",
  "\n    ",
  "\n\n",
  " ",
  "\t",
  "a",
  "b c",
  "&#10;",
  "&lt;",
  "<![CDATA[x]]>",
  "<![CDATA[y\n]]>",
  "<!-- c -->",
);
const blank = fc.constantFrom("", "\n", "\n  ");

/** Content of a schema in markup, with whitespace everywhere. */
const { inMarkup } = fc.letrec<{ inMarkup: string; element: string }>((tie) => {
  const around = (tag: string) =>
    fc.tuple(blank, tie("inMarkup")).map(([space, content]) => `<${tag}>${space}${content}${space}</${tag.split(" ")[0]}>`);
  return {
    element: fc.oneof(
      around(`module name="m"`),
      around(`module name="m" wrap="soft"`),
      around("user"),
      fc
        .tuple(blank, around(`module name="m"`), around(`module name="n"`))
        .map(([space, ...members]) => `<union>${space}${members.join(space)}${space}</union>`),
      fc.constantFrom(
        `<parameter name="p" length="2"/>`,
        `<document ref="d"/>`,
        `<module name="m" src="x"/>`,
        `<scaffold name="s" modules="a b"/>`,
      ),
    ),
    inMarkup: fc.array(fc.oneof({ depthSize: "small" }, ink, ink, tie("element")), { maxLength: 7 }).map((parts) => parts.join("")),
  };
});
export const anyMarkup: fc.Arbitrary<string> = inMarkup;

/** A tree without the places of its nodes and the soft wraps of its texts: what markup and builder have in common. */
export function placeless(tree: unknown): unknown {
  if (Array.isArray(tree)) return tree.map(placeless);
  if (typeof tree !== "object" || tree === null) return tree;
  return Object.fromEntries(
    Object.entries(tree).flatMap(([key, value]) => (key === "origin" || key === "written" ? [] : [[key, placeless(value)]])),
  );
}
