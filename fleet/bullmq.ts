import { KvspliceError } from "../engine/index.js";

export type Bullmq = typeof import("bullmq");

/**
 * BullMQ, an optional package: only programs with a queue need it.
 * @throws KvspliceError `bad_argument` if it is not installed
 */
export async function importBullmq(): Promise<Bullmq> {
  return import("bullmq").catch((cause: NodeJS.ErrnoException) => {
    if (cause.code !== "ERR_MODULE_NOT_FOUND") throw cause;
    throw new KvspliceError(
      "bad_argument",
      "A queue of encoding jobs needs bullmq, which is not installed. Install it alongside kvsplice: npm install bullmq@6",
      { cause },
    );
  });
}
