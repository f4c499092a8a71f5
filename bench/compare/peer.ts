import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";

/** Operations of a peer: each takes and returns plain data. */
export type Operations = Readonly<Record<string, (argument: never) => unknown>>;

type Argument<Operation> = Operation extends (argument: infer A) => unknown ? A : never;
type Result<Operation> = Operation extends (argument: never) => infer R ? Awaited<R> : never;

/** A peer in a separate process, so that peers share neither memory nor idle threads. */
export type Peer<Of extends Operations> = {
  call<Name extends keyof Of & string>(name: Name, argument: Argument<Of[Name]>): Promise<Result<Of[Name]>>;
  end(): Promise<void>;
};

type Request = { readonly name: string; readonly argument: unknown };
type Reply = { readonly result?: unknown; readonly error?: string };

export function startPeer<Of extends Operations>(program: string): Peer<Of> {
  const child: ChildProcess = fork(fileURLToPath(new URL(program, import.meta.url)), {
    execArgv: ["--import", import.meta.resolve("tsx")],
    serialization: "advanced",
  });
  const gone = new Promise<never>((_, reject) =>
    child.once("exit", (code, signal) => reject(new Error(`${program} ended (${signal ?? code})`))),
  );
  gone.catch(() => undefined);
  return {
    async call(name, argument) {
      const reply = new Promise<Reply>((resolve) => child.once("message", resolve as (message: unknown) => void));
      child.send({ name, argument } satisfies Request);
      const { result, error } = await Promise.race([reply, gone]);
      if (error !== undefined) throw new Error(`${program}: ${error}`);
      return result as never;
    },
    async end() {
      child.disconnect();
      await gone.catch(() => undefined);
    },
  };
}

/** The other side: serves operations until the parent disconnects. */
export function servePeer(operations: Operations): void {
  process.on("message", async ({ name, argument }: Request) => {
    try {
      process.send!({ result: await operations[name]!(argument as never) } satisfies Reply);
    } catch (error) {
      process.send!({ error: (error as Error).stack ?? String(error) } satisfies Reply);
    }
  });
  process.on("disconnect", () => process.exit(0));
}
