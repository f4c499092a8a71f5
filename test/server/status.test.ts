import { expect, test } from "vitest";
import { KvspliceError } from "../../plan/index.js";
import { startFakeServing } from "../support/server/fake-serving.js";
import { remove } from "../support/server/serving.js";

test("/healthz is 503 after a model has died, so that the server is restarted", async () => {
  const serving = await startFakeServing();
  const health = async () => {
    const response = await fetch(`${serving.url}/healthz`);
    return { code: response.status, ...((await response.json()) as { status: string }) };
  };
  await serving.client.chat.completions.create({
    model: serving.model.name,
    messages: [{ role: "user", content: "Hello" }],
    max_tokens: 2,
  });
  expect(await health()).toMatchObject({ code: 200, status: "ok" });
  serving.backend.failure = new KvspliceError("closed", "The thread ended.");
  expect(await health()).toMatchObject({ code: 503, status: "failed" });
  await serving.stop();
  remove(serving.folder);
});

test("polling the server's state every second does not fill the log while all is well", async () => {
  const serving = await startFakeServing({ apiKeys: ["secret"] });
  const ask = (path: string, headers: Record<string, string> = {}) => fetch(`${serving.url}${path}`, { headers });
  const paths = () => serving.logged.filter(({ msg }) => msg === "request").map(({ path }) => path);
  for (const path of ["/healthz", "/internal/load"]) expect((await ask(path)).status).toBe(200);
  expect((await ask("/metrics", { authorization: "Bearer secret" })).status).toBe(200);
  expect((await ask("/v1/models", { authorization: "Bearer secret" })).status).toBe(200);
  await expect.poll(paths).toEqual(["/v1/models"]);
  expect((await ask("/metrics")).status).toBe(401);
  serving.backend.failure = new KvspliceError("closed", "The thread ended.");
  expect((await ask("/healthz")).status).toBe(503);
  await expect.poll(paths).toEqual(["/v1/models", "/metrics", "/healthz"]);
  await serving.stop();
  remove(serving.folder);
});
