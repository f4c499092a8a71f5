import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { GenerationStats } from "../../engine/index.js";
import { ServiceLevel } from "../../server/service-level.js";
import { startFakeServing } from "../support/server/fake-serving.js";
import { remove } from "../support/server/serving.js";

const took = (times: Partial<GenerationStats>) =>
  ({ queue_ms: 0, first_token_ms: 100, per_token_ms: 20, total_ms: 1_000, generated_tokens: 10, ...times }) as GenerationStats;
const at = (running: number, queued = 0) => ({ running, queued, places: 8 });
const refusal = (code: string) => expect.objectContaining({ status: 429, code });

describe("a service level", () => {
  test("refuses answers that would wait too long for their first token, and says when to try again", () => {
    const level = new ServiceLevel({ firstToken_ms: 500 });
    level.observe(took({}), 1);
    level.admit(at(7)); // a place is free: 100 ms
    level.admit(at(8, 2)); // 3 of 8 places of 1 s each must become free: 475 ms
    expect(() => level.admit(at(8, 20))).toThrow(refusal("slow_first_token"));
    try {
      level.admit(at(8, 20));
    } catch (error) {
      // 21 / 8 s and 100 ms, less the 500 ms.
      expect((error as { headers: object }).headers).toEqual({ "retry-after": "3" });
    }
  });

  test("refuses answers that would slow tokens down beyond the limit, as measured with as many together", () => {
    const level = new ServiceLevel({ token_ms: 50 });
    level.observe(took({ per_token_ms: 30 }), 3);
    level.observe(took({ per_token_ms: 70 }), 6);
    level.admit(at(2));
    level.admit(at(4));
    expect(() => level.admit(at(5))).toThrow(refusal("slow_token"));
    expect(() => level.admit(at(8))).toThrow(refusal("slow_token"));
  });

  test("admits every request if the server is idle, and trusts no measurement for longer than half a minute", () => {
    let now = 0;
    const level = new ServiceLevel({ firstToken_ms: 50 }, () => now);
    level.admit(at(8, 60)); // nothing has been measured
    level.observe(took({}), 1);
    level.admit(at(0));
    expect(() => level.admit(at(1))).toThrow(refusal("slow_first_token"));
    now = 31_000;
    level.admit(at(1));
  });
});

describe("a server with goals, shared by keys", () => {
  let serving: Awaited<ReturnType<typeof startFakeServing>>;
  let hold: Promise<void> | undefined;
  beforeAll(async () => {
    serving = await startFakeServing({
      goals: { firstToken_ms: 1, token_ms: 10_000 },
      apiKeys: ["alpha", "omega"],
      fair: true,
      before: () => hold,
    });
  });
  afterAll(async () => {
    await serving.stop();
    remove(serving.folder);
  });
  const ask = (key = "alpha") =>
    fetch(`${serving.url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${key}` },
      body: JSON.stringify({ messages: [{ role: "user", content: "Hello." }], max_tokens: 3 }),
    });

  test("refuses at once what would miss the goals, and counts held, missed and refused answers", async () => {
    expect((await ask()).status).toBe(200); // it took more than a millisecond
    let release!: () => void;
    hold = new Promise((resolve) => (release = resolve));
    const waiting = ask("omega");
    while (serving.model.activity.running === 0) await new Promise((wake) => setTimeout(wake, 5));
    const refused = await ask();
    expect([refused.status, refused.headers.get("retry-after")]).toEqual([429, "1"]);
    expect(await refused.json()).toMatchObject({ error: { code: "slow_first_token", type: "rate_limit_error" } });
    release();
    hold = undefined;
    expect((await waiting).status).toBe(200);
    const metrics = await (await fetch(`${serving.url}/metrics`, { headers: { authorization: "Bearer alpha" } })).text();
    expect(metrics).toMatch(/kvsplice_answers_total\{goals="missed"\} 2/);
    expect(metrics).toMatch(/kvsplice_answers_total\{goals="refused"\} 1/);
  });
});
