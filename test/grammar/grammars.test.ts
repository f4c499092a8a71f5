import { Ajv2020 } from "ajv/dist/2020.js";
import ajvFormats from "ajv-formats";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { createMask, type Language, loadTokenizer } from "../../engine/index.js";
import { Grammars } from "../../grammar/index.js";
import { HELD, REFUSED } from "../support/grammar/schemas.js";
import { Walker } from "../support/grammar/walk.js";

let language: Language;
let grammars: Grammars;
beforeAll(async () => {
  language = await loadTokenizer();
  grammars = new Grammars(language);
});
afterAll(() => grammars.close());

/** An independent judge of answers. */
function validator(schema: object) {
  const ajv = new Ajv2020({ strict: false, validateFormats: true, multipleOfPrecision: 6 }); // 9.12 % 0.01 is not 0 in floats
  ajvFormats.default(ajv);
  return ajv.compile(schema);
}

describe("every path through the masks of a schema is a valid answer", () => {
  test.each(Object.entries(HELD))("%s", async (_, schema) => {
    const grammar = await grammars.ofSchema(schema);
    const validate = validator(schema);
    let ended = 0;
    fc.assert(
      fc.property(fc.nat(), (seed) => {
        const text = new Walker(language, seed).walk(grammar);
        if (text === undefined) return;
        ended++;
        if (!/\d{16}/.test(text)) expect(validate(JSON.parse(text)), text).toBe(true); // JavaScript's numbers cannot represent these
      }),
      { numRuns: 5 },
    );
    expect(ended).toBeGreaterThan(0);
  });
});

test.each(REFUSED)("a schema is refused, and the error names what is unsupported: %s", async (named, schema) => {
  const error = await grammars.ofSchema(schema).catch((failure: unknown) => failure);
  expect(error).toMatchObject({ code: "bad_argument" });
  expect((error as Error).message).toContain(named);
});

test("a zod schema works like its JSON Schema", async () => {
  const Lamp = z.object({
    colour: z.enum(["red", "white"]),
    height: z.int().min(0).max(99),
    names: z.array(z.string().max(3)).max(2).optional(),
  });
  const grammar = await grammars.ofSchema(Lamp);
  fc.assert(
    fc.property(fc.nat(), (seed) => {
      expect(Lamp.safeParse(JSON.parse(new Walker(language, seed).walk(grammar)!)).success).toBe(true);
    }),
    { numRuns: 5 },
  );
});

test.each([
  ["a list", []],
  ["a text", "object"],
  ["null", null],
  ["false", false],
])("%s is not a schema", async (_, schema) => {
  await expect(async () => grammars.ofSchema(schema as never)).rejects.toMatchObject({ code: "bad_argument" });
});

describe("a constraint", () => {
  const schema = {
    type: "object",
    properties: { name: { type: "string", maxLength: 30 }, year: { type: "integer" } },
    required: ["name", "year"],
    additionalProperties: false,
  };
  const text = '{"name": "Oda Halvorsen", "year": 1871}';

  test("that is rolled back allows what it allowed before, and answers are independent", async () => {
    const grammar = await grammars.ofSchema(schema);
    const [mask, again] = [createMask(language.tokenizer.size), createMask(language.tokenizer.size)];
    using one = grammar.begin();
    using other = grammar.begin();
    const ids = language.tokenizer.encode(text);
    for (const [i, id] of ids.entries()) {
      one.allowed(mask);
      const ahead = ids.slice(i, i + 3);
      for (const next of ahead) one.accept(next);
      one.rollback(ahead.length);
      one.allowed(again);
      expect(again).toEqual(mask);
      other.allowed(again);
      expect(again).toEqual(mask);
      one.accept(id);
      other.accept(id);
    }
    expect([one.finished, other.finished]).toEqual([true, true]);
    one.rollback(1);
    expect([one.finished, other.finished]).toEqual([false, true]);
  });

  test("allows only the end when its answer is complete, and no control token before", async () => {
    const mask = createMask(language.tokenizer.size);
    const silent = new Set(
      Array.from({ length: language.tokenizer.size }, (_, id) => id).filter((id) => language.tokenizer.bytesOf(id).length === 0),
    );
    const ids = (constraint: { allowed(mask: Uint32Array): void }) => {
      constraint.allowed(mask);
      return Array.from({ length: language.tokenizer.size }, (_, id) => id).filter((id) => (mask[id >> 5]! & (1 << (id & 31))) !== 0);
    };
    using constraint = (await grammars.ofSchema(schema)).begin();
    for (const id of language.tokenizer.encode(text)) {
      const allowed = ids(constraint);
      expect(allowed.filter((each) => silent.has(each))).toEqual([]);
      constraint.accept(id);
    }
    expect(new Set(ids(constraint))).toEqual(new Set(language.endTokens));
  });

  test("may be disposed of twice, and cannot be used afterwards", async () => {
    const constraint = (await grammars.ofSchema(schema)).begin();
    constraint[Symbol.dispose]();
    constraint[Symbol.dispose]();
    expect(() => constraint.allowed(createMask(64))).toThrow(/after it was disposed of/);
  });

  test("of one grammar continues while hundreds of others come and go", async () => {
    using kept = (await grammars.ofSchema(schema)).begin();
    const ids = language.tokenizer.encode(text);
    for (const [i, id] of ids.entries()) {
      for (let n = 0; n < 8; n++) (await grammars.ofSchema({ const: `${i}.${n}` })).begin()[Symbol.dispose]();
      kept.accept(id);
    }
    expect(kept.finished).toBe(true);
  });
});

test("a schema that takes too long to compile is abandoned, and others continue", async () => {
  const slow = new Grammars(language, { compile_ms: 1 });
  try {
    const wide = {
      type: "object",
      properties: Object.fromEntries(
        Array.from({ length: 4_000 }, (_, i) => [`field_${i}`, { type: "string", pattern: `^[a-z]{1,${i % 60}}(x|y)*${i}$` }]),
      ),
    };
    await expect(slow.ofSchema(wide)).rejects.toThrow(/takes longer than 0.001 s to compile/);
    await expect(slow.ofSchema({ not: {} })).rejects.toMatchObject({ code: "bad_argument" });
    expect(new Walker(language, 1).walk(await grammars.ofSchema({ const: 1 }))).toBe("1");
  } finally {
    await slow.close();
  }
});
