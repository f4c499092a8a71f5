/**
 * Kills a process that encodes, stores and writes in the background, at random moments (SIGKILL), and reports what was lost:
 * nothing must be. It starts its own Redis server; without the binary, the store has only its disk tier.
 *
 *     npx tsx bench/kill.ts [--kills 200]
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { killAgainAndAgain } from "../test/support/engine/kills.js";
import { hasRedis, startRedis } from "../test/support/redis-server.js";

const { values } = parseArgs({ options: { kills: { type: "string", default: "200" } } });
const dir = mkdtempSync(join(tmpdir(), "kvsplice-kill-"));
const server = hasRedis ? await startRedis() : undefined;
try {
  const redis = server && { redis: { url: server.url, prefix: "kill:" } };
  const figures = await killAgainAndAgain({ disk: { path: dir }, ...redis }, Number(values.kills), (done) => {
    if (process.stderr.isTTY) process.stderr.write(`\r${done} kills`);
  });
  console.log(figures);
  if (figures.lost + figures.damaged + figures.lost_in_redis > 0) process.exitCode = 1;
} finally {
  await server?.stop();
  rmSync(dir, { recursive: true, force: true });
}
