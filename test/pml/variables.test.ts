import { expect, describe as suite, test } from "vitest";
import {
  checkPrompt,
  checkUsage,
  compilePrompt,
  compileWithin,
  describe,
  module,
  parameter,
  parsePrompt,
  prompt,
  schema,
  union,
  user,
  valueOf,
  variable,
  withData,
} from "../../pml/index.js";
import { compiledOf, layoutOf, piecesOf, schemaOf } from "../support/pml/compiling.js";
import { chat, wordTokenizer } from "../support/pml/words.js";

const ANSWER = "<|im_start|>assistant\n";
const textOf = (markup: string, include: string) =>
  compiledOf(layoutOf(markup), include)
    .segments.map(({ text }) => text)
    .join("")
    .replace(ANSWER, "");
const codesOf = (markup: string, include: string) =>
  checkPrompt(schemaOf(markup), parsePrompt(include).prompt!).diagnostics.map(({ code, message }) => `${code}: ${message}`);

suite("variables", () => {
  const SHOP = `<schema name="shop">
  <variable name="customer"/>
  <variable name="visits" type="number" default="1"/>
  <variable name="premium" type="boolean"/>
  Serve <parameter variable="customer" length="4"/> well.
  <module name="bill">To <parameter variable="customer" length="4"/>, visit <parameter variable="visits" length="2"/>.</module>
  <module name="gift" if="premium">Offer <parameter name="what" length="2" default="tea"/>.</module>
  <module name="plain" if="!premium">Offer nothing.</module>
</schema>`;

  test("one value is used in several places, each with its own positions; conditions include modules", () => {
    expect(textOf(SHOP, `<prompt schema="shop" customer="Ada L."><bill/>Go.</prompt>`)).toBe(
      "Serve Ada L. well.\nTo Ada L., visit 1.\nOffer nothing.\nGo.",
    );
    expect(textOf(SHOP, `<prompt schema="shop" customer="Ada" premium="true" visits="3"><bill/>Go.</prompt>`)).toBe(
      "Serve Ada well.\nTo Ada, visit 3.\nOffer tea.\nGo.",
    );
  });

  test("a value is computed with the prompt, wherever it is used", () => {
    const pieces = piecesOf(
      `<schema name="s"><variable name="n"/>Serve <parameter variable="n" length="2"/> well.</schema>`,
      `<prompt schema="s" n="Ada">Go.</prompt>`,
    );
    expect(pieces.slice(0, 2)).toEqual([
      ["block", { 0: "Serve", 3: " well." }],
      ["fresh", { 1: " Ada" }],
    ]);
  });

  test("a prompt may name a module with a condition to give it arguments; it is included only if the condition holds", () => {
    expect(textOf(SHOP, `<prompt schema="shop" customer="Ada" premium="true"><gift what="cake"/>Go.</prompt>`)).toContain("Offer cake.");
    expect(textOf(SHOP, `<prompt schema="shop" customer="Ada"><gift what="cake"/>Go.</prompt>`)).not.toContain("cake");
  });

  test("a condition asks whether there is a value, or which", () => {
    const tone = (condition: string, given: string) =>
      textOf(
        `<schema name="s"><variable name="tone" default=""/>A.<module name="m" if="${condition}"> B.</module></schema>`,
        `<prompt schema="s" ${given}> Go.</prompt>`,
      ).includes("B.");
    expect(
      ["tone", "!tone", "tone=formal", "tone!=formal"].map((condition) => [
        tone(condition, ""),
        tone(condition, `tone="formal"`),
        tone(condition, `tone="dry"`),
      ]),
    ).toEqual([
      [false, true, true],
      [true, false, false],
      [false, true, false],
      [true, false, true],
    ]);
  });

  test("conditions choose between a union's members", () => {
    const markup = `<schema name="s"><variable name="new" type="boolean"/><union><module name="a" if="new">Hello.</module><module name="b" if="!new">Again.</module></union></schema>`;
    expect(textOf(markup, `<prompt schema="s" new="true"> Go.</prompt>`)).toBe("Hello. Go.");
    expect(textOf(markup, `<prompt schema="s"> Go.</prompt>`)).toBe("Again. Go.");
    const both = markup.replace('if="!new"', 'if="new"');
    expect(codesOf(both, `<prompt schema="s" new="true">Go.</prompt>`)).toEqual([expect.stringContaining("union-conflict")]);
  });

  test.for([
    [
      `<prompt schema="shop">Go.</prompt>`,
      'missing-argument: the prompt gives no value for `customer`; write `<prompt schema="shop" customer="...">`',
    ],
    [
      `<prompt schema="shop" custmer="A" customer="B">Go.</prompt>`,
      "unknown-variable: no variable `custmer` in `shop`; did you mean `customer`?",
    ],
    [
      `<prompt schema="shop" customer="B" visits="many">Go.</prompt>`,
      "bad-value: the value of `visits` is `many`; it takes a number, as in `3` or `0.5`",
    ],
    [
      `<prompt schema="shop" customer="B" premium="yes">Go.</prompt>`,
      "bad-value: the value of `premium` is `yes`; it takes `true` or `false`",
    ],
  ] as const)("reports wrong values in a prompt: %s", ([include, message]) => {
    expect(codesOf(SHOP, include)).toEqual([message]);
  });

  test.for([
    [`<module name="m" if="premum">A</module>`, /unknown-variable.*|no variable `premum`; did you mean `premium`\?/],
    [`<module name="m"><parameter variable="who" length="2"/></module>`, /no variable `who`; declare it with `<variable name="who"\/>`/],
    [`<module name="m"><parameter variable="premium" length="2"/></module>`, /is true or false, not text/],
    [`<module name="m" if="premium=yes">A</module>`, /compares `premium` with `yes`; it takes `true` or `false`/],
    [`<module name="m" if="a b">A</module>`, /`if` is `a b`; it takes a variable, as in/],
    [`<module name="premium">A</module>`, /the schema has `premium` twice/],
    [`<module name="m"><parameter variable="premium" name="x" length="2"/></module>`, /a parameter with `variable` takes no `name`/],
    [`<variable name="n" type="number" default="x"/>`, /the default of variable `n` is `x`; it takes a number/],
    [
      `<module name="m"><parameter name="n" type="number" default="x" length="1"/></module>`,
      /the default of parameter `n` is `x`; it takes a number/,
    ],
    [`<module name="m"><parameter length="1"/></module>`, /needs the attribute `name` or `variable`/],
    [
      `<union default="c"><module name="a">A</module><module name="b">B</module></union>`,
      /the default of this union is `c`, which is not one of its members/,
    ],
  ] as const)("reports wrong declarations in a schema: %s", ([content, message]) => {
    expect(() => schemaOf(`<schema name="s"><variable name="premium" type="boolean"/>${content}</schema>`)).toThrow(message);
  });

  test("a value that is too long for its place is reported at the prompt's attribute", () => {
    const { diagnostics } = compilePrompt(layoutOf(SHOP), parsePrompt(`<prompt schema="shop" customer="a b c d e">Go.</prompt>`).prompt!);
    expect(diagnostics[0]).toMatchObject({
      code: "argument-too-long",
      message: expect.stringContaining("the value `customer` of `shop` is 5 tokens long"),
      place: { column: 33 },
    });
  });
});

