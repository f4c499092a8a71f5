/**
 * Three servers behind HAProxy, with a model without weights: where blocks of conversations are read, by routing method. Every
 * conversation is answered turn by turn, with pauses for the turns of others.
 *
 *     npx tsx bench/routing.ts --conversations 24 --turns 6
 *
 * It needs haproxy and redis-server. For the value of a hit, docs/store.md has the times of memory, disk and Redis.
 */

import { startRedis } from "../test/support/redis-server.js";
import { converse, hasHaproxy, reads, ServerProcess, startHaproxy } from "../test/support/server/servers.js";
import { numberOption } from "./serving.js";

if (!hasHaproxy) throw new Error("haproxy is not installed (apt-get install haproxy).");
const [conversations, turns] = [numberOption("conversations", 24), numberOption("turns", 6)];

const ROUTING: Record<string, (config: string) => string> = {
  "round robin": (config) =>
    config
      .replace(/ {2}(balance hash|hash-type|hash-balance-factor).*\n/g, "")
      .replace("backend servers\n", "backend servers\n  balance roundrobin\n"),
  "least connections": (config) =>
    config
      .replace(/ {2}(balance hash|hash-type|hash-balance-factor).*\n/g, "")
      .replace("backend servers\n", "backend servers\n  balance leastconn\n"),
  hashing: (config) => config.replace(/ {2}hash-balance-factor.*\n/g, ""),
  "hashing, bounded load": (config) => config,
};

const rows: Record<string, string | number>[] = [];
for (const [routing, change] of Object.entries(ROUTING)) {
  const redis = await startRedis();
  const servers = await ServerProcess.prepare(3, { redis: redis.url, pass_ms: 2 });
  await Promise.all(servers.map((server) => server.start()));
  const proxy = await startHaproxy(servers, change);
  try {
    await Promise.all(
      Array.from({ length: conversations }, (_, i) => converse(proxy.url, { turns, name: `client ${i}`, pause_ms: 50 + 10 * i })),
    );
    const counted = await Promise.all(servers.map(({ url }) => reads(url)));
    const of = (tier: string) => counted.reduce((sum, each) => sum + (each[tier] ?? 0), 0);
    const [memory, disk, shared] = [of("memory"), of("disk"), of("redis")];
    const all = memory + disk + shared;
    const each = counted.map(({ memory = 0, disk = 0, redis = 0 }) => memory + disk + redis);
    rows.push({
      routing,
      reads: all,
      "in memory": `${Math.round((100 * memory) / all)} %`,
      "on disk": `${Math.round((100 * disk) / all)} %`,
      "from Redis": `${Math.round((100 * shared) / all)} %`,
      "busiest / mean": ((3 * Math.max(...each)) / all).toFixed(2),
    });
  } finally {
    await proxy.stop();
    for (const server of servers) await server.kill();
    await redis.stop();
  }
}
console.table(rows);
