import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type PullProgress, pull } from "../../../engine/model/hub/pull.js";
import { parseReference } from "../../../engine/model/hub/reference.js";
import { type HubSettings, hubSettings } from "../../../engine/model/hub/settings.js";
import { COMMIT, type Hub, sha256, startHub } from "../../support/engine/hub/hub-server.js";

const Q4 = randomBytes(700_000);
const Q8 = randomBytes(5_000);
const PARTS = [randomBytes(2_000), randomBytes(3_000)] as const;

let hub: Hub;
let home: string;
let settings: HubSettings;

beforeEach(async () => {
  home = mkdtempSync(join(tmpdir(), "kvsplice-hub-"));
  hub = await startHub({
    "acme/tiny-GGUF": {
      "README.md": Buffer.from("# tiny"),
      "tiny-Q4_K_M.gguf": Q4,
      "tiny-Q8_0.gguf": Q8,
      "mmproj-tiny-Q8_0.gguf": randomBytes(2_000),
      "BF16/tiny-BF16-00001-of-00002.gguf": PARTS[0],
      "BF16/tiny-BF16-00002-of-00002.gguf": PARTS[1],
    },
    "acme/tiny": {
      "config.json": Buffer.from("{}"),
      "tokenizer.json": Buffer.from("{}"),
      "model.safetensors": randomBytes(2_000),
      "original/consolidated.pth": randomBytes(2_000),
    },
    "acme/docs": { "README.md": Buffer.from("# nothing") },
  });
  settings = environment({});
});

afterEach(async () => {
  await hub.close();
  rmSync(home, { recursive: true, force: true });
});

function environment(more: Record<string, string>): HubSettings {
  return hubSettings({ HOME: home, HF_ENDPOINT: hub.url, ...more });
}

function fetchModel(name: string, options: Parameters<typeof pull>[1] = {}): Promise<string> {
  return pull(parseReference(name, hub.url), { settings, ...options });
}

test("fetches a model by its quantisation into Hugging Face's cache", async () => {
  const progress: PullProgress[] = [];
  const path = await fetchModel("hf:acme/tiny-GGUF:q4_k_m", { onProgress: (each) => progress.push(each) });
  const repo = join(home, ".cache/huggingface/hub/models--acme--tiny-GGUF");
  expect(path).toBe(join(repo, "snapshots", COMMIT, "tiny-Q4_K_M.gguf"));
  expect(realpathSync(path)).toBe(realpathSync(join(repo, "blobs", sha256(Q4))));
  expect(sha256(readFileSync(path))).toBe(sha256(Q4));
  expect(readFileSync(join(repo, "refs/main"), "utf8")).toBe(COMMIT);
  expect(progress.at(-1)).toEqual({ file: "tiny-Q4_K_M.gguf", bytes: { done: Q4.length, total: Q4.length } });
});

test.each([
  ["hf:acme/tiny-GGUF", Q4],
  ["hf:acme/tiny-GGUF:Q8_0", Q8],
  ["hf:acme/tiny-GGUF@v1:tiny-Q8_0.gguf", Q8],
  ["hf:acme/tiny-GGUF:BF16", PARTS[0]],
])("%s selects one file", async (name, content) => {
  expect(sha256(readFileSync(await fetchModel(name)))).toBe(sha256(content));
});

test("a page or file URL of the hub is also a name", async () => {
  expect(sha256(readFileSync(await fetchModel(`${hub.url}/acme/tiny-GGUF`)))).toBe(sha256(Q4));
  expect(sha256(readFileSync(await fetchModel(`${hub.url}/acme/tiny-GGUF/blob/main/tiny-Q8_0.gguf`)))).toBe(sha256(Q8));
});

test("fetches all parts of a split file", async () => {
  const path = await fetchModel("hf:acme/tiny-GGUF:BF16");
  expect(sha256(readFileSync(path.replace("00001-of", "00002-of")))).toBe(sha256(PARTS[1]));
});

test("fetches a safetensors repository as a folder, without files that it does not need", async () => {
  const folder = await fetchModel("hf:acme/tiny");
  expect(existsSync(join(folder, "config.json"))).toBe(true);
  expect(existsSync(join(folder, "model.safetensors"))).toBe(true);
  expect(existsSync(join(folder, "original"))).toBe(false);
});