suite("repeated modules", () => {
  const SHOTS = `<schema name="shots">
  Label each.
  <module name="example" repeat="3"><user><parameter name="text" length="4"/></user><assistant><parameter name="label" length="1"/></assistant></module>
</schema>`;

  test("each repetition's positions follow the previous one's; those that a prompt leaves out stay free", () => {
    const given = `<prompt schema="shots"><example text="so good" label="yes"/><example text="so bad" label="no"/><user>fine</user></prompt>`;
    const layout = layoutOf(SHOTS);
    const { segments, modules, plan } = compiledOf(layout, given);
    expect(modules).toEqual(["example", "example#2"]);
    const places = segments.filter(({ from }) => from.kind === "argument").map(({ text, at }) => [text, at]);
    const length = layout.root.parts.flatMap((part) => (part.kind === "module" ? [part.module.length] : []));
    expect(length).toHaveLength(3);
    expect(places).toEqual([
      // only in the first does control text begin the dialogue: `bos`; then 3 tokens open a message and 2 close one
      ["so good", 3 + 4],
      ["yes", 3 + 4 + 4 + 2 + 3],
      ["so bad", 3 + length[0]! + 3],
      ["no", 3 + length[0]! + 3 + 4 + 2 + 3],
    ]);
    expect(new Set(plan.pieces.map(({ at }) => at)).size).toBe(plan.pieces.length);
    expect(segments.find(({ from }) => from.kind === "prompt")?.at).toBe(layout.length);
  });

  test.for(["none", "before", "all"])("the text that all repetitions share is one block, context=%s", (context) => {
    const layout = layoutOf(
      `<schema name="s" context="${context}">Start. <module name="m" repeat="9">Rule: <parameter name="p" length="2"/>.</module></schema>`,
    );
    const [, first, second] = compiledOf(layout, `<prompt schema="s"><m p="a"/><m p="b"/>Go.</prompt>`).plan.pieces.filter(
      (piece) => "block" in piece,
    );
    expect(first?.block).toEqual(second?.block);
  });

  test("too many inclusions are reported once", () => {
    const given = `<prompt schema="shots">${`<example text="a" label="b"/>`.repeat(5)}<user>x</user></prompt>`;
    expect(codesOf(SHOTS, given)).toEqual(["included-twice: module `example` is included more times than its `repeat` of 3 allows"]);
  });

  test("a scaffold cannot name it", () => {
    expect(() =>
      schemaOf(
        `<schema name="s"><module name="a" repeat="2">A</module><module name="b">B</module><scaffold name="t" modules="a b"/></schema>`,
      ),
    ).toThrow(/`a` has `repeat`/);
  });

  test("each repetition has its own inner modules, and conditions apply in each", () => {
    const markup = `<schema name="s"><variable name="v" type="boolean"/><module name="m" repeat="2">M<module name="n">N</module><module name="o" if="v">O</module></module></schema>`;
    expect(compiledOf(layoutOf(markup), `<prompt schema="s" v="true"><m/><m><n/></m>Go.</prompt>`).modules).toEqual([
      "m",
      "m/o",
      "m#2",
      "m#2/n",
      "m#2/o",
    ]);
  });

  test("a description shows the repetitions that a prompt includes, or else one with its `repeat`", () => {
    const layout = layoutOf(SHOTS);
    expect(describe(layout).children).toMatchObject([{ name: "example", repeat: 3 }]);
    const compiled = compiledOf(
      layout,
      `<prompt schema="shots"><example text="a" label="b"/><example text="c" label="d"/><user>x</user></prompt>`,
    );
    expect(describe(layout, compiled).children.map(({ included }) => included)).toEqual([true, true]);
  });

  test("unused modules are reported by their own name", () => {
    const used = parsePrompt(`<prompt schema="shots"><example text="a" label="b"/><user>x</user></prompt>`).prompt!;
    expect(checkUsage(schemaOf(SHOTS), [used])).toEqual([]);
  });

  test("under a budget the last repetition is left out first, without a gap", () => {
    const markup = SHOTS.replace('repeat="3"', 'repeat="3" priority="1"');
    const options = { tokenizer: wordTokenizer(), chat };
    const given = parsePrompt(
      `<prompt schema="shots">${["a", "b", "c"].map((text) => `<example text="${text}" label="x"/>`).join("")}<user>Go.</user></prompt>`,
    ).prompt!;
    const layout = layoutOf(schemaOf(markup), options);
    const whole = compilePrompt(layout, given).compiled!;
    const last = layout.root.parts.flatMap((part) => (part.kind === "module" ? [part.module] : [])).at(-1)!;
    const { compiled, diagnostics } = compileWithin(schemaOf(markup), given, whole.cachedTokens + whole.computedTokens - 1, options);
    expect(diagnostics).toMatchObject([{ code: "module-left-out", message: expect.stringContaining("`example#3`") }]);
    expect(compiled?.modules).toEqual(["example", "example#2"]);
    expect(compiled?.segments.find(({ from }) => from.kind === "prompt")?.at).toBe(layout.length - last.length);
  });
});

