import { expect, describe as suite, test } from "vitest";
import { isBlockPiece } from "../../plan/index.js";
import { blocksOf, compilePrompt, describe, layoutSchema, parsePrompt, prompt, renderPrompt } from "../../pml/index.js";
import { compiledOf, layoutOf, piecesOf, schemaOf } from "../support/pml/compiling.js";
import { chat, wordTokenizer } from "../support/pml/words.js";

/** For each cached block of a prompt: its own text, what it saw before it, and other text that it saw within it. */
function sightsOf(markup: string, include: string) {
  const layout = layoutOf(markup);
  const { decode } = layout.options.tokenizer;
  return compiledOf(layout, include)
    .plan.pieces.filter(isBlockPiece)
    .map(({ block: { tokens, after }, omit = [] }) => {
      const isOmitted = (i: number) => omit.some(([start, end]) => start <= i && i < end);
      return {
        own: decode(tokens.filter((_, i) => !isOmitted(i))),
        ...(after && { after: decode(after) }),
        ...(omit.length > 0 && { within: decode(tokens.filter((_, i) => isOmitted(i))) }),
      };
    });
}

const TRIP = (context: string) => `<schema name="s" ${context}>
  Start.
  <module name="a">Text of a.</module>
  Between.
  <module name="b">Text of b. <module name="c">Inner c.</module> End of b.</module>
</schema>`;
const ALL = `<prompt schema="s"><a/><b><c/></b>Go.</prompt>`;
const START = "Start.\nBetween.\n";

suite("what a module's block sees", () => {
  test("none: only itself", () => {
    expect(sightsOf(TRIP('context="none"'), ALL)).toEqual([
      { own: START },
      { own: "Text of a.\n" },
      { own: "Text of b. End of b.\n" },
      { own: " Inner c." },
    ]);
  });

  test("before: what precedes it in every prompt that includes it, including the enclosing module's text", () => {
    expect(sightsOf(TRIP('context="before"'), ALL)).toEqual([
      { own: START },
      { own: "Text of a.\n", after: "Start.\n" },
      { own: "Text of b. End of b.\n", after: START },
      { own: " Inner c.", after: `${START}Text of b.` },
    ]);
  });

  test("all: also the modules before it, whether the prompt includes them or not", () => {
    const seen = sightsOf(TRIP('context="all"'), `<prompt schema="s"><b><c/></b>Go.</prompt>`);
    expect(seen.slice(1)).toEqual([
      { own: "Text of b. End of b.\n", after: "Start.\nText of a.\nBetween.\n" },
      { own: " Inner c.", after: "Start.\nText of a.\nBetween.\nText of b." },
    ]);
  });

  test("a module sets it for itself and for the modules within it", () => {
    const markup = TRIP("").replace('name="b"', 'name="b" context="before"').replace('name="c"', 'name="c" context="none"');
    expect(sightsOf(markup, ALL).map(({ after }) => after)).toEqual([undefined, undefined, START, undefined]);
  });

  test("earlier messages are seen with their control text", () => {
    const markup = `<schema name="s" context="before"><system>Be kind.</system><user open="true"><module name="m">Hi.</module></user></schema>`;
    expect(sightsOf(markup, `<prompt schema="s"><m/>Go.</prompt>`)[1]?.after).toBe(
      "<|bos|><|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n",
    );
  });

  test("text computed with each prompt may differ between prompts, and is not seen", () => {
    const markup = `<schema name="s" context="all"><module name="day" cache="false">It rains. <module name="n">Note.</module></module><module name="m">Hi.</module></schema>`;
    expect(sightsOf(markup, `<prompt schema="s"><day><n/></day><m/>Go.</prompt>`)).toEqual([
      { own: " Note." },
      { own: "Hi.", after: " Note." },
    ]);
  });

  test("equal text that saw the same is one block; what it saw is part of its source", () => {
    const tokenizer = wordTokenizer();
    const two = (first: string) =>
      blocksOf(layoutOf(`<schema name="s" context="before">${first}<module name="m">Hi.</module></schema>`, { tokenizer })).at(-1);
    expect(two("Be kind. ")).toEqual(two("Be kind. "));
    expect(two("Be kind. ")).not.toEqual(two("Be brief. "));
  });

  test("a scaffold's block sees what its first module sees", () => {
    const markup = TRIP('context="before"').replace("</schema>", `<scaffold name="both" modules="a b"/></schema>`);
    expect(sightsOf(markup, `<prompt schema="s"><a/><b/>Go.</prompt>`)[1]).toEqual({
      own: "Text of a.\nText of b. End of b.\n",
      after: "Start.\n",
    });
  });

  test("imported modules bring their schema's context", () => {
    const files = { "other.pml": `<schema name="o" context="before"><module name="m">Hi.</module></schema>` };
    const schema = `<schema name="s">Start. <import schema="other.pml"/></schema>`;
    const layout = layoutOf(schemaOf(schema, files));
    expect(describe(layout).children[0]).toMatchObject({ name: "m", sees: layout.root.own.tokens.length });
  });

  test("positions do not depend on the context", () => {
    const places = (context: string) => compiledOf(layoutOf(TRIP(context)), ALL).segments.map(({ at, text }) => [at, text]);
    expect(places('context="all"')).toEqual(places(""));
  });

  test("a rendering reports how many tokens a text's block saw", () => {
    const layout = layoutOf(TRIP('context="before"'));
    const parts = renderPrompt(compiledOf(layout, `<prompt schema="s"><a/>Go.</prompt>`));
    expect(parts.flatMap((part) => (part.kind === "text" ? [part.sees] : []))).toEqual([undefined, 2, undefined, undefined, undefined]);
  });
});