describe("an adapter", () => {
  const config = Buffer.from('{"peft_type": "LORA"}');
  const fetchAdapter = (name: string, folder = "", more: Record<string, string> = {}) => {
    const reference = parseReference(name, hub.url);
    return pull(
      reference.kind === "hub" && reference.choice.kind !== "file" ? { ...reference, choice: { kind: "adapter", folder } } : reference,
      { settings: environment(more) },
    );
  };
  beforeEach(() => {
    hub.repos["acme/lora"] = {
      "adapter_config.json": config,
      "adapter_model.safetensors": Q8,
      "card.json": Buffer.from("{}"),
      "optimizer.pt": randomBytes(2_000),
      "step-9/adapter_config.json": config,
      "step-9/adapter_model.safetensors": Q4,
    };
    hub.repos["acme/lora-GGUF"] = { "lora-F16.gguf": Q8 };
  });

  test("in PEFT's format is a folder with only settings, weights and card; one of several is named by its folder", async () => {
    const folder = await fetchAdapter("hf:acme/lora");
    expect(
      ["adapter_config.json", "adapter_model.safetensors", "card.json", "optimizer.pt"].map((file) => existsSync(join(folder, file))),
    ).toEqual([true, true, true, false]);
    expect(sha256(readFileSync(join(await fetchAdapter("hf:acme/lora", "step-9"), "adapter_model.safetensors")))).toBe(sha256(Q4));
    expect(await fetchAdapter("hf:acme/lora", "", { HF_HUB_OFFLINE: "1" })).toBe(folder);
  });

  test("in GGUF is the repository's only file, or the named one", async () => {
    expect(sha256(readFileSync(await fetchAdapter("hf:acme/lora-GGUF")))).toBe(sha256(Q8));
    expect(sha256(readFileSync(await fetchAdapter("hf:acme/lora-GGUF:lora-F16.gguf")))).toBe(sha256(Q8));
  });

  test("that does not exist is refused, with a list of those that do", async () => {
    await expect(fetchAdapter("hf:acme/lora", "step-8")).rejects.toMatchObject({
      code: "bad_argument",
      message: expect.stringMatching(/There is no hf:acme\/lora:step-8\. It has adapters in step-9/),
    });
    await expect(fetchAdapter("hf:acme/tiny")).rejects.toMatchObject({
      code: "bad_argument",
      message: expect.stringMatching(/hf:acme\/tiny\. It has no adapter_config\.json/),
    });
  });
});

test("a fetched model is opened without a request, also offline", async () => {
  const path = await fetchModel("hf:acme/tiny-GGUF:Q8_0");
  hub.requests.length = 0;
  expect(await fetchModel("hf:acme/tiny-GGUF:Q8_0")).toBe(path);
  expect(await fetchModel("hf:acme/tiny-GGUF:Q8_0", { settings: environment({ HF_HUB_OFFLINE: "1" }) })).toBe(path);
  expect(hub.requests).toEqual([]);
});

test("offline, a model that is not here is refused without a request", async () => {
  await expect(fetchModel("hf:acme/tiny-GGUF:Q8_0", { settings: environment({ HF_HUB_OFFLINE: "1" }) })).rejects.toMatchObject({
    code: "unreachable",
    message: expect.stringMatching(/hf:acme\/tiny-GGUF:Q8_0 is not on this machine .* HF_HUB_OFFLINE/),
  });
  expect(hub.requests).toEqual([]);
});

test("resumes a broken download where it broke off", async () => {
  hub.breaks = { after: 150_000, times: 3 };
  expect(sha256(readFileSync(await fetchModel("hf:acme/tiny-GGUF:Q4_K_M")))).toBe(sha256(Q4));
  const ranges = hub.requests.filter(({ url }) => url.includes("Q4_K_M") && !url.includes("resolve")).map(({ range }) => range);
  expect(ranges.length).toBe(4);
  expect(ranges[0]).toBeUndefined();
  for (const range of ranges.slice(1)) expect(Number(/^bytes=(\d+)-$/.exec(range!)![1])).toBeGreaterThan(0);
});

test("fetches the whole file again from a server that ignores ranges", async () => {
  hub.breaks = { after: 150_000, times: 1 };
  hub.ignoresRanges = true;
  expect(sha256(readFileSync(await fetchModel("hf:acme/tiny-GGUF:Q4_K_M")))).toBe(sha256(Q4));
});

