import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "./redis-server.js";

/** Whether moto's server (pip install "moto[server]") is installed. Tests that need it are skipped otherwise. */
export const hasMoto = spawnSync("moto_server", ["--help"]).status === 0;

export const BUCKET = "blocks";

/** Starts a separate S3 server on loopback, with one bucket. */
export async function startMoto(): Promise<{ readonly url: string; stop(): Promise<void> }> {
  const port = await freePort();
  const child = spawn("moto_server", ["-H", "127.0.0.1", "-p", String(port)], { stdio: "ignore" });
  const exit = once(child, "exit");
  const url = `http://127.0.0.1:${port}`;
  for (
    let tries = 0;
    !(await fetch(`${url}/${BUCKET}`, {
      method: "PUT",
      headers: { authorization: "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request" },
    }).then(
      ({ ok }) => ok,
      () => false,
    ));
    tries++
  ) {
    if (tries > 200) throw new Error("moto_server did not start");
    await sleep(50);
  }
  return {
    url,
    async stop() {
      child.kill("SIGKILL");
      await exit;
    },
  };
}
