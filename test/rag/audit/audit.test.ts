import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type Link, loadModel, type Model } from "../../../engine/index.js";
import { PlanWriter } from "../../../plan/index.js";
import { audit, type Finding, FULL, recommended, summarise } from "../../../rag/audit/audit.js";

const LINKS: readonly Link[] = [{ kind: "none" }, { kind: "question", share: 1 }];
const QUESTIONS = ["How long does the ferry take?", "How many cars does it carry?"];

let model: Model;
beforeAll(async () => {
  model = await loadModel({ activations: "float32", precision: "float32" });
});
afterAll(() => model.close());

async function planOf(question: string) {
  const control = (text: string) => model.tokenizer.encode(text, { control: true });
  const writer = new PlanWriter().block({ tokens: control(model.card.prompt.system) });
  for (const text of ["The ferry at Dollis crosses the river in four minutes.", "It carries six cars and a van."])
    writer.block({ tokens: model.tokenizer.encode(`Title: Ferry\n${text}\n`) }, { loose: true });
  return writer.fresh(control(model.card.prompt.question.replace("{question}", question)), { asks: true }).plan;
}

describe("an audit", () => {
  test("finds that recomputing everything equals full attention, and that splicing does not; known results are not measured again", async () => {
    const [answers, scores] = [vi.spyOn(model, "generate"), vi.spyOn(model, "score")];
    const fresh: Finding[] = [];
    const findings = await audit(model, QUESTIONS, planOf, { links: LINKS, onFinding: (finding) => fresh.push(finding) });
    expect(fresh).toEqual(findings);
    // Each prompt is computed once: full attention's for its answer, the others' for that answer's likelihood.
    expect([answers.mock.calls.length, scores.mock.calls.length]).toEqual([QUESTIONS.length, QUESTIONS.length * LINKS.length]);
    vi.restoreAllMocks();
    const [full, spliced, all] = summarise(findings, [FULL, "none", "1"]);
    expect(full).toMatchObject({ questions: 2, divergence: 0, same_answer: 100, computed: 100 });
    expect(all!.divergence).toBeLessThan(1e-3);
    expect(all).toMatchObject({ same_first_token: 100, same_answer: 100 });
    expect(spliced!.divergence).toBeGreaterThan(all!.divergence);
    expect(spliced!.computed).toBeLessThan(all!.computed);

    const again: Finding[] = [];
    expect(
      await audit(model, QUESTIONS, planOf, { links: LINKS, known: findings.slice(0, 3), onFinding: (finding) => again.push(finding) }),
    ).toHaveLength(6);
    expect(again.map(({ question }) => question)).toEqual([QUESTIONS[1], QUESTIONS[1], QUESTIONS[1]]);
  });

  test("ends when it is cancelled, and says what happens next", async () => {
    await expect(audit(model, QUESTIONS, planOf, { links: LINKS, signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: "cancelled",
      message: expect.stringContaining("continues"),
    });
  });
});

test("recommends the cheapest way within the tolerance, and never full attention", () => {
  const of = (link: string, divergence: number, computed: number) => ({
    link,
    divergence,
    computed,
    questions: 9,
    same_first_token: 0,
    same_answer: 0,
    first_token_ms: 1,
  });
  const audits = [of(FULL, 0, 100), of("none", 0.8, 2), of("0.15", 0.3, 17), of("0.3", 0.1, 31)];
  expect(recommended(audits, 0.3)?.link).toBe("0.15");
  expect(recommended(audits, 0.2)?.link).toBe("0.3");
  expect(recommended(audits, 0.05)).toBeUndefined();
  expect(recommended(audits, 1)?.link).toBe("none");
});
