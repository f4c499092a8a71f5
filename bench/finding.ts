/**
 * How well a corpus finds: the right passage at rank 1 and in the top ten by words, by vectors and by both; questions that a
 * floor loses and catches; follow-up questions. Over 13,700 passages, with the parts of `Corpus.retrieve`.
 *
 *     npx tsx bench/finding.ts --data DIR [--cache DIR] [--limit N] [--only lists|floor|signals|follow-ups] [--tune] [--embedder NAME]
 *
 * DIR has `passages.jsonl.gz` (`{id, title, text}` per line), `qa_eval_nq.jsonl.gz`, `qa_eval_xquad.jsonl.gz`,
 * `qa_eval_2hop.jsonl.gz` and `qa_train.jsonl.gz` (`{question, answers, gold, distractors, source}` per line). Embedding the
 * passages takes ten minutes, once: vectors are kept in the cache. `--tune` prints the effect of weights and floors on the
 * training questions, on which they were chosen. `signals` compares other possible signs that a question has an answer: floors
 * are chosen on the training questions and tested on the others. Intervals are 95 % of a paired bootstrap.
 */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { readingsOf, weigh } from "../rag/corpus/follow-up.js";
import { loadEmbedder } from "../rag/index.js";
import { type Candidate, fuse } from "../rag/retrieve/fusion.js";
import type { Search } from "../rag/retrieve/indexes.js";
import { pairedBootstrap } from "./finding/bootstrap.js";
import { drawn, Library, type Passage, type Question, read, vectorsOf } from "./finding/data.js";
import { directorFollowUps, type FollowUp, newBeginnings, pronounFollowUps } from "./finding/follow-ups.js";

const { values } = parseArgs({
  options: {
    data: { type: "string" },
    cache: { type: "string", default: join(tmpdir(), "kvsplice-finding") },
    limit: { type: "string", default: "500" },
    only: { type: "string" },
    tune: { type: "boolean", default: false },
    embedder: { type: "string" },
  },
});
if (values.data === undefined) throw new Error("Name the folder of passages and questions with --data.");
const { data: folder, cache, tune, only } = values;
const limit = Number(values.limit);

const embedder = await loadEmbedder({ name: values.embedder });
const passages = read<Passage>(folder, "passages");
const titles = new Map(passages.map(({ id, title }) => [id, title]));
const passageVectors = await vectorsOf(
  passages.map(({ title, text }) => `${title}\n${text}`),
  "document",
  embedder,
  cache,
);
const questionVectors = (texts: readonly string[]) => vectorsOf(texts, "question", embedder, cache);

/** Passages whose id has this prefix. */
async function library(...sources: string[]): Promise<Library> {
  const wanted = passages.flatMap(({ id }, index) => (sources.length === 0 || sources.includes(id.split("-")[0]!) ? [index] : []));
  return Library.open(
    sources.join("-") || "all",
    wanted.map((index) => passages[index]!),
    wanted.map((index) => passageVectors[index]!),
    cache,
  );
}

const EVALUATION = [
  ["NQ", "qa_eval_nq"],
  ["XQuAD", "qa_eval_xquad"],
  ["2hop", "qa_eval_2hop"],
] as const;
const sets = new Map<string, Question[]>(
  tune ? [] : EVALUATION.map(([name, file]) => [name, read<Question>(folder, file).slice(0, limit)]),
);
if (tune)
  for (const source of ["nq", "squad", "boolq"])
    sets.set(
      `train ${source}`,
      drawn(
        read<Question>(folder, "qa_train").filter((each) => each.source === source),
        limit,
      ),
    );
// A two-hop question does not name its second passage; its first passage is about the film that it names.
const films = sets.get("2hop")?.map((question) => ({ ...question, gold: question.distractors[0]! }));
if (films) sets.set("2hop, film", films);

function table(header: readonly string[], rows: readonly (readonly string[])[]): void {
  process.stdout.write(
    `| ${header.join(" | ")} |\n|${"---|".repeat(header.length)}\n${rows.map((row) => `| ${row.join(" | ")} |\n`).join("")}\n`,
  );
}