test("a process killed midway leaves no model, and the next one resumes its download", async () => {
  hub.pause_ms = 50;
  const child = spawn(
    process.execPath,
    ["--import", "tsx", fileURLToPath(new URL("../../support/engine/hub/pulling-process.ts", import.meta.url)), "hf:acme/tiny-GGUF:Q4_K_M"],
    {
      env: { PATH: process.env["PATH"], HOME: home, HF_ENDPOINT: hub.url },
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  await once(child.stdout, "data");
  child.kill("SIGKILL");
  await once(child, "exit");
  const blob = join(home, ".cache/huggingface/hub/models--acme--tiny-GGUF/blobs", sha256(Q4));
  expect(existsSync(blob)).toBe(false);
  expect(existsSync(`${blob}.incomplete`)).toBe(true);
  hub.pause_ms = 0;
  hub.requests.length = 0;
  expect(sha256(readFileSync(await fetchModel("hf:acme/tiny-GGUF:Q4_K_M")))).toBe(sha256(Q4));
  const [from] = hub.requests.flatMap(({ range }) => /^bytes=(\d+)-$/.exec(range ?? "")?.[1] ?? []);
  expect(Number(from)).toBeGreaterThanOrEqual(190_000);
});

test("two concurrent pulls fetch a file once", async () => {
  hub.pause_ms = 10;
  const notices: string[] = [];
  const both = await Promise.all([1, 2].map(() => fetchModel("hf:acme/tiny-GGUF:Q4_K_M", { onNotice: (notice) => notices.push(notice) })));
  expect(both[0]).toBe(both[1]);
  expect(sha256(readFileSync(both[0]!))).toBe(sha256(Q4));
  expect(hub.requests.filter(({ url }) => url.includes("Q4_K_M") && !url.includes("resolve")).length).toBe(1);
  expect(notices).toEqual(["Another process is fetching acme/tiny-GGUF/tiny-Q4_K_M.gguf; waiting for it."]);
});

test.each(["tiny-Q8_0.gguf", "config.json"])("%s is discarded if its content is not what the hub announced", async (name) => {
  const [repo, path] = name === "config.json" ? ["acme/tiny", "config.json"] : ["acme/tiny-GGUF", name];
  const content = hub.repos[repo!]![path!]!;
  hub.content = (asked) =>
    asked === path ? Buffer.from(content.map((byte, i) => (i === 1 ? byte ^ 1 : byte))) : hub.repos[repo!]![asked]!;
  const asked = name === "config.json" ? "hf:acme/tiny" : "hf:acme/tiny-GGUF:Q8_0";
  await expect(fetchModel(asked)).rejects.toMatchObject({ code: "bad_file", message: expect.stringContaining("its hash differs") });
  hub.content = undefined;
  const fetched = await fetchModel(asked);
  expect(sha256(readFileSync(name === "config.json" ? join(fetched, name) : fetched))).toBe(sha256(content));
});

test("sends the token to the hub, but not to the host that it redirects to", async () => {
  hub.token = "hf_secret";
  await expect(fetchModel("hf:acme/tiny-GGUF:Q8_0")).rejects.toMatchObject({
    code: "unreachable",
    message: expect.stringContaining("set HF_TOKEN"),
  });
  await fetchModel("hf:acme/tiny-GGUF:Q8_0", { settings: environment({ HF_TOKEN: "hf_secret" }) });
  const sentOn = hub.requests.filter(({ url }) => url === "/acme/tiny-GGUF/tiny-Q8_0.gguf");
  expect(sentOn.map(({ authorization }) => authorization)).toEqual([undefined]);
});

test("uses the token saved by `hf auth login`", async () => {
  hub.token = "hf_secret";
  mkdirSync(join(home, ".cache/huggingface"), { recursive: true });
  writeFileSync(join(home, ".cache/huggingface/token"), "hf_secret\n");
  expect(sha256(readFileSync(await fetchModel("hf:acme/tiny-GGUF:Q8_0", { settings: environment({}) })))).toBe(sha256(Q8));
});

test("uses the proxy set in the environment", async () => {
  const through: string[] = [];
  const proxy = createServer().on("connect", (request, socket) => {
    through.push(request.url!);
    const [host, port] = request.url!.split(":");
    const target = connect(Number(port), host, () => {
      socket.write("HTTP/1.1 200 Connection Established\r\n\r\n");
      target.pipe(socket).pipe(target);
    });
    for (const end of [socket, target]) end.on("error", () => [socket, target].forEach((each) => each.destroy()));
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  const { port } = proxy.address() as { port: number };
  process.env["http_proxy"] = `http://127.0.0.1:${port}`;
  try {
    expect(sha256(readFileSync(await fetchModel("hf:acme/tiny-GGUF:Q8_0")))).toBe(sha256(Q8));
    expect(through).toContain(new URL(hub.url).host);
  } finally {
    delete process.env["http_proxy"];
    proxy.closeAllConnections();
    proxy.close();
  }
});

test.each([
  ["hf:acme/tiny-GGUF:Q2_K", "There is no hf:acme/tiny-GGUF:Q2_K. It has BF16, Q4_K_M, Q8_0."],
  ["hf:acme/tiny:Q4_K_M", "no GGUF files: name it without a quantisation"],
  ["hf:acme/docs", "It has neither GGUF files nor config.json with model.safetensors."],
  ["hf:acme/none", "There is no acme/none."],
  ["hf:acme/tiny-GGUF@v9", "There is no acme/tiny-GGUF@v9."],
])("%s is refused, with what the hub has instead", async (name, message) => {
  await expect(fetchModel(name)).rejects.toMatchObject({ code: "bad_argument", message: expect.stringContaining(message) });
});

test.each(["hf:acme", "hf:acme/tiny:", "hf:acme/../x", "ollama:", "https://example.com/page.html", "https://huggingface.co/acme"])(
  "%s does not name a model",
  (name) => {
    expect(() => parseReference(name, hub.url)).toThrow(/does not name a model|is not the address/);
  },
);

test("ignores paths in the listing that lead out of the cache", async () => {
  hub.repos["acme/tiny-GGUF"] = { "../../../../evil-Q4_0.gguf": Q8, "/evil-Q4_1.gguf": Q8, "good-Q8_0.gguf": Q8 };
  await fetchModel("hf:acme/tiny-GGUF");
  await expect(fetchModel("hf:acme/tiny-GGUF:Q4_0")).rejects.toMatchObject({ code: "bad_argument" });
  expect(existsSync(join(home, ".cache/evil-Q4_0.gguf"))).toBe(false);
});

test("reports an unreachable server, and says what to do", async () => {
  await hub.close();
  await expect(fetchModel("hf:acme/tiny-GGUF")).rejects.toMatchObject({
    code: "unreachable",
    message: expect.stringMatching(/cannot be reached \(ECONNREFUSED\).*HTTPS_PROXY/),
  });
});

test("cancelling midway keeps what has been downloaded", async () => {
  hub.pause_ms = 50;
  const controller = new AbortController();
  const fetching = fetchModel("hf:acme/tiny-GGUF:Q4_K_M", {
    signal: controller.signal,
    onProgress: ({ bytes }) => bytes.done > 100_000 && controller.abort(),
  });
  await expect(fetching).rejects.toMatchObject({ code: "cancelled" });
  expect(existsSync(join(home, ".cache/huggingface/hub/models--acme--tiny-GGUF/blobs", `${sha256(Q4)}.incomplete`))).toBe(true);
});

test("fetches a file from any address once", async () => {
  const other = await startHub({ "a/b": { "m.gguf": Q4 } });
  try {
    other.breaks = { after: 150_000, times: 1 };
    const address = `${other.url}/a/b/resolve/main/m.gguf`;
    const path = await fetchModel(address);
    expect(sha256(readFileSync(path))).toBe(sha256(Q4));
    other.requests.length = 0;
    expect(await fetchModel(address)).toBe(path);
    expect(other.requests).toEqual([]);
  } finally {
    await other.close();
  }
});

test("finds a model fetched by LM Studio under the same name", async () => {
  const path = join(home, ".lmstudio/models/acme/tiny-GGUF/tiny-Q4_K_M.gguf");
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, Q4);
  expect(await fetchModel("hf:acme/tiny-GGUF:Q4_K_M")).toBe(path);
  expect(hub.requests).toEqual([]);
});

test("finds a model fetched by Ollama under the hub's name and under its own", async () => {
  const root = join(home, ".ollama/models");
  const manifest = JSON.stringify({
    layers: [
      { mediaType: "application/vnd.ollama.image.template", digest: `sha256:${"1".repeat(64)}` },
      { mediaType: "application/vnd.ollama.image.model", digest: `sha256:${sha256(Q4)}` },
    ],
  });
  for (const name of ["hf.co/acme/tiny-GGUF/Q4_K_M", "registry.ollama.ai/library/tiny/1b"]) {
    mkdirSync(join(root, "manifests", dirname(name)), { recursive: true });
    writeFileSync(join(root, "manifests", name), manifest);
  }
  mkdirSync(join(root, "blobs"));
  const blob = join(root, "blobs", `sha256-${sha256(Q4)}`);
  writeFileSync(blob, Q4);
  expect(await fetchModel("hf:acme/tiny-GGUF:Q4_K_M")).toBe(blob);
  expect(await fetchModel("ollama:tiny:1b")).toBe(blob);
  await expect(fetchModel("ollama:tiny:7b")).rejects.toMatchObject({
    code: "bad_argument",
    message: expect.stringContaining("ollama pull tiny:7b"),
  });
  expect(hub.requests).toEqual([]);
});
