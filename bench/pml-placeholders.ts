/**
 * What takes the positions of parameters while modules are encoded, and its effect on an answer: nothing, spaces
 * (Prompt Cache uses a special token), and a text that an author would write there. KL of the natural prompt's first
 * token to each, in nats, and CPU milliseconds of encoding:
 *
 *     npx tsx bench/pml-placeholders.ts [MODEL]
 */

import { divergence } from "../cli/divergence.js";
import { type BlockPiece, loadModel, type Plan } from "../engine/index.js";
import { type CompiledMarkup, compileMarkup, type Layout, type ModuleLayout, naturalPlan, openMarkup } from "../pml/index.js";

const [file] = process.argv.slice(2);
const model = await loadModel(file === undefined ? {} : { path: file });
const { tokenizer, chat, contextLength } = model;
const space = tokenizer.encode(" ")[0]!;
const files = { read: () => ({ problem: "unreadable-file", message: "none" }) as const };

/** A module with its parameters, their arguments, placeholders that an author would write, and a question. */
const FACTS = [
  ["The customer bought the A on B.", { a: "Nettle router", b: "3 May" }, { a: "product", b: "a day" }, "What did the customer buy?"],
  [
    "The traveller stays in A for B and pays in coins.",
    { a: "Tokyo", b: "three days" },
    { a: "a city", b: "some days" },
    "How long does the traveller stay?",
  ],
  [
    "The meeting of A begins at B. Bring the report.",
    { a: "the board", b: "nine" },
    { a: "a group", b: "an hour" },
    "When does the meeting begin?",
  ],
  [
    "Dear A, your parcel lies at B until Friday.",
    { a: "Ada", b: "the station" },
    { a: "customer", b: "a place" },
    "Where does the parcel lie?",
  ],
  ["Order: the shop sends A to B by train.", { a: "two lamps", b: "Ghent" }, { a: "goods", b: "a city" }, "What does the shop send?"],
  [
    "The course is taught by A in room B. Bring a pen.",
    { a: "Grace Hopper", b: "12" },
    { a: "a teacher", b: "a number" },
    "Who teaches the course?",
  ],
  [
    "On A the ferry leaves from B at noon.",
    { a: "Monday", b: "Dinner Key" },
    { a: "a day", b: "a harbour" },
    "Where does the ferry leave from?",
  ],
  [
    "The lamp costs A and weighs B.",
    { a: "40 crowns", b: "two kilograms" },
    { a: "a price", b: "a weight" },
    "How much does the lamp weigh?",
  ],
] as const;

const WAYS = ["nothing", "spaces", "text"] as const;
const rows = [];
for (const length of [4, 8, 16, 32, 64, 128, 512]) {
  const cost = Object.fromEntries(WAYS.map((way) => [way, { same: 0, kl: 0, ms: 0 }]));
  for (const [text, given, placeholders, question] of FACTS) {
    const prompt = `<prompt schema="s"><m a="${given.a}" b="${given.b}"/>Question: ${question}</prompt>`;
    const compiled = (placeholder: (name: "a" | "b") => string) => {
      const parameter = (name: "a" | "b") => `<parameter name="${name}" length="${length}" placeholder="${placeholder(name)}"/>`;
      const module = text.replace(/\b[AB]\b/g, (letter) => parameter(letter.toLowerCase() as "a" | "b"));
      const schema = `<schema name="s"><system>You answer questions from the given documents.</system><user open="true">\n<module name="m">Title: Note\n${module}</module>\n</user></schema>`;
      const { files: results } = compileMarkup(
        [openMarkup(schema, { file: "schema", files }), openMarkup(prompt, { file: "prompt", files })],
        { language: { tokenizer, chat, contextLength, linkTokens: [] } },
      );
      const [{ layout }, { compiled: found }] = results as [CompiledMarkup, CompiledMarkup];
      if (!layout || !found) throw new Error("not compiled");
      return { layout, compiled: found };
    };
    const bare = compiled(() => "");
    const natural = await model.logits(naturalPlan(bare.compiled, model));
    const plans = {
      nothing: bare.compiled.plan,
      spaces: withSpaces(bare.compiled.plan, bare.layout),
      text: compiled((name) => placeholders[name]).compiled.plan,
    };
    for (const way of WAYS) {
      const start = process.cpuUsage();
      for (const piece of plans[way].pieces) if ("block" in piece) await model.encode(piece.block);
      const { user, system } = process.cpuUsage(start);
      const logits = await model.logits(plans[way]);
      const own = cost[way]!;
      own.ms += (user + system) / 1000 / FACTS.length;
      own.kl += divergence(natural, logits) / FACTS.length;
      if (likeliest(logits) === likeliest(natural)) own.same++;
    }
  }
  const cells = WAYS.flatMap((way) => [
    [`KL, ${way}`, cost[way]!.kl.toFixed(2)],
    [`same, ${way}`, cost[way]!.same],
    [`CPU ms, ${way}`, cost[way]!.ms.toFixed(0)],
  ]);
  rows.push({ length, ...Object.fromEntries(cells) });
}
console.log(model.name);
console.table(rows);
await model.close();

function likeliest(logits: Float32Array): number {
  return logits.reduce((best, logit, i) => (logit > logits[best]! ? i : best), 0);
}

function withSpaces(plan: Plan, layout: Layout): Plan {
  const lengths = new Map<number, number>();
  const visit = ({ parts }: ModuleLayout): void => {
    for (const part of parts) {
      if (part.kind === "parameter") lengths.set(part.at, part.parameter.length);
      if (part.kind === "module") visit(part.module);
      if (part.kind === "union") part.members.forEach(visit);
    }
  };
  visit(layout.root);
  return { pieces: plan.pieces.map((piece) => ("block" in piece ? fill(piece, lengths) : piece)) };
}

function fill({ block, at }: BlockPiece, lengths: ReadonlyMap<number, number>): BlockPiece {
  const all = block.tokens.map((token, i) => ({ token, position: at + (block.offsets?.[i] ?? i), filled: false }));
  const end = all.at(-1)!.position;
  for (const [start, length] of lengths) {
    if (start < at || start > end) continue;
    for (let i = 0; i < length; i++) all.push({ token: space, position: start + i, filled: true });
  }
  all.sort((a, b) => a.position - b.position);
  const omit = all.flatMap(({ filled }, i) => (filled ? [[i, i + 1] as const] : []));
  return { block: { tokens: all.map(({ token }) => token), offsets: all.map(({ position }) => position - at) }, at, omit };
}
