import { expect, describe as suite, test } from "vitest";
import { blocksOf, checkDocuments, describe } from "../../pml/index.js";
import { compiledOf, layoutOf, piecesOf, schemaOf } from "../support/pml/compiling.js";
import { chat, read } from "../support/pml/words.js";

const ANSWER = "<|im_start|>assistant\n";

suite("text and messages", () => {
  test("text outside modules is one block at the schema's start, and the prompt's text follows the schema", () => {
    expect(piecesOf(`<schema name="s">\n  one two three\n</schema>`, `<prompt schema="s">four</prompt>`)).toEqual([
      ["block", { 0: "one two three\n" }],
      ["fresh", { 4: `four${ANSWER}` }],
    ]);
  });

  test("a message is written with the chat template, its control text in the block that contains it", () => {
    expect(
      piecesOf(
        `<schema name="s"><system>Be kind.</system><module name="m"><user>Hi.</user></module></schema>`,
        `<prompt schema="s"><m/><assistant>Hello.</assistant><user>Bye.</user></prompt>`,
      ),
    ).toEqual([
      ["block", { 0: "<|bos|><|im_start|>system\nBe kind.<|im_end|>\n" }],
      ["block", { 8: "<|im_start|>user\nHi.<|im_end|>\n" }],
      ["fresh", { 14: `<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\nBye.<|im_end|>\n${ANSWER}` }],
    ]);
  });

  test("a prompt's message is the first if no included module has one", () => {
    const schema = `<schema name="s"><module name="m"><system>Be kind.</system></module></schema>`;
    expect(piecesOf(schema, `<prompt schema="s"><user>Hi</user></prompt>`)).toEqual([
      ["fresh", { 8: `<|bos|><|im_start|>user\nHi<|im_end|>\n${ANSWER}` }],
    ]);
  });

  test("each member of a union begins the dialogue if nothing precedes the union", () => {
    const schema = `<schema name="s"><union><module name="a"><user>A</user></module><module name="b"><user>B</user></module></union></schema>`;
    expect(piecesOf(schema, `<prompt schema="s"><b/></prompt>`)[0]).toEqual(["block", { 0: "<|bos|><|im_start|>user\nB<|im_end|>\n" }]);
  });

  test("control words spelled out in text stay text", () => {
    const layout = layoutOf(`<schema name="s">&lt;|im_end|></schema>`);
    const control = layout.options.tokenizer.encode("<|im_end|>", { control: true });
    expect(layout.root.own.tokens).not.toEqual(expect.arrayContaining(control));
  });

  test("a message that contains modules leaves their positions free in its block", () => {
    expect(
      piecesOf(`<schema name="s"><user>Read: <module name="m">a b c</module> Done.</user></schema>`, `<prompt schema="s"><m/></prompt>`),
    ).toEqual([
      ["block", { 0: "<|bos|><|im_start|>user\nRead:", 8: " Done.<|im_end|>\n" }],
      ["block", { 5: " a b c" }],
      ["fresh", { 11: ANSWER }],
    ]);
  });

  test("the prompt's own text continues the message that the schema leaves open, and closes it", () => {
    const schema = `<schema name="s"><user open="true">\n<module name="m">a b</module>\n</user></schema>`;
    expect(piecesOf(schema, `<prompt schema="s"><m/>Why?</prompt>`)).toEqual([
      ["block", { 0: "<|bos|><|im_start|>user\n" }],
      ["block", { 4: "a b\n" }],
      ["fresh", { 7: `Why?<|im_end|>\n${ANSWER}` }],
    ]);
    expect(piecesOf(schema, `<prompt schema="s"><user>Why?</user></prompt>`).at(-1)).toEqual([
      "fresh",
      { 7: `<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n${ANSWER}` },
    ]);
  });

  test("in a dialogue, a prompt's text outside messages becomes a user message", () => {
    const schema = `<schema name="s"><system>Be kind.</system><module name="m"><user>Hi.</user><assistant>Yes?</assistant></module></schema>`;
    const asked = `<|im_start|>user\nWhy?<|im_end|>\n${ANSWER}`;
    expect(piecesOf(schema, `<prompt schema="s">Why?</prompt>`).at(-1)).toEqual(["fresh", { 20: asked }]);
    expect(piecesOf(schema, `<prompt schema="s"><m/>Why?</prompt>`).at(-1)).toEqual(["fresh", { 20: asked }]);
    expect(piecesOf(`<schema name="s"/>`, `<prompt schema="s">So.<assistant>What?</assistant>Why?</prompt>`)).toEqual([
      ["fresh", { 0: `<|bos|><|im_start|>user\nSo.<|im_end|>\n<|im_start|>assistant\nWhat?<|im_end|>\n${asked}` }],
    ]);
  });

  test("the model continues an assistant message that is left open", () => {
    const schema = `<schema name="s">\none\n</schema>`;
    expect(piecesOf(schema, `<prompt schema="s"><user>Hi</user><assistant open="true">Well,</assistant></prompt>`).at(-1)).toEqual([
      "fresh",
      { 2: "<|bos|><|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nWell," },
    ]);
    const open = `<schema name="s"><assistant open="true">\nLabel:\n</assistant></schema>`;
    expect(piecesOf(open, `<prompt schema="s">It is</prompt>`).at(-1)).toEqual(["fresh", { 6: "It is" }]);
  });
});

