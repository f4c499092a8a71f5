import { expect, test } from "vitest";
import { hasRedis, startRedis } from "../redis-server.js";
import { temporaryFolder } from "../rag/temporary-folder.js";
import { killAgainAndAgain } from "./kills.js";
import { shareStore } from "./sharing.js";

// The long forms of these are bench/kill.ts and bench/many-processes.ts.

test("killed at any moment of putting and writing behind: no acknowledged block is lost, and the next run completes the store", async () => {
  const server = hasRedis ? await startRedis() : undefined;
  try {
    const config = { disk: { path: await temporaryFolder() }, ...(server && { redis: { url: server.url, prefix: "kills:" } }) };
    const figures = await killAgainAndAgain(config, 10);
    expect(figures).toMatchObject({ kills: 10, lost: 0, damaged: 0, lost_in_redis: 0 });
    expect(figures.acknowledged).toBeGreaterThan(0);
  } finally {
    await server?.stop();
  }
});

test("3 processes that ask and 2 that precompute on one store: nothing wrong, and each block is encoded once", async () => {
  const figures = await shareStore({ memory: { budget: 2 ** 22 }, disk: { path: await temporaryFolder() } }, 3, 2, 200, 6);
  expect(figures).toMatchObject({ wrong: 0, damaged: 0, failed: 0, duplicates: 0 });
  expect(figures.encoded).toBe(200);
});