suite("a program's values", () => {
  const markup = schemaOf(`<schema name="s"><variable name="who"/><variable name="new" type="boolean"/>
  <module name="tool" repeat="4">Tool <parameter name="name" length="2"/> costs <parameter name="price" length="2" type="number" default="0"/>.</module>
  <module name="hello" if="new">Hello <parameter variable="who" length="2"/>.</module>
</schema>`);
  const given = prompt("s", {}, user("Go."));

  test("a list repeats a module, and variables are filled according to their types", () => {
    const { prompt: filled, diagnostics } = withData(markup, given, {
      who: "Ada",
      new: true,
      tool: [{ name: "mail", price: 3 }, { name: "rooms" }],
    });
    expect(diagnostics).toEqual([]);
    const { compiled } = compilePrompt(layoutOf(markup), filled);
    expect(compiled?.segments.map(({ text }) => text).join("")).toContain("Tool mail costs 3.\nTool rooms costs 0.\nHello Ada.");
  });

  test("a list replaces the prompt's inclusions; false entries are dropped", () => {
    const written = prompt("s", { who: "A", tool: { name: "old" } }, user("Go."));
    const { prompt: filled } = withData(markup, written, { tool: [{ name: "a" }, false, { name: "b" }] });
    expect(checkPrompt(markup, filled).included.size).toBe(2);
  });

  test("a name that the schema does not have is reported like one in the prompt", () => {
    for (const value of [[], true, { a: 1 }, "text"]) {
      const { prompt: filled } = withData(markup, given, { who: "Ada", toool: value });
      expect(checkPrompt(markup, filled).diagnostics.filter(({ severity }) => severity === "error")).toMatchObject([
        { code: "unknown-module", message: expect.stringContaining("did you mean `tool`?") },
      ]);
    }
  });

  test.for([
    [{ who: true }, "the value of variable `who` is true; it takes text or a number"],
    [{ new: "yes" }, 'the value of variable `new` is "yes"; it takes true or false'],
    [{ tool: [{ name: "a", price: "much" }] }, 'the value of `tool/price` is "much"; it takes a number'],
    [{ hello: [{}] }, "the value of `hello` is [{}]; a module takes true, false, or an object of its arguments"],
    [{ tool: [3] }, "the value of `tool` is [3]; a module takes true, false, or an object of its arguments, or a list of these"],
  ] as const)("reports a wrong type: %j", ([data, message]) => {
    expect(withData(markup, given, data).diagnostics).toMatchObject([{ code: "bad-value", message }]);
  });
});

