/**
 * Cost of constrained answers: llguidance, as used in kvsplice, compared with XGrammar in WebAssembly (@mlc-ai/web-xgrammar).
 * Reading the vocabulary, compiling schemas, an answer's masks, and keywords that are accepted but not enforced.
 *
 *     npm --prefix bench ci && npx tsx bench/grammar.ts [--only llguidance] [MODEL.gguf...]
 *
 * Masks are made in the JavaScript thread: the longest one's processor time is how long it blocks the event loop on a free core.
 */

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { parseArgs } from "node:util";
import { compileFunction, constants } from "node:vm";
import { createMask, type Language, loadTokenizer } from "../engine/index.js";
import { Grammars } from "../grammar/index.js";
import { HELD, REFUSED } from "../test/support/grammar/schemas.js";

const person = {
  type: "object",
  properties: {
    name: { type: "string", maxLength: 60 },
    born: { type: "integer", minimum: 1000, maximum: 2100 },
    works: {
      type: "array",
      items: {
        type: "object",
        properties: { title: { type: "string" }, year: { type: "integer" } },
        required: ["title", "year"],
        additionalProperties: false,
      },
      maxItems: 5,
    },
  },
  required: ["name", "born", "works"],
  additionalProperties: false,
};
const ANSWER =
  '{"name": "Benjamin Baker", "born": 1840, "works": [{"title": "Forth Bridge", "year": 1890}, {"title": "Aswan Low Dam", "year": 1902}]}';
const SCHEMAS = [person, ...Object.values(HELD)];

const middle = (values: readonly number[], share = 0.5) => [...values].sort((a, b) => a - b)[Math.floor((values.length - 1) * share)]!;
const ms = (value: number) => (value < 10 ? value.toFixed(2) : value.toFixed(0)).padStart(7);

async function timed<T>(work: () => Promise<T> | T): Promise<{ readonly value: T; readonly took_ms: number; readonly cpu_ms: number }> {
  const [start, before] = [performance.now(), process.cpuUsage()];
  const value = await work();
  const { user, system } = process.cpuUsage(before);
  return { value, took_ms: performance.now() - start, cpu_ms: (user + system) / 1_000 };
}

type Walk = { mask(): Promise<void> | void; accept(token: number): void };
type Peer = { readonly name: string; read(language: Language): Promise<void>; compile(schema: object): Promise<() => Promise<Walk>> };

function llguidance(): Peer {
  let grammars: Grammars;
  return {
    name: "llguidance",
    async read(language) {
      grammars = new Grammars(language);
      await grammars.ofSchema({ const: 1 });
    },
    async compile(schema) {
      const grammar = await grammars.ofSchema(schema as Readonly<Record<string, unknown>>);
      return async () => {
        const constraint = grammar.begin();
        const mask = createMask(1 << 18);
        return { mask: () => constraint.allowed(mask), accept: (token) => constraint.accept(token) };
      };
    },
  };
}

/** The parts of @mlc-ai/web-xgrammar used here; it has no types that Node resolves. */
type XGrammar = {
  TokenizerInfo: {
    createTokenizerInfo(vocabulary: readonly string[], kind: string, prepend: boolean, size: number, stops: number[]): Promise<unknown>;
  };
  GrammarCompiler: { createGrammarCompiler(info: unknown): Promise<{ compileJSONSchema(schema: string): Promise<unknown> }> };
  GrammarMatcher: {
    createGrammarMatcher(grammar: unknown): Promise<{ getNextTokenBitmask(): Promise<Int32Array>; acceptToken(token: number): boolean }>;
  };
};

/** The package claims to be a module but is a CommonJS script, so it is run as one. */
function loadXGrammar(): XGrammar {
  const require = createRequire(new URL("./package.json", import.meta.url));
  const file = require.resolve("@mlc-ai/web-xgrammar");
  const exports = {};
  compileFunction(readFileSync(file, "utf8"), ["exports", "module", "require", "__filename", "__dirname"], {
    importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
  })(exports, { exports }, require, file, "");
  return exports as XGrammar;
}

function xgrammar(): Peer {
  const { TokenizerInfo, GrammarCompiler, GrammarMatcher } = loadXGrammar();
  let compiler: Awaited<ReturnType<XGrammar["GrammarCompiler"]["createGrammarCompiler"]>>;
  return {
    name: "XGrammar 0.1.27",
    async read({ tokenizer, endTokens }) {
      const texts = Array.from({ length: tokenizer.size }, (_, id) => Buffer.from(tokenizer.bytesOf(id)).toString("latin1"));
      compiler = await GrammarCompiler.createGrammarCompiler(
        await TokenizerInfo.createTokenizerInfo(texts, "raw", false, tokenizer.size, [...endTokens]),
      );
      await compiler.compileJSONSchema('{"const": 1}');
    },
    async compile(schema) {
      const grammar = await compiler.compileJSONSchema(JSON.stringify(schema));
      return async () => {
        const matcher = await GrammarMatcher.createGrammarMatcher(grammar);
        return { mask: () => matcher.getNextTokenBitmask().then(() => undefined), accept: (token) => void matcher.acceptToken(token) };
      };
    },
  };
}

const {
  values: { only },
  positionals,
} = parseArgs({ allowPositionals: true, options: { only: { type: "string" } } });
for (const path of [undefined, ...positionals]) {
  const language = await loadTokenizer(path === undefined ? {} : { path });
  const ids = language.tokenizer.encode(ANSWER);
  console.log(`\n${path ?? "the included model"}: ${language.tokenizer.size} tokens; times in ms`);
  console.log("engine            vocabulary  compile p50  compile max  mask p50  mask p95  mask max  its CPU  accepted, not enforced");
  for (const make of only === "llguidance" ? [llguidance] : [llguidance, xgrammar]) {
    const peer = make();
    const read = await timed(() => peer.read(language));
    const compile: number[] = [];
    for (const schema of SCHEMAS) compile.push((await timed(() => peer.compile(schema).catch(() => undefined))).took_ms);
    const begin = await peer.compile(person);
    const masks: number[] = [];
    const cpu: number[] = [];
    for (let round = 0; round < 5; round++) {
      const walk = await begin();
      for (const id of ids) {
        const { took_ms, cpu_ms } = await timed(() => walk.mask());
        masks.push(took_ms);
        cpu.push(cpu_ms);
        walk.accept(id);
      }
    }
    let taken = 0;
    for (const [, schema] of REFUSED)
      if (
        await peer.compile(schema).then(
          () => true,
          () => false,
        )
      )
        taken++;
    const cells = [
      read.took_ms,
      middle(compile),
      Math.max(...compile),
      middle(masks),
      middle(masks, 0.95),
      Math.max(...masks),
      Math.max(...cpu),
    ].map(ms);
    console.log(`${peer.name.padEnd(16)} ${cells.join("   ")}   ${taken} of ${REFUSED.length}`);
  }
}
process.exit();
