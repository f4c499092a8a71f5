import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, test } from "vitest";
import { KvspliceError } from "../../plan/index.js";
import { Thread } from "../../runtime/thread.js";
import type { TestCalls } from "../support/runtime/thread-program.js";

const PROGRAM = new URL("../support/runtime/thread-program.js", import.meta.url);

let thread: Thread<TestCalls>;
let news: number[];
beforeEach(() => {
  news = [];
  thread = new Thread<TestCalls>(PROGRAM, "the tests", (told: number) => news.push(told));
});
afterEach(() => thread.close());

test("a thread answers calls, and its reports arrive before the answer", async () => {
  expect(await Promise.all([1, 2, 3].map((number) => thread.ask("twice", number)))).toEqual([2, 4, 6]);
  await thread.ask("later", [7, 8]);
  expect(news).toEqual([7, 8]);
});

test("transferred values are not copied: the caller loses them, and gets them back in the same way", async () => {
  const numbers = Float32Array.of(1, 2, 3);
  const back = thread.ask("back", numbers, [numbers.buffer]);
  expect(numbers).toHaveLength(0);
  expect(await back).toEqual(Float32Array.of(1, 2, 3));
});

test("errors are thrown to the caller, a KvspliceError with its code", async () => {
  const refused = thread.ask("refuse", "Too long.");
  await expect(refused).rejects.toBeInstanceOf(KvspliceError);
  await expect(refused).rejects.toMatchObject({ code: "too_long", message: "Too long." });
  await expect(thread.ask("fail", "a fault")).rejects.toMatchObject({ name: "TypeError", message: "a fault" });
  expect(await thread.ask("twice", 4)).toBe(8);
});

test.skipIf(process.platform === "win32")("while it is blocked, a server answers and a signal is handled", async () => {
  const happened: string[] = [];
  const server = createServer((_, response) => response.end("ok")).listen(0, "127.0.0.1");
  await once(server, "listening");
  const signalled = once(process, "SIGUSR2").then(() => happened.push("signal"));
  const until = new Int32Array(new SharedArrayBuffer(4));
  const held = thread.ask("hold", until).then((text) => happened.push(text));
  const response = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}/healthz`);
  happened.push(await response.text());
  process.kill(process.pid, "SIGUSR2");
  await signalled;
  Atomics.store(until, 0, 1);
  Atomics.notify(until, 0);
  await held;
  expect(happened).toEqual(["ok", "signal", "held"]);
  server.close();
});

test("if it dies, pending and later calls are rejected with the same error", async () => {
  const until = new Int32Array(new SharedArrayBuffer(4)).fill(1); // not blocked
  expect(await thread.ask("hold", until)).toBe("held");
  const expected = { code: "closed", message: "The thread for the tests ended (out of order). Start the program again." };
  await expect(thread.ask("die", "out of order")).rejects.toMatchObject(expected);
  await expect(thread.ask("twice", 1)).rejects.toMatchObject(expected);
  thread.tell("twice", 1); // and the error is not reported twice
});

test("once closed, it answers earlier calls and refuses later ones", async () => {
  const asked = [1, 2, 3].map((number) => thread.ask("twice", number));
  await thread.close();
  expect(await Promise.all(asked)).toEqual([2, 4, 6]);
  await expect(thread.ask("twice", 4)).rejects.toMatchObject({ code: "closed" });
  await thread.close();
});

test("many of them cause no warning of a leak", async () => {
  const warnings: Error[] = [];
  const listen = (warning: Error) => warnings.push(warning);
  process.on("warning", listen);
  const threads = Array.from({ length: 12 }, () => new Thread<TestCalls>(PROGRAM, "the tests"));
  expect(await Promise.all(threads.map((each, i) => each.ask("twice", i)))).toEqual(threads.map((_, i) => 2 * i));
  await Promise.all(threads.map((each) => each.close()));
  process.off("warning", listen);
  expect(warnings).toEqual([]);
});

test("long work ends at its next progress report", async () => {
  const told = thread.ask("forever", undefined).catch((error: unknown) => error);
  await thread.ask("twice", 1);
  await thread.close();
  expect(await told).toMatchObject({ code: "closed" });
});

test("an idle thread does not keep its process alive, but a pending call does", () => {
  const script = `import { Thread } from "./runtime/thread.ts";
    const thread = new Thread(new URL("./test/support/runtime/thread-program.js", import.meta.url), "the tests");
    void thread.ask("twice", 21).then(console.log);`;
  const { status, stdout, stderr } = spawnSync(process.execPath, ["--import", "tsx", "--input-type=module", "-e", script], {
    cwd: fileURLToPath(new URL("../..", import.meta.url)),
    encoding: "utf8",
    timeout: 60_000,
  });
  expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: "42\n", stderr: "" });
});