suite("what is seen in place of a union", () => {
  const markup = `<schema name="s" context="before">You serve <union default="acme"><module name="acme">Acme Inc.</module><module name="bolt">Bolt</module></union> well. <module name="m">Hi.</module></schema>`;

  test("later text and the text around it see its default, whichever member a prompt includes", () => {
    expect(sightsOf(markup, `<prompt schema="s"><bolt/><m/>Go.</prompt>`)).toEqual([
      { own: "You serve well.", within: " Acme Inc." },
      { own: " Bolt", after: "You serve" },
      { own: " Hi.", after: "You serve Acme Inc. well." },
    ]);
    expect(piecesOf(markup, `<prompt schema="s"><bolt/>Go.</prompt>`)[0]).toEqual(["block", { 0: "You serve", 4: " well." }]);
  });

  test("without a default nothing is seen", () => {
    expect(sightsOf(markup.replace(' default="acme"', ""), `<prompt schema="s"><m/>Go.</prompt>`)).toEqual([
      { own: "You serve well." },
      { own: " Hi.", after: "You serve well." },
    ]);
  });
});

suite("what is seen in place of an argument", () => {
  const markup = (attributes: string) =>
    `<schema name="s"><module name="m">Dear <parameter name="who" ${attributes}/>, hello.</module></schema>`;
  const within = (attributes: string) => sightsOf(markup(attributes), `<prompt schema="s"><m who="Ada"/>Go.</prompt>`)[0]?.within;

  test("the text after it sees the placeholder, or else the default", () => {
    expect(within('length="2" placeholder="the reader"')).toBe(" the reader");
    expect(within('length="2" placeholder="the reader" default="you"')).toBe(" the reader");
    expect(within('length="1" default="you"')).toBe(" you");
    expect(piecesOf(markup('length="4" placeholder="the reader"'), `<prompt schema="s"><m who="Ada"/>Go.</prompt>`).slice(0, 2)).toEqual([
      ["block", { 0: "Dear", 5: ", hello." }],
      ["fresh", { 1: " Ada" }],
    ]);
  });

  test("spaces fill the rest, or up to 64 positions if there is neither; an empty placeholder is nothing", () => {
    expect(within('length="3"')).toBe("   ");
    expect(within('length="3" placeholder="you"')).toBe(" you  ");
    expect(within('length="65"')).toBeUndefined();
    expect(within('length="65" placeholder="you"')).toBe(" you");
    expect(within('length="3" placeholder=""')).toBeUndefined();
  });

  test("nothing sees a placeholder at a text's end", () => {
    expect(
      sightsOf(
        `<schema name="s"><module name="m">Dear <parameter name="who" length="4"/></module></schema>`,
        `<prompt schema="s"><m who="Ada"/>Go.</prompt>`,
      ),
    ).toEqual([{ own: "Dear" }]);
  });

  test("tokens that were only seen are not part of the prompt", () => {
    const { cachedTokens, segments } = compiledOf(
      layoutOf(markup('length="4" placeholder="the reader"')),
      `<prompt schema="s"><m who="Ada"/>Go.</prompt>`,
    );
    expect(cachedTokens).toBe(segments.filter(({ cached }) => cached).reduce((sum, { tokens }) => sum + tokens.length, 0));
  });

  test("a placeholder that is too long is cut and reported", () => {
    expect(within('length="1" placeholder="the dear reader"')).toBe(" the");
    const { diagnostics } = layoutSchema(schemaOf(markup('length="1" placeholder="the dear reader"')), {
      tokenizer: wordTokenizer(),
      chat,
    });
    expect(diagnostics).toMatchObject([
      { severity: "warning", message: "the placeholder of `who` is 3 tokens long, but its parameter reserves 1; the rest is not seen" },
    ]);
  });
});

test("modules may be linked in place, documents at any place; the text that begins every prompt is not linked", () => {
  const layout = layoutOf(`<schema name="s">Start. <module name="m">Hi.</module></schema>`);
  const written = parsePrompt(`<prompt schema="s"><m/><document ref="d"/>Go.</prompt>`).prompt ?? prompt("s", {});
  const { compiled } = compilePrompt(layout, written, { documents: () => ({ tokens: [1] }) });
  expect(compiled?.plan.pieces.filter(isBlockPiece).map(({ loose }) => loose)).toEqual([undefined, "in place", true]);
});
