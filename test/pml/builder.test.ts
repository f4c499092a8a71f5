import { expect, expectTypeOf, describe as suite, test } from "vitest";
import { KvspliceError } from "../../plan/index.js";
import {
  assistant,
  comment,
  compilePrompt,
  document,
  importSchema,
  module,
  type Prompt,
  parameter,
  parsePrompt,
  parseSchema,
  prompt,
  type Schema,
  scaffold,
  schema,
  system,
  union,
  user,
} from "../../pml/index.js";
import { layoutOf } from "../support/pml/compiling.js";
import { placeless } from "../support/pml/trees.js";

const trip = schema(
  "trip",
  system("You are a travel guide."),
  module(
    "plan",
    "The traveller stays for ",
    parameter("days", { length: 6 }),
    " in ",
    parameter("season", { length: 2, default: "spring" }),
    ".",
    union(module("miami", "Miami is warm."), module("tokyo", "Tokyo is ", parameter("size", { length: 2 }))),
  ),
  user("Read: ", module("rules", { cache: false }, "No smoking.")),
);

suite("the builder", () => {
  test("makes the same tree as markup", () => {
    const { schema: parsed } = parseSchema(`<schema name="all" xml:space="default">
      <!-- note -->
      <system>Be <!-- very --> kind.</system>
      <module name="m" src="m.md" cache="false" xml:space="preserve"/>
      <union><module name="a"> 1 </module><module name="b">2</module></union>
      <module name="c">x <parameter name="p" length="3" default="y z"/> <parameter name="q" length="1"/></module>
      <scaffold name="ac" modules="a c"/>
      <import schema="more.pml"/>
      <document ref="d"/>
      <assistant open="true">Well</assistant>
    </schema>`);
    expect(placeless(parsed)).toEqual(
      schema(
        "all",
        { space: "default" },
        comment(" note "),
        system("Be ", comment(" very "), " kind."),
        module("m", { src: "m.md", cache: false, space: "preserve" }),
        union(module("a", " 1 \n"), module("b", "2\n")),
        module("c", "x ", parameter("p", { length: 3, default: "y z" }), " ", parameter("q", { length: 1 }), "\n"),
        scaffold("ac", ["a", "c"]),
        importSchema("more.pml"),
        document("d"),
        assistant({ open: true }, "Well"),
      ),
    );
    const { prompt: parsedPrompt } = parsePrompt(
      `<prompt schema="trip"><plan days="3"><miami/></plan><rules/>Hi <user>Why?</user></prompt>`,
    );
    expect(placeless(parsedPrompt)).toEqual(prompt(trip, { plan: { days: "3", miami: true }, rules: true }, "Hi", user("Why?")));
  });

  test("keeps text as it is", () => {
    const text = "\n  - one\n    - two\n\n```py\n\tx = 1  \n```\n";
    const layout = layoutOf(schema("s", module("m", text)));
    const { compiled } = compilePrompt(layout, prompt("s", { m: true }, user(text)));
    const own = compiled?.segments.filter(({ control }) => !control);
    expect(own?.map((segment) => segment.text)).toEqual([text, text]);
  });

  test("compiles like markup", () => {
    const layout = layoutOf(trip);
    const { compiled } = compilePrompt(layout, prompt(trip, { plan: { days: "three days", tokyo: { size: "big" } } }, user("Why?")));
    expect(compiled?.modules).toEqual(["plan", "plan/tokyo"]);
  });

  test("has types that know the names of modules and parameters", () => {
    const build = () => {
      prompt(trip, { plan: { days: "3" } });
      prompt(trip, { plan: { days: "3", season: "fall", miami: true } });
      prompt(trip, { plan: { days: "3", tokyo: { size: "big" } }, rules: true });
      prompt(trip, { rules: false }, user("?"));
      // @ts-expect-error: no module of this name
      prompt(trip, { plam: { days: "3" } });
      // @ts-expect-error: no module of this name in `plan`
      prompt(trip, { plan: { days: "3", toyko: true } });
      // @ts-expect-error: a module from another place
      prompt(trip, { miami: true });
      // @ts-expect-error: no parameter of this name
      prompt(trip, { plan: { days: "3", day: "4" } });
      // @ts-expect-error: an argument is missing
      prompt(trip, { plan: {} });
      // @ts-expect-error: `true` gives no argument
      prompt(trip, { plan: true });
      // @ts-expect-error: an argument is text
      prompt(trip, { plan: { days: 3 } });
      // @ts-expect-error: a module is not text
      prompt(trip, { rules: "all" });
      // @ts-expect-error: a module without parameters and modules takes nothing
      prompt(trip, { rules: { x: "1" } });
      // @ts-expect-error: a schema without modules has none to include
      prompt(schema("none", "text"), { x: true });
      // @ts-expect-error: a union contains modules
      union("text");
      // @ts-expect-error: a parameter needs its length
      parameter("p", {});
    };
    expectTypeOf(build).toBeFunction();
    expectTypeOf(trip).toExtend<Schema>();
    expectTypeOf(prompt(trip, {})).toEqualTypeOf<Prompt>();
  });

  test("leaves names to the check for a schema read from a file", () => {
    const read: Schema = trip;
    const { diagnostics } = compilePrompt(layoutOf(trip), prompt(read, { plam: { days: "3" } }));
    expect(diagnostics).toMatchObject([{ code: "unknown-module", message: "no module `plam` in `trip`; did you mean `plan`?" }]);
    expect(prompt("trip", {})).toEqual(prompt(trip, {}));
  });

  test.for([
    ["a character that XML does not allow", () => schema("s", "a\0b")],
    ["half of a surrogate pair", () => schema("s", "\ud83d")],
    ["a comment that would end too early", () => comment("a -- b")],
  ] as const)("refuses what markup cannot express: %s", ([, build]) => {
    expect(build).toThrow(KvspliceError);
    expect(build).toThrow(expect.objectContaining({ code: "bad_argument" }));
  });
});