test("the builder's types know variables, lists and numbers", () => {
  const shop = schema(
    "shop",
    variable("who"),
    variable("new", { type: "boolean" }),
    module(
      "tool",
      { repeat: 3 },
      "Tool ",
      parameter("name", { length: 2 }),
      parameter("price", { length: 2, type: "number", default: "0" }),
    ),
    union(
      { default: "a" },
      module("a", { if: "new" }, "A"),
      module("b", { if: "!new", context: "before" }, "B ", valueOf("who", { length: 2 })),
    ),
  );
  const order = prompt(shop, { who: "Ada", new: false, tool: [{ name: "mail", price: 3 }, { name: "rooms" }] }, "Go.");
  expect(order.values).toEqual({ who: "Ada", new: "false" });
  expect(checkPrompt(shop, order)).toMatchObject({
    diagnostics: [],
    values: new Map([
      ["who", "Ada"],
      ["new", "false"],
    ]),
  });
  expect([...checkPrompt(shop, order).included.keys()]).toEqual(["tool", "tool#2", "b"]);
  // @ts-expect-error: `who` has no default
  prompt(shop, { tool: { name: "mail" } }, "Go.");
  // @ts-expect-error: a boolean is not text
  prompt(shop, { who: "Ada", new: "yes" }, "Go.");
  // @ts-expect-error: `b` is not repeated
  prompt(shop, { who: "Ada", b: [true] }, "Go.");
  // @ts-expect-error: `price` is a number or its text
  prompt(shop, { who: "Ada", tool: { name: "mail", price: true } }, "Go.");
});