suite("modules", () => {
  const schema = `<schema name="s">\n<module name="a">1 2 3</module>\n<module name="b">4 5</module>\n</schema>`;

  test("a module that is left out leaves a gap; nothing else moves", () => {
    const question = ["fresh", { 7: `?${ANSWER}` }];
    const a = ["block", { 0: "1 2 3\n" }];
    const b = ["block", { 4: "4 5\n" }];
    expect(piecesOf(schema, `<prompt schema="s"><a/><b/>?</prompt>`)).toEqual([a, b, question]);
    expect(piecesOf(schema, `<prompt schema="s"><b/>?</prompt>`)).toEqual([b, question]);
    expect(piecesOf(schema, `<prompt schema="s">?</prompt>`)).toEqual([question]);
  });

  test("pieces follow the schema's order, whatever the prompt's", () => {
    expect(piecesOf(schema, `<prompt schema="s"><b/><a/>?</prompt>`)).toEqual(piecesOf(schema, `<prompt schema="s"><a/><b/>?</prompt>`));
  });

  test("a module's own text is one block with gaps for the modules in it, each of which is a separate block", () => {
    const nested = `<schema name="s"><module name="a">1 <module name="b">2 <module name="c">3</module> 4</module> 5</module></schema>`;
    expect(piecesOf(nested, `<prompt schema="s"><a><b><c/></b></a></prompt>`)).toEqual([
      ["block", { 0: "1", 4: " 5" }],
      ["block", { 1: " 2", 3: " 4" }],
      ["block", { 2: " 3" }],
      ["fresh", { 5: ANSWER }],
    ]);
    expect(piecesOf(nested, `<prompt schema="s"><a/></prompt>`).map(([kind]) => kind)).toEqual(["block", "fresh"]);
  });

  test("a block is placed where its own text begins, with offsets from there", () => {
    const layout = layoutOf(`<schema name="s"><module name="a"><module name="b">1</module>2<module name="c">3</module>4</module></schema>`);
    const { plan } = compiledOf(layout, `<prompt schema="s"><a/></prompt>`);
    expect(plan.pieces[0]).toMatchObject({ at: 1, block: { offsets: [0, 2] } });
    const [block] = blocksOf(layoutOf(`<schema name="s">1 2</schema>`));
    expect(block).not.toHaveProperty("offsets");
  });

  test("a module without text of its own has no block", () => {
    const layout = layoutOf(`<schema name="s"><module name="a"><module name="b">1</module></module><module name="c"/></schema>`);
    expect(blocksOf(layout)).toHaveLength(1);
    expect(compiledOf(layout, `<prompt schema="s"><a/><c/></prompt>`).cachedTokens).toBe(0);
  });

  test('cache="false": the module is computed with the prompt, at its positions; modules in it are still cached', () => {
    const uncached = `<schema name="s"><module name="a" cache="false">1 <module name="b">2</module> 3</module><module name="c">4</module></schema>`;
    expect(piecesOf(uncached, `<prompt schema="s"><a><b/></a><c/></prompt>`)).toEqual([
      ["fresh", { 0: "1" }],
      ["block", { 1: " 2" }],
      ["fresh", { 2: " 3" }],
      ["block", { 3: "4" }],
      ["fresh", { 4: ANSWER }],
    ]);
    expect(blocksOf(layoutOf(uncached))).toHaveLength(2);
  });

  test("src: a file's text with its inner whitespace", () => {
    const sourced = schemaOf(`<schema name="s">\n<module name="a" src="a.md"/>\n</schema>`, { "a.md": "\n# Title\r\n\n  two  words\n\n" });
    expect(piecesOf(sourced, `<prompt schema="s"><a/></prompt>`)[0]).toEqual(["block", { 0: "# Title\n\n  two  words\n" }]);
    const inline = schemaOf(`<schema name="s">It costs <module name="a" src="a.md"/> crowns.</schema>`, { "a.md": "12\n" });
    expect(piecesOf(inline, `<prompt schema="s"><a/></prompt>`).slice(0, 2)).toEqual([
      ["block", { 0: "It costs", 3: " crowns." }],
      ["block", { 2: " 12" }],
    ]);
    const kept = schemaOf(`<schema name="s"><module name="a" src="a.md" xml:space="preserve"/></schema>`, { "a.md": "\n a\n\n" });
    expect(piecesOf(kept, `<prompt schema="s"><a/></prompt>`)[0]).toEqual(["block", { 0: "\n a\n\n" }]);
  });

  test("import: the other schema's modules in place of the import", () => {
    const files = {
      "more.pml": `<schema name="more">
        <module name="m">1 2</module>
        <import schema="deep.pml"/>
        <union><module name="x">3</module><module name="y">4 5</module></union>
      </schema>`,
      "deep.pml": `<schema name="deep" xml:space="preserve"><module name="d"> 6 </module></schema>`,
    };
    const schema = schemaOf(`<schema name="s">\n<module name="a">\n0\n<import schema="more.pml"/></module>\n</schema>`, files);
    expect(piecesOf(schema, `<prompt schema="s"><a><m/><d/><y/></a></prompt>`)).toEqual([
      ["block", { 0: "0\n" }],
      ["block", { 2: "1 2\n" }],
      ["block", { 5: " 6 " }],
      ["block", { 7: "4 5\n" }],
      ["fresh", { 10: ANSWER }],
    ]);
  });
});

