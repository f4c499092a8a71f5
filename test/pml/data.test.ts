import { expect, describe as suite, test } from "vitest";
import { checkPrompt, compilePrompt, type Data, parsePrompt, prompt, user, withData } from "../../pml/index.js";
import { layoutOf, schemaOf } from "../support/pml/compiling.js";

const schema = schemaOf(`<schema name="s">
  <module name="plan">For <parameter name="days" length="4"/>.<union><module name="a">A</module><module name="b">B <parameter name="n" length="1" default="x"/></module></union></module>
  <module name="other">O</module>
</schema>`);
const written = prompt("s", { plan: { days: "two", a: true } }, user("Why?"));

test("values work like the builder's inclusions: they fill arguments, include modules and leave modules out", () => {
  const { prompt: given, diagnostics } = withData(schema, written, { plan: { days: 3, a: false, b: { n: "<y>" } }, other: true });
  expect(diagnostics).toEqual([]);
  expect(given).toEqual(prompt("s", { plan: { days: "3", b: { n: "<y>" } }, other: true }, user("Why?")));
  expect(compilePrompt(layoutOf(schema), given).compiled?.modules).toEqual(["plan", "plan/b", "other"]);
});

test("no values change nothing", () => {
  expect(withData(schema, written, {}).prompt).toEqual(written);
});

test.for([
  [{ plan: { day: "3" } }, "unknown-argument"],
  [{ pln: true }, "unknown-module"],
  [{ plan: { b: true } }, "union-conflict"],
  [{ plan: { days: { x: 1 } } }, "bad-value"],
  [{ plan: { days: ["a"] } }, "bad-value"],
  [{ plan: "text" }, "bad-value"],
  [{ other: [1] }, "bad-value"],
] as const)("reports what the schema does not have: %j", ([data, code]) => {
  const { prompt: given, diagnostics } = withData(schema, written, data);
  expect([...diagnostics, ...checkPrompt(schema, given).diagnostics].map((each) => each.code)).toContain(code);
});

suite("problems with a program's values", () => {
  const shop = schemaOf(
    `<schema name="shop"><variable name="customer" default="x"/><variable name="count" type="number" default="1"/><module name="m">For <parameter variable="customer" length="2"/>: <parameter name="days" length="2"/></module></schema>`,
  );
  const { prompt: order } = parsePrompt(`<prompt schema="shop" customer="Ada" count="3"><m days="two"/>Go.</prompt>`);
  const problems = (data: Data) => {
    const { prompt: given, diagnostics } = withData(shop, order!, data);
    return [...diagnostics, ...compilePrompt(layoutOf(shop), given).diagnostics];
  };

  test("a wrong type is reported once", () => {
    expect(problems({ count: "many", m: { days: ["a"] } }).map(({ message }) => message)).toEqual([
      'the value of variable `count` is "many"; it takes a number',
      'the value of `m/days` is ["a"]; it takes text or a number',
    ]);
  });

  test("a wrong name may be meant for a variable", () => {
    expect(problems({ custmer: "Bob" })).toMatchObject([{ message: "no module `custmer` in `shop`; did you mean `customer`?" }]);
  });

  test("one that is too long is not shown at what the prompt has for it, but where its room is reserved", () => {
    const long = "one two three";
    const at = (text: string) => [{ code: "argument-too-long", place: { column: shop.origin!.source.text.indexOf(text) + 2 } }];
    expect(problems({ customer: long })).toMatchObject(at("<parameter variable"));
    expect(problems({ m: { days: long } })).toMatchObject(at("<parameter name"));
    expect(problems({ m: { days: "two" } })).toEqual([]);
  });
});
