import { type GenerateOptions, KvspliceError, type Link, linkText, type Model, type Plan, withoutCache } from "../../engine/index.js";
import { type Distance, distanceFrom, type Reference, referenceOf } from "./reference.js";

/** How one way of linking changed one answer, compared with full attention. */
export type Finding = Distance & {
  readonly question: string;
  /** In the form of `linkText`. */
  readonly link: string;
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

/** Options for an audit. */
export type AuditOptions = {
  readonly links: readonly Link[];
  /** Findings of an earlier audit, which are not measured again. None by default. */
  readonly known?: readonly Finding[];
  readonly signal?: AbortSignal | undefined;
  /** Called with each finding as soon as it is known. */
  readonly onFinding?: (finding: Finding) => void;
};

/** Full attention, as one of the links. */
export const FULL = "full";

/**
 * Compares ways of linking with full attention on questions without labels: full attention answers greedily, and each
 * way reports how likely it finds that answer, token by token. The measure ranks ways as labelled accuracy does
 * (docs/linking.md).
 *
 *     const questions = await questionsFrom(model, texts, 20);
 *     const planOf = async (question: string) => corpus.plan(question, await corpus.retrieve(question));
 *     const findings = await audit(model, questions, planOf, { links: [NO_LINK, parseLink("0.15")], store });
 *     console.log(summarise(findings, [FULL, "none", "0.15"]));
 *
 * @param planOf lays out a question over its documents
 * @throws KvspliceError `cancelled`, and the errors of `Model.generate`
 */
export async function audit(
  model: Model,
  questions: readonly string[],
  planOf: (question: string) => Promise<Plan>,
  options: AuditOptions & Pick<GenerateOptions, "store">,
): Promise<Finding[]> {
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
    if (signal?.aborted)
      throw new KvspliceError("cancelled", "Cancelled. The measurements so far are kept: the next audit continues from them.", {
        cause: signal.reason,
      });
    const plan = await planOf(question);
    const how = { ...(store && { store }), ...(signal && { signal }) };
    const reference = await referenceOf(model, withoutCache(plan), how);
    if (!had[0])
      note(
        { question, link: FULL, divergence: 0, sameFirst: true, sameAnswer: true, computed: 1, first_token_ms: reference.first_token_ms },
        true,
      );
    for (const [i, link] of links.entries()) {
      if (!had[i + 1]) note({ question, ...(await compare(model, plan, link, reference, how)) }, true);
    }
  }
  return findings;
}

async function compare(
  model: Model,
  plan: Plan,
  link: Link,
  reference: Reference,
  how: GenerateOptions,
): Promise<Omit<Finding, "question">> {
  const { distance, stats } = await distanceFrom(reference, model, plan, { ...how, link });
  const { computed_tokens, cached_tokens, encoded_tokens, first_token_ms } = stats;
  return {
    link: linkText(link),
    ...distance,
    computed: computed_tokens / (computed_tokens + cached_tokens + encoded_tokens),
    first_token_ms,
  };
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

/** The way within the tolerance that computes least; undefined if there is none. */
export function recommended(audits: readonly LinkAudit[], tolerance: number): LinkAudit | undefined {
  return audits
    .filter(({ link, divergence }) => link !== FULL && divergence <= tolerance)
    .toSorted((a, b) => a.computed - b.computed || a.first_token_ms - b.first_token_ms)[0];
}