suite("unions", () => {
  const schema = `<schema name="s">
    <union><module name="a">1</module><module name="b">2 3 4</module></union>
    after
  </schema>`;

  test("members start together, and the union takes the positions of its longest member", () => {
    expect(piecesOf(schema, `<prompt schema="s"><a/>?</prompt>`)).toEqual([
      ["block", { 4: "after\n" }],
      ["block", { 0: "1\n" }],
      ["fresh", { 6: `?${ANSWER}` }],
    ]);
    expect(piecesOf(schema, `<prompt schema="s"><b/>?</prompt>`)[1]).toEqual(["block", { 0: "2 3 4\n" }]);
  });

  test("a prompt may choose none", () => {
    expect(piecesOf(schema, `<prompt schema="s">?</prompt>`).map(([kind]) => kind)).toEqual(["block", "fresh"]);
  });
});

suite("parameters", () => {
  const schema = `<schema name="s">
    <module name="m">Stay for <parameter name="days" length="4" default="some time"/> now.</module>
  </schema>`;

  test("an argument, with the space before it, takes its parameter's positions; the rest stays unused", () => {
    expect(piecesOf(schema, `<prompt schema="s"><m days="three days"/></prompt>`)).toEqual([
      ["block", { 0: "Stay for", 6: " now.\n" }],
      ["fresh", { 2: " three days" }],
      ["fresh", { 8: ANSWER }],
    ]);
  });

  test("a default replaces a missing argument; an empty argument adds no text", () => {
    expect(piecesOf(schema, `<prompt schema="s"><m/></prompt>`)[1]).toEqual(["fresh", { 2: " some time" }]);
    expect(piecesOf(schema, `<prompt schema="s"><m days=""/></prompt>`)[1]).toEqual(["fresh", { 8: ANSWER }]);
  });

  test("positions are reserved; many of them without any text stay empty when encoded", () => {
    const layout = layoutOf(schema.replace('length="4" default="some time"', 'length="4096"'));
    const { plan, cachedTokens, computedTokens } = compiledOf(layout, `<prompt schema="s"><m days="x"/></prompt>`);
    const words = layout.options.tokenizer.encode("Stay for now.\n");
    expect(plan.pieces[0]).toMatchObject({ block: { tokens: words, offsets: [0, 1, 4098, 4099] }, at: 0 });
    expect(plan.pieces[0]).not.toHaveProperty("omit");
    expect(cachedTokens).toBe(4);
    expect(computedTokens).toBe(1 + layout.options.tokenizer.encode(ANSWER, { control: true }).length);
  });

  test("an argument that is too long loses its end or its start if the author allows it", () => {
    const given = `<prompt schema="s"><m days="one two three four five six"/></prompt>`;
    const overflowing = (overflow: string) => piecesOf(schema.replace('length="4"', `length="4" overflow="${overflow}"`), given)[1];
    expect(overflowing("truncate-end")).toEqual(["fresh", { 2: " one two three four" }]);
    expect(overflowing("truncate-start")).toEqual(["fresh", { 2: " three four five six" }]);
  });

  test("an argument sees its own module and what precedes it, not what follows", () => {
    const nested = `<schema name="s"><module name="m">1 <module name="n">2</module> 3 <parameter name="p" length="1"/><module name="o">4</module></module></schema>`;
    expect(piecesOf(nested, `<prompt schema="s"><m p="x"><n/><o/></m></prompt>`)).toEqual([
      ["block", { 0: "1", 2: " 3" }],
      ["block", { 1: " 2" }],
      ["fresh", { 3: " x" }],
      ["block", { 4: "4" }],
      ["fresh", { 5: ANSWER }],
    ]);
  });

  test("the arguments of an uncached module are computed with its text", () => {
    const uncached = `<schema name="s">
      <module name="m" cache="false">Stay <parameter name="days" length="2"/> now.</module>
    </schema>`;
    expect(piecesOf(uncached, `<prompt schema="s"><m days="two days"/></prompt>`)).toEqual([
      ["fresh", { 0: `Stay two days now.\n${ANSWER}` }],
    ]);
    expect(piecesOf(uncached, `<prompt schema="s"><m days="here"/></prompt>`)).toEqual([
      ["fresh", { 0: "Stay here" }],
      ["fresh", { 3: ` now.\n${ANSWER}` }],
    ]);
  });
});

