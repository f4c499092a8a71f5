import { readFileSync } from "node:fs";
import { XMLParser } from "fast-xml-parser";
import { expect, describe as suite, test } from "vitest";
import { PROMPT_GRAMMAR, SCHEMA_GRAMMAR } from "../../pml/grammar.js";
import * as builder from "../../pml/index.js";
import { DIAGNOSTIC_CODES } from "../../pml/index.js";
import { compiledOf, layoutOf, schemaOf } from "../support/pml/compiling.js";
import { placeless } from "../support/pml/trees.js";
import { type ReadPiece, read } from "../support/pml/words.js";

const page = readFileSync(new URL("../../docs/pml.md", import.meta.url), "utf8");

type Example = { readonly language: string; readonly file: string; readonly content: string };
const examples = Array.from(
  page.matchAll(/^```(\w+) ?(\S*)\n(.*?)^```$/gms),
  ([, language = "", file = "", content = ""]): Example => ({ language, file, content }),
);
const files = Object.fromEntries(examples.filter(({ file }) => file !== "").map(({ file, content }) => [file, content]));

/** A plan in the form that the page shows. */
function shown(pieces: readonly ReadPiece[]): string {
  const texts = (texts: ReadPiece[1]) => Object.entries(texts).map(([position, text]) => `${position}: ${JSON.stringify(text)}`);
  return pieces.map(([kind, each]) => `${kind}  ${texts(each).join("  ")}\n`).join("");
}

function planOf(prompt: string): string {
  const name = /<prompt schema="(.*?)"/.exec(prompt)?.[1] ?? "";
  const layout = layoutOf(schemaOf(files[`${name}.pml`] ?? "", files));
  const { tokenizer } = layout.options;
  const documents = (ref: string) => ({
    tokens: tokenizer.encode(ref === "whales" ? "The whale is thirty metres long." : `Text of ${ref}.`),
  });
  return shown(read(compiledOf(layout, prompt, { documents }).plan, tokenizer));
}

suite("the documentation page", () => {
  const prompts = examples.flatMap((example, i) => (example.content.startsWith("<prompt") ? [{ example, plan: examples[i + 1] }] : []));

  test.for(prompts)("the plan of $example.content", ({ example, plan }) => {
    expect(plan).toMatchObject({ language: "plan", content: planOf(example.content) });
  });

  test("every schema is valid, and a prompt uses it", () => {
    const schemas = examples.filter(({ content }) => content.startsWith("<schema"));
    for (const { content } of schemas) expect(() => schemaOf(content, files)).not.toThrow();
    const used = prompts.map(({ example }) => /schema="(.*?)"/.exec(example.content)?.[1]);
    expect(schemas.map(({ file }) => file.replace(".pml", "")).filter((name) => name !== "tools" && !used.includes(name))).toEqual([]);
  });

  test("every element has a section with its attributes and an example", () => {
    for (const [element, rule] of [...Object.entries(SCHEMA_GRAMMAR), ...Object.entries(PROMPT_GRAMMAR)]) {
      const section = page.split(/^##+ /m).find((each) => each.split("\n")[0]?.split(", ").includes(element)) ?? "";
      for (const attribute of Object.keys(rule.attributes))
        expect(section).toMatch(new RegExp(`^\\| (\`[a-z:]+\`, )*\`${attribute}\`[,| ]`, "m"));
      expect(examples.some(({ content }) => content.includes(`<${element}`))).toBe(true);
    }
  });

  test("every diagnostic is named", () => {
    expect(DIAGNOSTIC_CODES.filter((code) => !page.includes(`\`${code}\``))).toEqual([]);
  });

  test("the builder's example makes the trees of the first schema and prompt", () => {
    const code = examples.find(({ language }) => language === "ts")?.content ?? "";
    const [, names, body] = /^import \{ (.*) \} from "kvsplice\/pml";\n(.*)$/s.exec(code) ?? [];
    const { trip, packing } = new Function("builder", `const { ${names} } = builder; ${body}; return { trip, packing };`)(builder);
    expect(trip).toEqual(placeless(builder.parseSchema(files["trip.pml"] ?? "").schema));
    expect(packing).toEqual(placeless(builder.parsePrompt(files["packing.pml"] ?? "").prompt));
  });
});

suite("pml.xsd", () => {
  type Xsd = Readonly<Record<string, readonly Record<string, string>[]>>;
  const source = readFileSync(new URL("../../docs/pml.xsd", import.meta.url), "utf8");
  const isArray = (_name: string, _path: unknown, _leaf: boolean, isAttribute: boolean) => !isAttribute;
  const parser = new XMLParser({
    ignoreAttributes: false,
    attributeNamePrefix: "",
    transformTagName: (name) => name.replace("xs:", ""),
    isArray,
  });
  const [xsd] = parser.parse(source).schema;
  const types = new Map<string, { attribute?: Xsd[string]; choice?: readonly Xsd[]; mixed?: string }>(
    xsd.complexType.map((type: { name: string }) => [type.name, type]),
  );

  const said = (typeName: string) => {
    const { attribute = [], choice, mixed } = types.get(typeName) ?? {};
    return {
      attributes: Object.fromEntries(attribute.map(({ name, ref, use }) => [name ?? ref, use === "required"])),
      children: choice?.[0]?.["element"]?.map(({ name }) => name) ?? [],
      text: mixed === "true",
    };
  };
  const meant = (rule: (typeof SCHEMA_GRAMMAR)["schema"]) => ({
    attributes: Object.fromEntries(Object.entries(rule?.attributes ?? {}).map(([name, { required = false }]) => [name, required])),
    children: rule?.children,
    text: rule?.text,
  });

  test.for(Object.entries(SCHEMA_GRAMMAR))("agrees with the parser on <%s> in a schema", ([element, rule]) => {
    const type = ["system", "user", "assistant"].includes(element) ? "message" : element;
    expect(said(type)).toEqual(meant(rule));
  });

  test.for(Object.entries(PROMPT_GRAMMAR))("agrees with the parser on <%s> in a prompt", ([element, rule]) => {
    const globals: { name: string; type: string }[] = xsd.element;
    const type = globals.find(({ name }) => name === element)?.type ?? "";
    // a prompt's own children are open, since they are names of modules
    const { children, ...rest } = meant(rule);
    expect(said(type)).toEqual(element === "prompt" ? { ...rest, children: [] } : { ...rest, children });
  });
});
