/**
 * One machine with three servers, HAProxy, Redis, two workers, and a bucket if moto_server is installed: conversations during which a
 * server or a worker is killed every few seconds, with a model without weights. Every turn is compared with that of a server that is
 * never killed.
 *
 *     npx tsx bench/faults.ts --conversations 20 --turns 10 --every 10
 */

import { BUCKET, hasMoto, startMoto } from "../test/support/moto-server.js";
import { runWithFaults } from "../test/support/server/faults.js";
import { numberOption } from "./serving.js";

process.env["AWS_ACCESS_KEY_ID"] ??= "test";
process.env["AWS_SECRET_ACCESS_KEY"] ??= "test";
const s3 = hasMoto ? await startMoto() : undefined;
if (!s3) console.log('Without a bucket: moto_server is not installed (pip install "moto[server]").');
try {
  const start = performance.now();
  const run = await runWithFaults({
    conversations: numberOption("conversations", 20),
    turns: numberOption("turns", 10),
    every_ms: 1000 * numberOption("every", 10),
    pause_ms: numberOption("pause", 6_000),
    objects: s3 && { url: `s3://${BUCKET}/faults`, endpoint: s3.url },
  });
  console.table([{ ...run, seconds: Math.round((performance.now() - start) / 1000) }]);
  if (run.equal < run.turns) process.exitCode = 1;
} finally {
  await s3?.stop();
}
