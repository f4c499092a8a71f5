import { z } from "zod";
import { KvspliceError } from "../engine/index.js";

/** A key that clients send, and what it allows: everything, unless it is limited. */
export type ApiKey = {
  readonly key: string;
  /** Names of the corpora that it can query, list and change; all by default. */
  readonly corpora?: readonly string[] | undefined;
  /** Requests per minute, also the largest burst; unlimited by default. */
  readonly requests_per_minute?: number | undefined;
  /** Its share of the machine relative to other keys', if the server is fair; 1 by default. */
  readonly weight?: number | undefined;
};

const apiKeys = z
  .array(
    z.strictObject({
      key: z.string().min(1),
      corpora: z.array(z.string()).optional(),
      requests_per_minute: z.number().gt(0).optional(),
      weight: z.number().gt(0).optional(),
    }),
  )
  .min(1);

/**
 * Parses a JSON file of keys: `[{ "key": "...", "corpora": ["articles"], "requests_per_minute": 60 }]`.
 * @throws KvspliceError `bad_file` if it is not one
 */
export function parseApiKeys(json: string, file: string): readonly ApiKey[] {
  const refuse = (why: string, cause?: unknown) =>
    new KvspliceError(
      "bad_file",
      `${file} is not a list of keys: ${why}. Write it as [{ "key": "...", "corpora": ["articles"], "requests_per_minute": 60 }].`,
      { cause },
    );
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (cause) {
    throw refuse("it is not JSON", cause);
  }
  const parsed = apiKeys.safeParse(value);
  if (parsed.success) return parsed.data;
  const [{ message, path }] = parsed.error.issues as [z.core.$ZodIssue];
  throw refuse(`${path.join(".") || "it"}: ${message}`);
}

/** A token bucket for a key's requests, refilled at a constant rate. */
export class Rate {
  private left: number;
  private filled_ms: number;

  constructor(
    private readonly perMinute: number,
    private readonly now: () => number = () => performance.now(),
  ) {
    this.left = Math.max(1, perMinute);
    this.filled_ms = now();
  }

  /** Takes one; returns 0, or the seconds until one is available. */
  take(): number {
    const now = this.now();
    this.left = Math.min(Math.max(1, this.perMinute), this.left + ((now - this.filled_ms) / 60_000) * this.perMinute);
    this.filled_ms = now;
    if (this.left < 1) return Math.ceil(((1 - this.left) / this.perMinute) * 60);
    this.left--;
    return 0;
  }
}