suite("scaffolds", () => {
  const schema = `<schema name="s">
    <module name="a">
      1
      <module name="n">2</module>
      3
    </module>
    <module name="b">4 <parameter name="p" length="2"/></module>
    <module name="c">5</module>
    <scaffold name="ab" modules="a b"/>
    <scaffold name="an" modules="a a/n"/>
    <scaffold name="abc" modules="a b c"/>
  </schema>`;

  test("the named modules are one block, in the order of their positions, if all of them are included", () => {
    const layout = layoutOf(schema);
    const { plan, scaffolds } = compiledOf(layout, `<prompt schema="s"><a/><b p="x"/></prompt>`);
    expect(scaffolds).toEqual(["ab"]);
    expect(read(plan, layout.options.tokenizer)).toEqual([
      ["block", { 0: "1\n", 4: "3\n4", 9: "\n" }],
      ["fresh", { 7: " x" }],
      ["fresh", { 12: ANSWER }],
    ]);
  });

  test("nested modules are named by path and lie within their module's text in the block", () => {
    const layout = layoutOf(schema);
    const { plan, scaffolds } = compiledOf(layout, `<prompt schema="s"><a><n/></a></prompt>`);
    expect(scaffolds).toEqual(["an"]);
    expect(read(plan, layout.options.tokenizer)[0]).toEqual(["block", { 0: "1\n2\n3\n" }]);
  });

  test("the largest one that fits is used, and others alongside it if they share no module", () => {
    const layout = layoutOf(schema);
    expect(compiledOf(layout, `<prompt schema="s"><a><n/></a><b p="x"/><c/></prompt>`).scaffolds).toEqual(["abc"]);
    expect(compiledOf(layout, `<prompt schema="s"><a/></prompt>`).scaffolds).toEqual([]);
    const two = `<schema name="s"><module name="a">1</module><module name="b">2</module><module name="c">3</module><module name="d">4</module>
      <scaffold name="ab" modules="a b"/><scaffold name="cd" modules="c d"/></schema>`;
    expect(compiledOf(layoutOf(two), `<prompt schema="s"><a/><b/><c/><d/></prompt>`).scaffolds).toEqual(["ab", "cd"]);
  });

  test("their blocks are among those to compute ahead", () => {
    expect(blocksOf(layoutOf(schema))).toHaveLength(4 + 3);
  });
});

