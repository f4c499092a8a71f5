import { once } from "node:events";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { hasRedis, type RedisServer, startRedis } from "../support/redis-server.js";
import { startFakeServing } from "../support/server/fake-serving.js";
import { converse, type Haproxy, hasHaproxy, reads, ServerProcess, startHaproxy } from "../support/server/servers.js";
import { remove } from "../support/server/serving.js";

const agentSays = async (port: number) => {
  const socket = connect(port, "127.0.0.1");
  const [line] = (await once(socket.setEncoding("ascii"), "data")) as [string];
  return line;
};

describe("a server", () => {
  test("tells HAProxy's agent-check how much load it can take, less the more requests wait, and that it is stopping", async () => {
    let release!: () => void;
    let held: Promise<void> | undefined;
    const serving = await startFakeServing({ agentPort: 0, limits: { queue: 4 }, before: () => held });
    held = new Promise((resolve) => (release = resolve));
    const load = async () => (await fetch(`${serving.url}/internal/load`)).json();
    expect(await agentSays(serving.agentPort!)).toBe("ready up 100%\n");
    expect(await load()).toMatchObject({ status: "up", weight: 100, waiting: 0, queue: 4, running: 0, queued: 0 });
    const asking = [1, 2].map((i) => converse(serving.url, { turns: 1, name: `client ${i}` }));
    while (serving.model.activity.running < 2) await sleep(5);
    expect(await agentSays(serving.agentPort!)).toBe("ready up 50%\n");
    expect(await load()).toMatchObject({ weight: 50, waiting: 2, running: 2 });
    const stopped = serving.stop(300);
    await sleep(20);
    expect(await agentSays(serving.agentPort!)).toBe("drain\n");
    expect(await (await fetch(`${serving.url}/healthz`)).json()).toMatchObject({ status: "draining" });
    release();
    expect((await Promise.all(asking)).flat()).toHaveLength(2);
    await stopped;
    remove(serving.folder);
  });

  test("sends an affinity token per conversation if set, which the client returns in a header or cookie", async () => {
    const serving = await startFakeServing({ affinity: true });
    onTestFinished(async () => {
      await serving.stop();
      remove(serving.folder);
    });
    const ask = async (headers: Record<string, string> = {}, more: object = {}) => {
      const response = await fetch(`${serving.url}/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json", ...headers },
        body: JSON.stringify({ messages: [{ role: "user", content: "Hello." }], max_tokens: 2, ...more }),
      });
      await response.text();
      return { token: response.headers.get("x-kvsplice-affinity"), cookie: response.headers.get("set-cookie") };
    };
    const [first, second] = [await ask(), await ask()];
    expect(first.token).toMatch(/^[0-9a-f]{8}-[0-9a-f]{16}$/);
    expect(second.token).not.toBe(first.token);
    expect(first.cookie).toBe(`kvsplice-affinity=${first.token}; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax`);
    expect((await ask({ "x-kvsplice-affinity": first.token! }, { stream: true })).token).toBe(first.token);
    expect((await ask({ cookie: `kvsplice-affinity=${first.token}` })).token).toBe(first.token);
    expect((await ask({ "x-kvsplice-affinity": "; drop" })).token).toMatch(/^[0-9a-f]{8}-[0-9a-f]{16}$/);
    const plain = await startFakeServing();
    const response = await fetch(`${plain.url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ messages: [{ role: "user", content: "Hello." }], max_tokens: 2 }),
    });
    expect([response.headers.get("x-kvsplice-affinity"), response.headers.get("set-cookie")]).toEqual([null, null]);
    await plain.stop();
    remove(plain.folder);
  });
});

describe.skipIf(!hasHaproxy || !hasRedis)("three servers behind HAProxy as in examples/deploy, with Redis", () => {
  const TURNS = 5;
  const NAMES = Array.from({ length: 12 }, (_, i) => `keeper ${i}`);
  let redis: RedisServer;
  let servers: ServerProcess[];
  let proxy: Haproxy;
  let expected: Map<string, string[]>;
  beforeAll(async () => {
    redis = await startRedis();
    servers = await ServerProcess.prepare(3, { redis: redis.url, pass_ms: 5, notice_ms: 800 });
    await Promise.all(servers.map((server) => server.start()));
    proxy = await startHaproxy(servers);
    const alone = await startFakeServing();
    expected = new Map(
      await Promise.all(
        NAMES.map(async (name) => [name, (await converse(alone.url, { turns: TURNS, name })).map(({ text }) => text)] as const),
      ),
    );
    await alone.stop();
    remove(alone.folder);
  });
  afterAll(async () => {
    await proxy?.stop();
    for (const server of servers) await server.kill();
    await redis.stop();
  });

  test("a conversation returns to the server that has it in memory", async () => {
    const said = await Promise.all(NAMES.map((name) => converse(proxy.url, { turns: TURNS, name, pause_ms: 50 })));
    expect(said.map((turns) => turns.map(({ text }) => text))).toEqual(NAMES.map((name) => expected.get(name)));
    const counted = await Promise.all(servers.map(({ url }) => reads(url)));
    const memory = counted.reduce((sum, { memory = 0 }) => sum + memory, 0);
    const shared = counted.reduce((sum, { redis = 0 }) => sum + redis, 0);
    // The first turn has no token and goes anywhere. From the second on, each conversation has its server, except when the bound
    // moves a turn. With round robin, less than half is in memory.
    expect(memory).toBeGreaterThan(1.5 * shared);
    expect(counted.every(({ memory = 0 }) => memory > 0)).toBe(true);
  });

  test("with one server killed and one drained during conversations, every turn is answered as by a single server", async () => {
    let turns = 0;
    const faults: Promise<void>[] = [];
    const said = await Promise.all(
      NAMES.map((name) =>
        converse(proxy.url, {
          turns: TURNS,
          name,
          pause_ms: 100,
          onTurn() {
            turns++;
            if (turns === NAMES.length) faults.push(servers[0]!.kill());
            if (turns === 2 * NAMES.length) faults.push(servers[1]!.drain());
          },
        }),
      ),
    );
    await Promise.all(faults);
    expect(servers.map(({ runs }) => runs)).toEqual([false, false, true]);
    expect(said.map((each) => each.map(({ text }) => text))).toEqual(NAMES.map((name) => expected.get(name)));
    // The proxy repeated requests; no client had to.
    expect(said.flat().flatMap(({ failures }) => failures)).toEqual([]);
  });
});
