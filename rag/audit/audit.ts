import { KvspliceError, linkText, withoutCache, type GenerateOptions, type Link, type Model, type Plan } from "../../engine/index.js";
import { agreementOf } from "../eval/agreement.js";

/** What one way of linking did to one answer, held against full attention's. */
export type Finding = {
  readonly question: string;
  /** As `linkText` writes it. */
  readonly link: string;
  /**
   * How far the answer's distribution is from full attention's: the sum over the tokens of full attention's own answer, each
   * given those before it, of the KL divergence, 1 nat at most, so that no question decides alone.
   */
  readonly divergence: number;
  readonly sameFirst: boolean;
  /** Whether every token of full attention's answer is the likeliest here as well. */
  readonly sameAnswer: boolean;
  /** Share of the prompt's tokens that were computed for the question. */
  readonly computed: number;
  readonly first_token_ms: number;
};

/** Means over questions. */
export type LinkAudit = {
  readonly link: string;
  readonly questions: number;
  readonly divergence: number;
  /** In percent. */
  readonly same_first_token: number;
  readonly same_answer: number;
  readonly computed: number;
  readonly first_token_ms: number;
};

export type AuditOptions = {
  readonly links: readonly Link[];
  /** What an earlier audit found: it is not measured again. */
  readonly known?: readonly Finding[];
  readonly signal?: AbortSignal | undefined;
  /** Called with each finding, as soon as it is there. */
  readonly onFinding?: (finding: Finding) => void;
};

/** Full attention, among the links. */
export const FULL = "full";

const MOST_DIVERGENCE = 1;
/** Of full attention's answer, as many tokens are compared. */
const ANSWER_TOKENS = 24;

/**
 * Holds ways of linking against full attention on questions without labels: full attention answers greedily, and each
 * way says how likely it finds that answer, token by token. The measure orders ways as labelled accuracy does
 * (docs/linking.md).
 *
 * @param planOf lays out a question over its documents
 * @throws KvspliceError `cancelled`, and those of `Model.generate`
 */
export async function audit(model: Model, questions: readonly string[], planOf: (question: string) => Promise<Plan>, options: AuditOptions & Pick<GenerateOptions, "store">): Promise<Finding[]> {
  const { links, known = [], signal, onFinding, store } = options;
  const names = [FULL, ...links.map(linkText)];
  const findings: Finding[] = [];
  const note = (finding: Finding, fresh: boolean) => {
    findings.push(finding);
    if (fresh) onFinding?.(finding);
  };
  for (const question of questions) {
    const had = names.map((link) => known.find((finding) => finding.question === question && finding.link === link));
    had.forEach((finding) => finding && note(finding, false));
    if (had.every(Boolean)) continue;
    if (signal?.aborted) throw new KvspliceError("cancelled", "Cancelled. What was measured is kept: the next audit goes on from it.", { cause: signal.reason });
    const plan = await planOf(question);
    const how = { ...(store && { store }), ...(signal && { signal }) };
    const reference = await answerInFull(model, plan, how);
    if (!had[0]) note({ question, link: FULL, divergence: 0, sameFirst: true, sameAnswer: true, computed: 1, first_token_ms: reference.first_token_ms }, true);
    for (const [i, link] of links.entries()) {
      if (!had[i + 1]) note({ question, ...(await compare(model, plan, link, reference, how)) }, true);
    }
  }
  return findings;
}

type Reference = { readonly answer: readonly number[]; readonly logits: readonly Float32Array[]; readonly first_token_ms: number };

async function answerInFull(model: Model, plan: Plan, how: GenerateOptions): Promise<Reference> {
  const answer: number[] = [];
  const logits: Float32Array[] = [];
  const generation = model.generate(withoutCache(plan), { ...how, maxNewTokens: ANSWER_TOKENS, temperature: 0, stop: model.card.stop ?? [], onLogits: (own) => logits.push(own.slice()) });
  for await (const { id } of generation) if (id >= 0) answer.push(id);
  const { first_token_ms } = await generation.stats;
  // Where the model ended its answer, the end token is one that it chose, too.
  if (logits.length > answer.length) answer.push(likeliest(logits[answer.length]!));
  return { answer, logits: logits.slice(0, answer.length), first_token_ms };
}

async function compare(model: Model, plan: Plan, link: Link, { answer, logits }: Reference, how: GenerateOptions): Promise<Omit<Finding, "question">> {
  const start = model.generate(plan, { ...how, link, maxNewTokens: 1, temperature: 0 });
  await start.text;
  const { computed_tokens, cached_tokens, first_token_ms } = await start.stats;
  const own = await model.score(plan, answer, { ...how, link });
  const agreements = logits.map((reference, t) => agreementOf(reference, own[t]!));
  return {
    link: linkText(link),
    divergence: Math.min(MOST_DIVERGENCE, agreements.reduce((sum, { kl }) => sum + kl, 0)),
    sameFirst: agreements[0]!.same,
    sameAnswer: agreements.every(({ same }) => same),
    computed: computed_tokens / (computed_tokens + cached_tokens),
    first_token_ms,
  };
}

function likeliest(logits: Float32Array): number {
  return logits.reduce((best, value, i) => (value > logits[best]! ? i : best), 0);
}

/** Means of the findings, in the order of the links. */
export function summarise(findings: readonly Finding[], links: readonly string[]): LinkAudit[] {
  return links.map((link) => {
    const own = findings.filter((finding) => finding.link === link);
    const mean = (of: (finding: Finding) => number) => own.reduce((sum, finding) => sum + of(finding), 0) / own.length;
    return {
      link,
      questions: own.length,
      divergence: mean(({ divergence }) => divergence),
      same_first_token: 100 * mean(({ sameFirst }) => Number(sameFirst)),
      same_answer: 100 * mean(({ sameAnswer }) => Number(sameAnswer)),
      computed: 100 * mean(({ computed }) => computed),
      first_token_ms: mean(({ first_token_ms }) => first_token_ms),
    };
  });
}

/** The cheapest way that is within the tolerance, by what it computes; undefined where none is. */
export function recommended(audits: readonly LinkAudit[], tolerance: number): LinkAudit | undefined {
  return audits.filter(({ link, divergence }) => link !== FULL && divergence <= tolerance).toSorted((a, b) => a.computed - b.computed || a.first_token_ms - b.first_token_ms)[0];
}