const percent = (values: readonly number[]) => ((100 * values.reduce((sum, each) => sum + each, 0)) / values.length).toFixed(1);

/** Whether the gold passage is first, and in the top ten. */
function ranks(order: readonly number[], gold: number): readonly [first: number, ten: number] {
  const rank = order.indexOf(gold);
  return [rank === 0 ? 1 : 0, rank >= 0 && rank < 10 ? 1 : 0];
}

/** Cormack et al. 2009, the former fusion. */
function byReciprocalRank(lists: readonly (readonly number[])[]): number[] {
  const scores = new Map<number, number>();
  for (const list of lists) list.slice(0, 50).forEach((id, index) => scores.set(id, (scores.get(id) ?? 0) + 1 / (61 + index)));
  return [...scores].sort((a, b) => b[1] - a[1]).map(([id]) => id);
}

type Found = {
  readonly gold: number;
  readonly candidates: readonly Candidate[];
  readonly words: readonly number[];
  readonly near: readonly number[];
};

async function findAll(questions: readonly Question[], from: Library): Promise<{ readonly found: Found[]; readonly ms: number }> {
  const vectors = await questionVectors(questions.map(({ question }) => question));
  let ms = 0;
  const found = questions.map(({ question, gold }, index): Found => {
    const start = performance.now();
    const search = from.search(question, vectors[index]!);
    const candidates = from.indexes.search([search], 10)[0]!;
    fuse(candidates);
    ms += (performance.now() - start) / questions.length;
    return {
      gold: from.placeOf(gold),
      candidates,
      words: search.worded.hits.map(({ id }) => id),
      near: [...candidates].sort((a, b) => b.cosine - a.cosine).map(({ id }) => id),
    };
  });
  return { found, ms };
}

async function lists(): Promise<void> {
  const all = await library();
  const rows: string[][] = [];
  for (const [name, questions] of sets) {
    const { found, ms } = await findAll(questions, all);
    const ways = {
      words: found.map(({ words, gold }) => ranks(words, gold)),
      vectors: found.map(({ near, gold }) => ranks(near, gold)),
      rrf: found.map(({ words, near, gold }) => ranks(byReciprocalRank([near, words]), gold)),
      both: found.map(({ candidates, gold }) =>
        ranks(
          fuse(candidates, background(all)).map(({ id }) => id),
          gold,
        ),
      ),
    };
    for (const [at, label] of [
      [0, "1"],
      [1, "10"],
    ] as const) {
      const of = (way: keyof typeof ways) => ways[way].map((each) => each[at]);
      const better = Number(percent(of("words"))) > Number(percent(of("vectors"))) ? "words" : "vectors";
      const { mean, low, high } = pairedBootstrap(of("both"), of(better));
      rows.push([
        name,
        `${questions.length}`,
        label,
        percent(of("words")),
        percent(of("vectors")),
        percent(of("rrf")),
        percent(of("both")),
        `${signed(mean)} (${signed(low)} to ${signed(high)})`,
        ms.toFixed(1),
      ]);
    }
  }
  table(["set", "questions", "rank", "words", "vectors", "by rank (k = 60)", "kvsplice", "against the better list", "ms per search"], rows);
}

const signed = (value: number) => `${value >= 0 ? "+" : ""}${value.toFixed(1)}`;

function background(from: Library) {
  return embedder.floor === undefined ? from.indexes.background() : undefined;
}

/** Score of the best passage for each question. */
async function bestScores(questions: readonly Question[], from: Library): Promise<number[]> {
  return (await findAll(questions, from)).found.map(({ candidates }) => fuse(candidates, background(from))[0]?.score ?? 0);
}

