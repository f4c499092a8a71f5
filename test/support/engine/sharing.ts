import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import type { StoreConfig } from "../../../engine/store/config.js";

const ROOT = join(import.meta.dirname, "../../..");
const PROGRAM = join(import.meta.dirname, "sharing-process.ts");

type Done = {
  readonly role: string;
  readonly answers: number;
  readonly wrong: number;
  readonly damaged: number;
  readonly encoded: readonly number[];
  readonly early_mb: number;
  readonly late_mb: number;
};

export type SharingFigures = {
  readonly answers: number;
  readonly stored_by_precompute: number;
  /** Wrong values, damaged blocks, failed processes: all must be 0. */
  readonly wrong: number;
  readonly damaged: number;
  readonly failed: number;
  readonly encoded: number;
  /** Encodings of a block that another process had already encoded. */
  readonly duplicates: number;
  /** The largest growth of a process's own memory from a fifth of the time to the end. */
  readonly most_growth_mb: number;
};

/** Runs processes that ask and precompute on one store at once, until all blocks were requested and the seconds are over. */
export async function shareStore(
  config: StoreConfig,
  asking: number,
  precomputing: number,
  blocks: number,
  seconds: number,
): Promise<SharingFigures> {
  const roles = [...Array<string>(asking).fill("ask"), ...Array<string>(precomputing).fill("precompute")];
  const ends = await Promise.all(
    roles.map(async (role) => {
      const child = spawn(process.execPath, ["--import", "tsx", PROGRAM, JSON.stringify(config), role, String(blocks), String(seconds)], {
        cwd: ROOT,
        stdio: ["ignore", "pipe", "inherit"],
      });
      const [printed, [code]] = await Promise.all([text(child.stdout), once(child, "exit")]);
      return code === 0 ? (JSON.parse(printed) as Done) : undefined;
    }),
  );
  const done = ends.filter((end) => end !== undefined);
  const sum = (of: (end: Done) => number) => done.reduce((total, end) => total + of(end), 0);
  const encoded = done.flatMap((end) => end.encoded);
  return {
    answers: sum((end) => (end.role === "ask" ? end.answers : 0)),
    stored_by_precompute: sum((end) => (end.role === "precompute" ? end.answers : 0)),
    wrong: sum((end) => end.wrong),
    damaged: sum((end) => end.damaged),
    failed: ends.length - done.length,
    encoded: encoded.length,
    duplicates: encoded.length - new Set(encoded).size,
    most_growth_mb: Math.round(Math.max(...done.map((end) => end.late_mb - end.early_mb))),
  };
}
