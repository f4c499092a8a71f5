/**
 * What the positions of parameters do to an answer: encoded as they are now, with nothing there, and with a placeholder
 * token in each that is left out of the KV afterwards, as Prompt Cache does. KL of the natural prompt's first token to
 * each, in nats, and CPU milliseconds of encoding:
 *
 *     npx tsx bench/pml-placeholders.ts
 */
import { type BlockPiece, loadModel, type Plan } from "../engine/index.js";
import { divergence } from "../cli/divergence.js";
import { compileMarkup, type CompiledMarkup, type Layout, type ModuleLayout, naturalPlan, openMarkup } from "../pml/index.js";

const model = await loadModel();
const { tokenizer, chat, contextLength } = model;
const placeholder = tokenizer.encode(" ")[0]!;
const files = { read: () => ({ problem: "unreadable-file", message: "none" }) as const };

const FACTS = [
  ["The customer bought the <parameter name='a' length='L'/> on <parameter name='b' length='L'/>.", { a: "Nettle router", b: "3 May" }, "What did the customer buy?"],
  ["The traveller stays in <parameter name='a' length='L'/> for <parameter name='b' length='L'/> and pays in coins.", { a: "Tokyo", b: "three days" }, "How long does the traveller stay?"],
  ["The meeting of <parameter name='a' length='L'/> begins at <parameter name='b' length='L'/>. Bring the report.", { a: "the board", b: "nine" }, "When does the meeting begin?"],
  ["Dear <parameter name='a' length='L'/>, your parcel lies at <parameter name='b' length='L'/> until Friday.", { a: "Ada", b: "the station" }, "Where does the parcel lie?"],
  ["Order: the shop sends <parameter name='a' length='L'/> to <parameter name='b' length='L'/> by train.", { a: "two lamps", b: "Ghent" }, "What does the shop send?"],
  ["The course is taught by <parameter name='a' length='L'/> in room <parameter name='b' length='L'/>. Bring a pen.", { a: "Grace Hopper", b: "12" }, "Who teaches the course?"],
  ["On <parameter name='a' length='L'/> the ferry leaves from <parameter name='b' length='L'/> at noon.", { a: "Monday", b: "Dinner Key" }, "Where does the ferry leave from?"],
  ["The lamp costs <parameter name='a' length='L'/> and weighs <parameter name='b' length='L'/>.", { a: "40 crowns", b: "two kilograms" }, "How much does the lamp weigh?"],
] as const;

const rows = [];
for (const length of [6, 8, 16, 32, 64, 512]) {
  const same = { gap: 0, placeholders: 0 };
  const kl = { gap: 0, placeholders: 0 };
  const ms = { gap: 0, placeholders: 0 };
  for (const [text, given, question] of FACTS) {
    const schema = `<schema name="s"><system>You answer questions from the given documents.</system><user open="true">\n<module name="m">Title: Note\n${text.replaceAll("L", String(length))}</module>\n</user></schema>`;
    const prompt = `<prompt schema="s"><m a="${given.a}" b="${given.b}"/>Question: ${question}</prompt>`;
    const { files: compiled } = compileMarkup(
      [openMarkup(schema, { file: "schema", files }), openMarkup(prompt, { file: "prompt", files })],
      { language: { tokenizer, chat, contextLength, linkTokens: [] } },
    );
    const [{ layout }, { compiled: now }] = compiled as [CompiledMarkup, CompiledMarkup];
    if (!layout || !now) throw new Error("not compiled");
    const natural = await model.logits(naturalPlan(now, model));
    for (const [name, plan] of [["gap", now.plan], ["placeholders", withPlaceholders(now.plan, layout)]] as const) {
      const start = process.cpuUsage();
      for (const piece of plan.pieces) if ("block" in piece) await model.encode(piece.block);
      const { user, system } = process.cpuUsage(start);
      ms[name] += (user + system) / 1000 / FACTS.length;
      const logits = await model.logits(plan);
      kl[name] += divergence(natural, logits) / FACTS.length;
      if (likeliest(logits) === likeliest(natural)) same[name]++;
    }
  }
  rows.push({ length, "KL, nothing there": kl.gap.toFixed(4), "KL, placeholders": kl.placeholders.toFixed(4), "same first token": `${same.gap} and ${same.placeholders} of ${FACTS.length}`, "CPU ms, nothing there": ms.gap.toFixed(0), "CPU ms, placeholders": ms.placeholders.toFixed(0) });
}
console.table(rows);
await model.close();

function likeliest(logits: Float32Array): number {
  return logits.reduce((best, logit, i) => (logit > logits[best]! ? i : best), 0);
}

function withPlaceholders(plan: Plan, layout: Layout): Plan {
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
    for (let i = 0; i < length; i++) all.push({ token: placeholder, position: start + i, filled: true });
  }
  all.sort((a, b) => a.position - b.position);
  const omit = all.flatMap(({ filled }, i) => (filled ? [[i, i + 1] as const] : []));
  return { block: { tokens: all.map(({ token }) => token), offsets: all.map(({ position }) => position - at) }, at, omit };
}
