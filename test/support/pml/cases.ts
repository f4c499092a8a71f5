import fc from "fast-check";
import {
  type Inclusion,
  type Module,
  module,
  type Prompt,
  parameter,
  prompt,
  type Schema,
  type SchemaNode,
  scaffold,
  schema,
  union,
  user,
} from "../../../pml/index.js";

/** Schemas that break no rule, each with a prompt for it: properties of every plan are tested on these. */
export type PlanCase = { readonly schema: Schema; readonly prompt: Prompt };

type Child = string | SchemaNode;
type Drawn =
  | { readonly kind: "text"; readonly words: number }
  | { readonly kind: "parameter"; readonly length: number; readonly given: number }
  | { readonly kind: "module"; readonly included: boolean; readonly cache: boolean; readonly content: readonly Drawn[] }
  | { readonly kind: "union"; readonly chosen: number; readonly members: readonly (readonly Drawn[])[] }
  | { readonly kind: "message"; readonly content: readonly Drawn[] };

const text = fc.record({ kind: fc.constant("text" as const), words: fc.integer({ min: 1, max: 4 }) });
const { content } = fc.letrec<{ content: Drawn[] }>((tie) => {
  const parameterOf = fc
    .record({
      kind: fc.constant("parameter" as const),
      length: fc.integer({ min: 1, max: 4 }),
      given: fc.double({ min: 0, max: 1, noNaN: true }),
    })
    .map(({ length, given, ...rest }) => ({ ...rest, length, given: Math.round(given * length) }));
  const moduleOf = fc.record({
    kind: fc.constant("module" as const),
    included: fc.boolean(),
    cache: fc.boolean(),
    content: tie("content"),
  });
  const members = fc.array(tie("content"), { minLength: 2, maxLength: 3 });
  const unionOf = fc.record({ kind: fc.constant("union" as const), chosen: fc.integer({ min: -1, max: 2 }), members });
  const messageOf = fc.record({ kind: fc.constant("message" as const), content: tie("content") });
  return { content: fc.array(fc.oneof({ depthSize: "small" }, text, parameterOf, moduleOf, unionOf, messageOf), { maxLength: 4 }) };
});

/** Builds both from one drawing; `words` are all different, so that a token identifies where it was written. */
export const anyCase: fc.Arbitrary<PlanCase> = fc
  .record({ content, question: fc.integer({ min: 1, max: 5 }) })
  .map(({ content, question }) => {
    let word = 0;
    let names = 0;
    const words = (count: number) => Array.from({ length: count }, () => `w${word++}`).join(" ");

    /** `level`: what is allowed here: parameters only within modules, messages not within messages. */
    const build = (drawn: readonly Drawn[], level: { readonly module: boolean; readonly message: boolean }) => {
      const children: Child[] = [];
      const inclusion: Record<string, Inclusion> = {};
      const addModule = (inner: readonly Drawn[], cache: boolean, included: boolean): Module => {
        const name = `m${names++}`;
        const built = build(inner, { ...level, module: true });
        if (included) inclusion[name] = built.inclusion;
        return module(name, { cache }, ...built.children);
      };
      for (const each of drawn) {
        if (each.kind === "text") children.push(words(each.words));
        else if (each.kind === "parameter" && level.module) {
          const name = `p${names++}`;
          inclusion[name] = words(each.given);
          children.push(" ", parameter(name, { length: each.length }), " ");
        } else if (each.kind === "module") children.push(addModule(each.content, each.cache, each.included));
        else if (each.kind === "union") {
          children.push(union(...each.members.map((member, i) => addModule(member, true, i === each.chosen))));
        } else if (each.kind === "message" && !level.message) {
          const built = build(each.content, { ...level, message: true });
          Object.assign(inclusion, built.inclusion);
          children.push(user(...built.children) as SchemaNode);
        }
      }
      return { children, inclusion };
    };

    const { children, inclusion } = build(content, { module: false, message: false });
    const cached = children.filter((child) => typeof child === "object" && child.kind === "module" && child.cache) as Module[];
    const together =
      cached.length < 2
        ? []
        : [
            scaffold(
              "together",
              cached.slice(0, 2).map(({ name }) => name),
            ),
          ];
    const tree: Schema = schema("s", ...children, ...together);
    return { schema: tree, prompt: prompt(tree, inclusion, user(words(question))) };
  });
