import { setImmediate } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import type { Client, Plan } from "../../engine/index.js";
import { Admission } from "../../engine/schedule/admission.js";
import { Scheduler } from "../../engine/schedule/scheduler.js";
import { CREDIT_TOKENS, Shares } from "../../engine/schedule/shares.js";
import { FakeBackend, fakeEngine, VOCABULARY } from "../support/engine/fake-backend.js";

const client = (id: string, weight = 1): Client => ({ id, weight });
const [GREEDY, POLITE, OTHER] = ["greedy", "polite", "other"].map((id) => client(id)) as [Client, Client, Client];

const promptOf = (tokens: number): Plan => ({ pieces: [{ tokens: Array.from({ length: tokens }, (_, i) => i % VOCABULARY), at: 0 }] });
const PROMPT = promptOf(300);
const idle = () => new Promise((resolve) => setTimeout(resolve, 5));

/** Passes from the polite client's request to its first token, alongside the earlier requests of others, and the answers that a pass continues. */
async function passesToFirstToken(others: readonly (Client | undefined)[], own: Client | undefined): Promise<number> {
  return (await untilFirstToken(others, own)).passes;
}

async function untilFirstToken(others: readonly (Client | undefined)[], own: Client | undefined) {
  const backend = new FakeBackend();
  const engine = fakeEngine(backend);
  const ask = (whose: Client | undefined) => engine.generate(PROMPT, { maxNewTokens: 40, ...(whose && { client: whose }) });
  const running = others.map(async (whose) => await ask(whose).text);
  while (backend.passes.length < 10) await setImmediate();
  const before = backend.passes.length;
  const polite = ask(own);
  await polite.begun;
  const passes = backend.passes.length - before;
  // The pass that was running when the request came is not counted.
  const steps = Math.max(
    ...backend.passes.slice(before + 1, backend.passes.length).map((pass) => pass.filter((tokens) => tokens === 1).length),
  );
  await Promise.all([polite.text, ...running]);
  await engine.close();
  return { passes, steps };
}

describe("a client with 50 requests at once", () => {
  const greedy = Array.from({ length: 50 }, () => GREEDY);

  test("delays another client's first token to at most 1.5 times that alongside one request", async () => {
    const besideOne = await passesToFirstToken([OTHER], POLITE);
    expect(await passesToFirstToken(greedy, POLITE)).toBeLessThanOrEqual(1.5 * besideOne);
  });

  test("makes no pass of that time longer: one of its answers continues in each, and afterwards all do", async () => {
    const besideOne = await untilFirstToken([OTHER], POLITE);
    expect((await untilFirstToken(greedy, POLITE)).steps).toBe(besideOne.steps);
    expect(
      (
        await untilFirstToken(
          greedy.map(() => undefined),
          undefined,
        )
      ).steps,
    ).toBeGreaterThan(besideOne.steps);
  });

  test("delays it more if all are served in order of arrival, which is why there are shares", async () => {
    const besideOne = await passesToFirstToken([undefined], undefined);
    expect(
      await passesToFirstToken(
        greedy.map(() => undefined),
        undefined,
      ),
    ).toBeGreaterThan(5 * besideOne);
  });
});

describe("clients that need more than there is", () => {
  /** Tokens computed for each client while both had work. */
  async function shared(clients: readonly Client[]): Promise<number[]> {
    const backend = new FakeBackend({ passTokens: 50 });
    const scheduler = new Scheduler(backend, new Shares());
    const done = clients.map(() => 0);
    let over = false;
    const working = clients.map(async (whose, i) => {
      for (let n = 0; n < 60 && !over; n++) {
        const tokens = Array.from({ length: 100 }, () => 1);
        await scheduler.compute({ cache: backend.createCache(), tokens, positions: [...tokens.keys()], logits: 1 }, undefined, {
          client: whose,
        });
        if (!over) done[i]! += tokens.length;
      }
      over = true;
    });
    await Promise.all(working);
    return done;
  }

  test("get shares of the tokens in proportion to their weights", async () => {
    const [one, twice] = (await shared([client("one"), client("twice", 2)])) as [number, number];
    expect(twice / one).toBeGreaterThan(1.8);
    expect(twice / one).toBeLessThan(2.2);
  });
});

describe("virtual counters", () => {
  test("of a returning client start one prompt below the lowest active one: it has saved up no more", () => {
    const shares = new Shares();
    for (const each of [GREEDY, OTHER]) shares.enter(each);
    shares.computed(GREEDY, 9000);
    shares.computed(OTHER, 4000);
    shares.enter(POLITE);
    expect(shares.countOf(POLITE)).toBe(4000 - CREDIT_TOKENS);
    shares.leave(POLITE);
    shares.computed(OTHER, 1000);
    shares.enter(POLITE);
    expect(shares.countOf(POLITE)).toBe(5000 - CREDIT_TOKENS);
  });
});

describe("admission of clients that share", () => {
  const atOnce = () => Promise.resolve();

  test("lets no client take the last place, and admits the least served waiting client first", async () => {
    const shares = new Shares();
    const admission = new Admission(4, shares);
    const entered: string[] = [];
    const enter = (whose: Client) => admission.enter(atOnce, undefined, whose).then(() => void entered.push(whose.id));
    for (let i = 0; i < 6; i++) void enter(GREEDY);
    await idle();
    expect(admission.running).toBe(3);
    await enter(POLITE);
    shares.computed(GREEDY, 500);
    void enter(POLITE);
    await idle();
    expect(admission.running).toBe(4);
    admission.leave(GREEDY); // the free place is the last one
    admission.leave(GREEDY);
    await idle();
    expect(admission.running).toBe(3);
    expect(entered.slice(-2)).toEqual(["polite", "polite"]);
  });

  test("lets a client that is alone take every place but the last, and the only place if there is one", async () => {
    const admission = new Admission(1, new Shares());
    await admission.enter(atOnce, undefined, GREEDY);
    expect(admission.running).toBe(1);
    admission.leave(GREEDY);
    expect(admission.running).toBe(0);
  });
});

describe("a background encoding", () => {
  const partOf = (backend: FakeBackend, tokens: number) => ({
    cache: backend.createCache(),
    tokens: Array.from({ length: tokens }, () => 1),
    positions: Array.from({ length: tokens }, (_, i) => i),
    logits: 0,
  });

  test("lets a prompt go first between two of its passes", async () => {
    let prompt: Promise<unknown> | undefined;
    const ended: string[] = [];
    const backend: FakeBackend = new FakeBackend({
      passTokens: 10,
      before: () => void (prompt ??= scheduler.compute(partOf(backend, 30)).then(() => ended.push("prompt"))),
    });
    const scheduler = new Scheduler(backend);
    await scheduler.compute(partOf(backend, 60), undefined, { background: true }).then(() => ended.push("later"));
    await prompt;
    expect(ended).toEqual(["prompt", "later"]);
  });

  test("is not starved by prompts that keep coming", async () => {
    const backend = new FakeBackend({ passTokens: 10 });
    const scheduler = new Scheduler(backend);
    let over = false;
    const later = scheduler.compute(partOf(backend, 50), undefined, { background: true }).then(() => (over = true));
    let prompts = 0;
    while (!over) {
      await scheduler.compute(partOf(backend, 20));
      prompts++;
    }
    await later;
    expect(prompts).toBeGreaterThan(10);
  });
});
