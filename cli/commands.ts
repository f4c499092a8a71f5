import { Command } from "commander";

/** The commands, each loaded only when it is used: the imports of all of them take a second. */
export const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  precompute: async () => (await import("./precompute.js")).precomputeCommand(),
  ask: async () => (await import("./ask.js")).askCommand(),
  audit: async () => (await import("./audit.js")).auditCommand(),
  list: async () => (await import("./list.js")).listCommand(),
  remove: async () => (await import("./remove.js")).removeCommand(),
  chunks: async () => (await import("./chunks.js")).chunksCommand(),
  eval: async () => (await import("./eval.js")).evalCommand(),
  pml: async () => (await import("./pml.js")).pmlCommand(),
  worker: async () => (await import("./worker.js")).workerCommand(),
  store: async () => (await import("./store-commands.js")).storeCommand(),
  serve: async () => (await import("./serve.js")).serveCommand(),
  top: async () => (await import("./top.js")).topCommand(),
  models: async () => (await import("./models.js")).modelsCommand(),
  devices: async () => (await import("./devices.js")).devicesCommand(),
  pull: async () => (await import("./pull.js")).pullCommand(),
  bench: async () => (await import("./bench.js")).benchCommand(),
  adapter: async () => (await import("./adapter.js")).adapterCommand(),
  completion: async () => (await import("./completion.js")).completionCommand(withAllCommands),
};

async function withAllCommands(): Promise<Command> {
  const all = new Command("kvsplice");
  for (const load of Object.values(COMMANDS)) all.addCommand(await load());
  return all;
}
