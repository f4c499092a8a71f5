import { expect, test } from "vitest";
import { checkPrompt, compilePrompt, prompt, user, withData } from "../../pml/index.js";
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
