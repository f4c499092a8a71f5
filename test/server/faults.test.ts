import { expect, test } from "vitest";
import { hasRedis } from "../support/redis-server.js";
import { runWithFaults } from "../support/server/faults.js";
import { hasHaproxy } from "../support/server/servers.js";

test.skipIf(!hasHaproxy || !hasRedis)(
  "with servers and workers being killed behind HAProxy, every turn is answered as by one server (skipped if haproxy or redis-server is not installed)",
  async () => {
    const run = await runWithFaults({ conversations: 4, turns: 5, every_ms: 3_000, pause_ms: 2_000 });
    expect(run).toMatchObject({ turns: 20, equal: 20 });
    expect(run.killedServers).toBeGreaterThan(0);
    expect(run.killedWorkers).toBeGreaterThan(0);
  },
);