suite("documents", () => {
  const schema = `<schema name="s"><user open="true">
    Read:
    <module name="m">x<document ref="d2"/></module>
    <document ref="d1"/>
  </user></schema>`;
  const documents = (ref: string) => ({ d1: { tokens: [901, 902, 903] }, d2: { tokens: [904, 905] } })[ref];

  test("they follow the schema without gaps, in document order, and the prompt's text follows them", () => {
    const { plan, cachedTokens } = compiledOf(layoutOf(schema), `<prompt schema="s"><m/><document ref="d1"/>Why?</prompt>`, { documents });
    expect(plan.pieces.map(({ at }) => at)).toEqual([0, 6, 8, 10, 13, 16]);
    expect(plan.pieces.slice(2, 5)).toEqual([
      { block: { tokens: [904, 905] }, at: 8, loose: true },
      { block: { tokens: [901, 902, 903] }, at: 10, loose: true },
      { block: { tokens: [901, 902, 903] }, at: 13, loose: true },
    ]);
    expect(cachedTokens).toBe(6 + 2 + 2 + 3 + 3);
  });

  test("a document in a module that is left out is left out too", () => {
    const { plan } = compiledOf(layoutOf(schema), `<prompt schema="s">Why?</prompt>`, { documents });
    expect(plan.pieces.map(({ at }) => at)).toEqual([0, 8, 11]);
  });

  test("link tokens follow each, and are computed with the prompt", () => {
    const { plan } = compiledOf(layoutOf(schema), `<prompt schema="s"><m/>Why?</prompt>`, { documents, linkTokens: [990, 991] });
    expect(plan.pieces.slice(2, 5)).toEqual([
      { block: { tokens: [904, 905] }, at: 8, loose: true },
      { tokens: [990, 991], at: 10 },
      { block: { tokens: [901, 902, 903] }, at: 12, loose: true },
    ]);
    expect(plan.pieces[5]).toMatchObject({ at: 15 });
  });

  test("all documents of a schema are checked, even in modules that no prompt includes", () => {
    const told = (known: readonly string[]) =>
      checkDocuments(schemaOf(schema), (ref) => (known.includes(ref) ? documents(ref) : undefined)).map(({ message }) => message);
    expect(told(["d1", "d2"])).toEqual([]);
    expect(told([])).toEqual(["there is no document `d2`", "there is no document `d1`"]);
  });

  test("a failure of the corpus itself is not a diagnostic", () => {
    const broken = () => {
      throw new Error("disk");
    };
    expect(() => compiledOf(layoutOf(schema), `<prompt schema="s">Why?</prompt>`, { documents: broken })).toThrow("disk");
  });

  test("in a prompt's message they lie between its text", () => {
    const { plan } = compiledOf(
      layoutOf(`<schema name="s"/>`),
      `<prompt schema="s"><user>Read: <document ref="d1"/> Why?</user></prompt>`,
      { documents },
    );
    expect(plan.pieces.map(({ at }) => at)).toEqual([0, 6, 9]);
  });
});

suite("the description of a layout", () => {
  const layout = layoutOf(`<schema name="s">zero
    <module name="a">1 <parameter name="p" length="3" default="x"/>
      <union><module name="b">2</module><module name="c" cache="false">3 4</module></union>
    </module>
    <document ref="d"/></schema>`);

  test("has each element with its positions and tokens, and the number of modules within", () => {
    expect(describe(layout)).toMatchObject({
      kind: "schema",
      name: "s",
      start: 0,
      end: 10,
      tokens: 2,
      modules: 3,
      children: [
        {
          kind: "module",
          name: "a",
          start: 2,
          end: 10,
          tokens: 2,
          cached: true,
          modules: 2,
          children: [
            { kind: "parameter", name: "p", start: 3, end: 6, tokens: 3 },
            {
              kind: "union",
              start: 7,
              end: 10,
              modules: 2,
              children: [
                { name: "b", start: 7, end: 9, tokens: 2, cached: true },
                { name: "c", start: 7, end: 10, tokens: 3, cached: false },
              ],
            },
          ],
        },
        { kind: "document", name: "d", cached: true },
      ],
    });
  });

  test("with a prompt, says whether each is included", () => {
    const compiled = compiledOf(layout, `<prompt schema="s"><a><c/></a></prompt>`, { documents: () => ({ tokens: [1] }) });
    expect(describe(layout, compiled)).toMatchObject({
      included: true,
      children: [
        { included: true, children: [{ included: true }, { included: true, children: [{ included: false }, { included: true }] }] },
        {},
      ],
    });
  });

  test("a model's own template without a generation prompt leaves the prompt's text last", () => {
    const plain = layoutOf(`<schema name="s">\nzero\n</schema>`, { chat: { ...chat, generationPrompt: "" } });
    expect(compiledOf(plain, `<prompt schema="s">one</prompt>`).plan.pieces.at(-1)).toMatchObject({ at: 2 });
  });
});
