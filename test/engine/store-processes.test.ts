import { expect, test } from "vitest";
import { killAgainAndAgain } from "../support/engine/kills.js";
import { shareStore } from "../support/engine/sharing.js";
import { temporaryFolder } from "../support/rag/temporary-folder.js";
import { hasRedis, startRedis } from "../support/redis-server.js";

// The long forms of these are bench/kill.ts and bench/many-processes.ts.

test("killing processes while they put and write behind loses no acknowledged block, and the next run completes the store", async () => {
  const server = hasRedis ? await startRedis() : undefined;
  try {
    const config = { disk: { path: await temporaryFolder() }, ...(server && { redis: { url: server.url, prefix: "kills:" } }) };
    const figures = await killAgainAndAgain(config, 6);
    expect(figures).toMatchObject({ kills: 6, lost: 0, damaged: 0, lost_in_redis: 0 });
    expect(figures.acknowledged).toBeGreaterThan(0);
  } finally {
    await server?.stop();
  }
});

test("3 processes asking and 2 precomputing on one store: no wrong values, and each block is encoded once", async () => {
  const figures = await shareStore({ memory: { budget: 2 ** 22 }, disk: { path: await temporaryFolder() } }, 3, 2, 200, 0);
  expect(figures).toMatchObject({ wrong: 0, damaged: 0, failed: 0, duplicates: 0 });
  expect(figures.encoded).toBe(200);
  expect(figures).toMatchObject({ stored_by_precompute: 400, answers: 150 });
});
