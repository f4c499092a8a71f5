import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** kvsplice's server over a corpus of one article, about the Forth Bridge. */
export type Server = {
  readonly url: string;
  /** The included model, and the same over the corpus. */
  readonly model: string;
  readonly corpusModel: string;
  /** The named model, if any. */
  readonly named: string | undefined;
  stop(): Promise<void>;
};

/** Starts the server like its command, with a further model if a file is named. */
export async function startServer(modelFile?: string): Promise<Server> {
  const root = fileURLToPath(new URL("../..", import.meta.url));
  const folder = mkdtempSync(join(tmpdir(), "kvsplice-clients-"));
  const store = join(folder, "articles.kv");
  const command = (...args: string[]): ChildProcess =>
    spawn(process.execPath, [join(root, "dist/cli/main.js"), ...args], { stdio: ["ignore", "pipe", "ignore"] });

  const [status] = (await once(command("precompute", join(root, "examples/corpus/forth-bridge.md"), "--store", store), "exit")) as [number];
  if (status !== 0) throw new Error("The corpus could not be created.");
  const models = modelFile === undefined ? [] : ["--model", modelFile, "--model", join(root, "models/kvsplice-135m.gguf")];
  const server = command("serve", "--store", store, ...models, "--port", "0", "--json");
  const [line] = (await once(createInterface(server.stdout!), "line")) as [string];
  const { url } = JSON.parse(line) as { url: string };
  const { data } = (await (await fetch(`${url}/v1/models`)).json()) as { data: { id: string }[] };
  const ids = data.map(({ id }) => id);
  const corpusModel = ids.find((id) => id.endsWith("/articles"))!;
  const model = corpusModel.slice(0, corpusModel.indexOf("/"));
  return {
    url,
    model,
    corpusModel,
    named: ids.find((id) => id !== model && id !== corpusModel),
    async stop() {
      server.kill("SIGTERM");
      await once(server, "exit");
      rmSync(folder, { recursive: true });
    },
  };
}