async function floors(): Promise<void> {
  const answerable = tune
    ? ([
        ["train nq", ["nq"]],
        ["train squad", ["squad"]],
        ["train boolq", ["boolq"]],
      ] as const)
    : ([
        ["NQ", ["nq"]],
        ["XQuAD", ["xquad"]],
        ["NQ", []],
        ["XQuAD", []],
      ] as const);
  const unanswerable = tune
    ? ([
        ["train nq", ["squad"]],
        ["train squad", ["nq"]],
        ["train boolq", ["squad"]],
        ["train squad", ["boolq"]],
      ] as const)
    : ([
        ["NQ", ["xquad"]],
        ["XQuAD", ["nq"]],
        ["2hop", ["nq"]],
        ["2hop", ["xquad"]],
        ["NQ", ["squad", "xquad", "boolq", "2wiki"]],
        ["XQuAD", ["nq", "boolq", "2wiki"]],
      ] as const);
  const levels = tune || embedder.floor === undefined ? Array.from({ length: 13 }, (_, index) => 0.26 + index / 100) : [embedder.floor];
  const rows: string[][] = [];
  const pooled = { lost: [] as number[], caught: [] as number[] };
  for (const [kind, pairs] of [
    ["lost", answerable],
    ["caught", unanswerable],
  ] as const) {
    for (const [index, [name, sources]] of pairs.entries()) {
      const from = await library(...sources);
      const scores = await bestScores(sets.get(name)!, from);
      if (index < 2) pooled[kind].push(...scores);
      rows.push([
        kind,
        name,
        sources.join(", ") || "all",
        `${from.passages.length}`,
        ...levels.map((level) => percent(scores.map((score) => (score < level ? 1 : 0)))),
      ]);
    }
  }
  for (const kind of ["lost", "caught"] as const)
    rows.push([kind, "first two", "", "", ...levels.map((level) => percent(pooled[kind].map((score) => (score < level ? 1 : 0))))]);
  table(["", "questions", "over passages of", "passages", ...levels.map((level) => `% below ${level.toFixed(2)}`)], rows);
}

/** Candidate signals of whether a corpus answers a question. */
const SIGNALS: Readonly<Record<string, (told: Told) => number>> = {
  "score of the best chunk (kvsplice)": ({ score }) => score,
  "its cosine": ({ cosine }) => cosine,
  "its BM25": ({ words }) => words,
  "the best coverage of ten": ({ coverage }) => coverage,
  "best cosine minus the next ten's mean": ({ cosineLead }) => cosineLead,
  "score minus the next ten's mean": ({ lead }) => lead,
  "score + 0.25 coverage": ({ score, coverage }) => score + 0.25 * coverage,
  "score + 0.5 coverage": ({ score, coverage }) => score + 0.5 * coverage,
  "score + 0.5 coverage + score's lead": ({ score, coverage, lead }) => score + 0.5 * coverage + lead,
  "score + 0.5 coverage + both leads": ({ score, coverage, lead, cosineLead }) => score + 0.5 * coverage + lead + cosineLead,
};

type Told = {
  readonly score: number;
  readonly cosine: number;
  readonly words: number;
  readonly coverage: number;
  readonly lead: number;
  readonly cosineLead: number;
};

async function toldOf(questions: readonly Question[], from: Library): Promise<Told[]> {
  const lead = (sorted: readonly number[]) => {
    const next = sorted.slice(1, 11);
    return (sorted[0] ?? 0) - next.reduce((sum, each) => sum + each, 0) / Math.max(1, next.length);
  };
  return (await findAll(questions, from)).found.map(({ candidates }) => {
    const by = new Map(candidates.map((each) => [each.id, each]));
    const hits = fuse(candidates, background(from));
    const best = hits[0] && by.get(hits[0].id);
    return {
      score: hits[0]?.score ?? 0,
      cosine: best?.cosine ?? 0,
      words: best?.words ?? 0,
      coverage: Math.max(0, ...hits.slice(0, 10).map(({ id }) => by.get(id)!.coverage)),
      lead: lead(hits.map(({ score }) => score)),
      cosineLead: lead(candidates.map(({ cosine }) => cosine).sort((a, b) => b - a)),
    };
  });
}

/** Floors that lose at most a given share of each training set's questions, and their effect on the others. */
async function signals(): Promise<void> {
  const training = await Promise.all(
    ["nq", "squad", "boolq"].map(async (source) =>
      toldOf(
        drawn(
          read<Question>(folder!, "qa_train").filter((each) => each.source === source),
          700,
        ),
        await library(source),
      ),
    ),
  );
  const own: Told[][] = [];
  const foreign: Told[][] = [];
  for (const [file, source, other] of [
    ["qa_eval_nq", "nq", "xquad"],
    ["qa_eval_xquad", "xquad", "nq"],
  ] as const) {
    const questions = read<Question>(folder!, file).slice(0, limit);
    own.push(await toldOf(questions, await library(source)));
    foreign.push(await toldOf(questions, await library(other)));
  }
  const rows: string[][] = [];
  for (const [name, signal] of Object.entries(SIGNALS)) {
    const below = (set: readonly Told[], level: number) => percent(set.map((each) => (signal(each) < level ? 1 : 0)));
    const levelOf = (set: readonly Told[], share: number) => set.map(signal).sort((a, b) => a - b)[Math.floor(share * (set.length - 1))]!;
    for (const share of [0.02, 0.01]) {
      const level = Math.min(...training.map((set) => levelOf(set, share)));
      rows.push([
        name,
        `${100 * share} %`,
        level.toFixed(3),
        ...own.map((set) => below(set, level)),
        ...foreign.map((set) => below(set, level)),
        ...own.map((set, index) => below(foreign[index]!, levelOf(set, 0.02))),
      ]);
    }
  }
  table(
    [
      "signal",
      "most lost of each training set",
      "floor",
      "NQ lost",
      "XQuAD lost",
      "NQ caught",
      "XQuAD caught",
      "NQ caught by its own floor",
      "XQuAD by its own",
    ],
    rows,
  );
}

async function followUps(): Promise<void> {
  const all = await library();
  const squad = read<Question>(folder!, "qa_train").filter(({ source }) => source === "squad");
  const pronouns = tune ? drawn(pronounFollowUps(squad, titles), limit) : pronounFollowUps(sets.get("XQuAD")!, titles);
  const kinds: [string, FollowUp[]][] = tune
    ? [
        ["train squad, with a pronoun", pronouns],
        ["train squad, a new topic", newBeginnings(sets.get("train squad")!)],
        ["train nq, a new topic", newBeginnings(sets.get("train nq")!)],
      ]
    : [
        ["XQuAD, with a pronoun", pronouns],
        ["2hop, the director", directorFollowUps(sets.get("2hop")!, titles)],
        ["XQuAD, a new topic", newBeginnings(sets.get("XQuAD")!)],
        ["NQ, a new topic", newBeginnings(sets.get("NQ")!)],
      ];
  const rows: string[][] = [];
  for (const [name, items] of kinds) {
    const readings = items.map(({ first, answer, question }) =>
      readingsOf(question, [
        { role: "user", content: first },
        { role: "assistant", content: answer },
      ]),
    );
    const search = async (texts: readonly string[]): Promise<Search[]> => {
      const vectors = await questionVectors(texts);
      return texts.map((text, index) => all.search(text, vectors[index]!));
    };
    const [plain, alone, behind] = [
      await search(items.map((item) => item.plain)),
      await search(items.map((item) => item.question)),
      await search(readings.map((each) => each.at(-1)!.text)),
    ];
    const ways: Record<string, (readonly [number, number])[]> = { plain: [], alone: [], behind: [], both: [] };
    const weights = tune ? [0.3, 0.4, 0.5, 0.6, 0.7] : [];
    for (const weight of weights) ways[`${weight}`] = [];
    items.forEach(({ gold: id }, index) => {
      const gold = all.placeOf(id);
      const order = (candidates: readonly Candidate[]) => fuse(candidates, background(all)).map((hit) => hit.id);
      ways["plain"]!.push(ranks(order(all.indexes.search([plain[index]!], 10)[0]!), gold));
      const [a, b] = all.indexes.search([alone[index]!, behind[index]!], 10).map((candidates) => fuse(candidates, background(all)));
      ways["alone"]!.push(
        ranks(
          a!.map((hit) => hit.id),
          gold,
        ),
      );
      ways["behind"]!.push(
        ranks(
          b!.map((hit) => hit.id),
          gold,
        ),
      );
      ways["both"]!.push(
        ranks(
          weigh(readings[index]!, [a!, b!]).map((hit) => hit.id),
          gold,
        ),
      );
      for (const weight of weights)
        ways[`${weight}`]!.push(
          ranks(
            weigh(
              [
                { text: "", weight: 1 - weight },
                { text: "", weight },
              ],
              [a!, b!],
            ).map((hit) => hit.id),
            gold,
          ),
        );
    });
    const cell = (way: string) => [0, 1].map((at) => percent(ways[way]!.map((each) => each[at]!))).join(" / ");
    rows.push([
      name,
      `${items.length}`,
      cell("alone"),
      cell("behind"),
      cell("both"),
      cell("plain"),
      ...weights.map((weight) => cell(`${weight}`)),
    ]);
  }
  table(
    [
      "rank 1 / 10 of",
      "questions",
      "the question only",
      "after earlier messages",
      "kvsplice: both",
      "the original question",
      ...(tune ? ["0.3", "0.4", "0.5", "0.6", "0.7"] : []),
    ],
    rows,
  );
}

/** Effect of the weights of BM25 and coverage relative to the cosine on the training questions, in points against the better list. */
async function tuneWeights(): Promise<void> {
  const all = await library();
  const found = await Promise.all([...sets.values()].map((questions) => findAll(questions, all).then((each) => each.found)));
  const share = (results: readonly (readonly [number, number])[], at: 0 | 1) =>
    (100 * results.reduce((sum, each) => sum + each[at], 0)) / results.length;
  const better = found.map((set) =>
    ([0, 1] as const).map((at) =>
      Math.max(
        share(
          set.map(({ words, gold }) => ranks(words, gold)),
          at,
        ),
        share(
          set.map(({ near, gold }) => ranks(near, gold)),
          at,
        ),
      ),
    ),
  );
  const tried = [0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8].flatMap((words) =>
    [0, 0.1, 0.2, 0.3, 0.4].map((coverage) => {
      const gains = found.map((set, index) => {
        const results = set.map(({ candidates, gold }) => {
          const scored = candidates.map((each) => ({ id: each.id, score: each.cosine + words * each.words + coverage * each.coverage }));
          return ranks(
            scored
              .sort((a, b) => b.score - a.score)
              .slice(0, 10)
              .map(({ id }) => id),
            gold,
          );
        });
        return ([0, 1] as const).map((at) => share(results, at) - better[index]![at]!);
      });
      return { words, coverage, gains, worst: Math.min(...gains.flat()), sum: gains.flat().reduce((sum, gain) => sum + gain, 0) };
    }),
  );
  const rows = tried
    .filter(({ worst }) => worst >= -1)
    .sort((a, b) => b.sum - a.sum)
    .slice(0, 10)
    .map(({ words, coverage, gains, worst, sum }) => [
      `${words}`,
      `${coverage}`,
      ...gains.map((gain) => gain.map(signed).join(" / ")),
      signed(worst),
      signed(sum),
    ]);
  table(["BM25", "coverage", ...[...sets.keys()].map((name) => `${name}, 1 / 10`), "worst", "sum"], rows);
}

if (tune && (only ?? "lists") === "lists") await tuneWeights();
if (!tune && (only ?? "lists") === "lists") await lists();
if ((only ?? "floor") === "floor") await floors();
if (only === "signals") await signals();
if ((only ?? "follow-ups") === "follow-ups") await followUps();
await embedder.close();
