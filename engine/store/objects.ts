import { setTimeout as sleep } from "node:timers/promises";
import pLimit from "p-limit";
import { KvspliceError } from "../../plan/index.js";
import type { Block } from "../kv/block.js";
import { decodeSafetensors } from "../kv/safetensors.js";
import type { Seal } from "./seal.js";
import type { BlockInfo, BlockKey, StoredTier } from "./store.js";

export type ObjectsOptions = {
  /** `s3://bucket/prefix` */
  readonly url: string;
  /** The endpoint of a server other than Amazon's, such as `http://minio:9000`; Amazon's for the region if omitted. */
  readonly endpoint?: string | undefined;
  readonly region?: string | undefined;
  /** Separates tenants: part of the prefix. */
  readonly namespace?: string | undefined;
  /** Blocks without this seal are treated as damaged. */
  readonly seal?: Seal | undefined;
  readonly onDamage: (key: BlockKey) => void;
  /** Called when the server fails, and when it responds again. */
  readonly onTrouble: (message: string) => void;
};

/** A request was abandoned because the server takes too long. */
class GivenUp extends Error {}

/** Environment variables of AWS's own tools, with the credentials. */
type Environment = Readonly<Record<string, string | undefined>>;

/** Limits after which a request is abandoned: time without a byte, and total time. It is not retried, since a caller is waiting. */
type Patience = { readonly silence_ms: number; readonly all_ms: number };
const READING: Patience = { silence_ms: 2_000, all_ms: 10_000 };
/** A server sends nothing while it receives a block. */
const WRITING: Patience = { silence_ms: 30_000, all_ms: 30_000 };

/** Attempts per request if the server fails or asks to slow down, and the pause after the first. */
const TRIES = 3;
const FIRST_PAUSE_MS = 100;

/** After a failure the server is left alone for a while, so that an answer does not wait for it on every block. */
const FIRST_REST_MS = 500;
const LONGEST_REST_MS = 15_000;

/** Concurrent requests. */
const LANES = 16;

/** A block takes some megabytes: a longer response is not read to the end. */
const MOST_BYTES = 2 ** 30;

const META = "x-amz-meta-kvsplice";

type Request = {
  readonly method: "GET" | "HEAD" | "PUT" | "DELETE";
  readonly key?: string;
  readonly query?: string;
  readonly headers?: Record<string, string>;
  readonly body?: Buffer;
  readonly patience: Patience;
};
type ObjectResponse = { readonly status: number; readonly headers: Headers; readonly body: Buffer };

/**
 * Blocks as objects in a bucket, on any server that speaks S3: one object per block, named by its key, put only if there is
 * none yet. The tier does not evict: the bucket's lifecycle rules limit its size.
 *
 * If the server fails, reads report the block as absent; writes are rejected.
 */
export class ObjectTier implements StoredTier {
  readonly name = "objects";
  private readonly base: string;
  private readonly prefix: string;
  private readonly lanes = pLimit(LANES);
  private signing: Promise<(url: string, init: RequestInit) => Promise<globalThis.Request>> | undefined;
  private restUntil = 0;
  private rest_ms = FIRST_REST_MS;
  private failing = false;
  /** Whether the server supports putting an object only if none exists; not all do. */
  private conditional = true;

  /** @throws KvspliceError `bad_argument` if there are no credentials */
  constructor(
    private readonly options: ObjectsOptions,
    private readonly environment: Environment = process.env,
  ) {
    const { hostname: bucket, pathname } = new URL(options.url);
    const region = this.region;
    const endpoint = options.endpoint ?? environment["AWS_ENDPOINT_URL_S3"] ?? environment["AWS_ENDPOINT_URL"];
    this.base = endpoint === undefined ? `https://${bucket}.s3.${region}.amazonaws.com/` : `${endpoint.replace(/\/$/, "")}/${bucket}/`;
    const folder = pathname.replace(/^\/|\/$/g, "");
    this.prefix = [folder, options.namespace]
      .filter((part) => part)
      .map((part) => `${part}/`)
      .join("");
    if (!environment["AWS_ACCESS_KEY_ID"] || !environment["AWS_SECRET_ACCESS_KEY"]) {
      throw new KvspliceError(
        "bad_argument",
        `${options.url} needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (optional: AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL).`,
      );
    }
  }

  async get(key: BlockKey): Promise<{ readonly block: Block; readonly info: Pick<BlockInfo, "model" | "cost_ms"> } | undefined> {
    const answer = await this.reading({ method: "GET", key });
    if (!answer) return undefined;
    const bytes = this.unsealed(key, answer.body);
    const block = bytes && decodeSafetensors(key, bytes);
    if (block) return { block, info: infoOf(answer.headers) };
    this.options.onDamage(key);
    await this.delete([key]).catch(() => undefined); // until it can be deleted, it is found damaged and encoded again
    return undefined;
  }

  async read(key: BlockKey): Promise<Buffer | undefined> {
    const answer = await this.reading({ method: "GET", key });
    return answer && this.unsealed(key, answer.body);
  }

  async has(key: BlockKey): Promise<boolean> {
    return (await this.reading({ method: "HEAD", key })) !== undefined;
  }

  /**
   * Resolves when the server has the block.
   * @throws KvspliceError `bad_store` if the server fails
   */
  async put({ key, model, cost_ms }: BlockInfo, file: Buffer): Promise<void> {
    const body = this.options.seal ? this.options.seal.sealed(key, file) : file;
    const headers = { "content-type": "application/octet-stream", [META]: encodeURIComponent(JSON.stringify({ model, cost_ms })) };
    const put = (more: Record<string, string>) => this.writing({ method: "PUT", key, headers: { ...headers, ...more }, body });
    if (!this.conditional) return void (await put({}));
    const { status } = await put({ "if-none-match": "*" });
    if (status !== 501) return; // it is there, put now or earlier (412)
    this.conditional = false;
    await put({});
  }

  async delete(keys: readonly BlockKey[]): Promise<void> {
    await Promise.all(keys.map((key) => this.writing({ method: "DELETE", key })));
  }

  async verify(key: BlockKey): Promise<boolean | undefined> {
    const answer = await this.reading({ method: "GET", key });
    if (!answer) return undefined;
    const bytes = this.unsealed(key, answer.body);
    return bytes !== undefined && decodeSafetensors(key, bytes) !== undefined;
  }

  async bytes(): Promise<number> {
    let sum = 0;
    for await (const { bytes } of this.infos()) sum += bytes;
    return sum;
  }

  /**
   * What listing the bucket reports: keys, sizes and ages. Tokens, precision and model are in the blocks themselves.
   * @throws KvspliceError `bad_store` if the server fails
   */
  async *infos(): AsyncIterable<BlockInfo> {
    const { XMLParser } = await import("fast-xml-parser");
    const parser = new XMLParser({ parseTagValue: false, isArray: (name) => name === "Contents" });
    let token: string | undefined;
    do {
      const query = `list-type=2&prefix=${encodeURIComponent(this.prefix)}${token === undefined ? "" : `&continuation-token=${encodeURIComponent(token)}`}`;
      const { body } = await this.writing({ method: "GET", query });
      const { ListBucketResult: list } = parser.parse(body) as {
        readonly ListBucketResult?: {
          readonly Contents?: readonly { readonly Key: string; readonly Size: string; readonly LastModified: string }[];
          readonly NextContinuationToken?: string;
        };
      };
      for (const { Key, Size, LastModified } of list?.Contents ?? []) {
        yield {
          key: Key.slice(this.prefix.length),
          bytes: Number(Size),
          tokens: 0,
          precision: "",
          model: "",
          cost_ms: 0,
          pinned: false,
          uses: 0,
          used_ms: Date.parse(LastModified),
        };
      }
      token = list?.NextContinuationToken;
    } while (token !== undefined);
  }

  private get region(): string {
    return this.options.region ?? this.environment["AWS_REGION"] ?? this.environment["AWS_DEFAULT_REGION"] ?? "us-east-1";
  }

  private unsealed(key: BlockKey, bytes: Buffer): Buffer | undefined {
    const { seal } = this.options;
    return seal ? seal.opened(key, bytes) : bytes;
  }

  /** Undefined if there is no such object, or the server fails, or failed a moment ago. */
  private async reading(request: Omit<Request, "patience">): Promise<ObjectResponse | undefined> {
    const answer = await this.attempt({ ...request, patience: READING }).catch(() => undefined);
    return answer?.status === 200 ? answer : undefined;
  }

  /** @throws KvspliceError `bad_store` if the server fails */
  private async writing(request: Omit<Request, "patience">): Promise<ObjectResponse> {
    try {
      return await this.attempt({ ...request, patience: WRITING });
    } catch (cause) {
      throw new KvspliceError(
        "bad_store",
        `A request to ${this.options.url} failed (${(cause as Error).message}); check that the bucket exists and the keys give access.`,
        { cause },
      );
    }
  }

  private attempt(request: Request): Promise<ObjectResponse> {
    return this.lanes(async () => {
      if (Date.now() < this.restUntil) throw new Error("it failed a moment ago and is not contacted for now");
      try {
        const answer = await this.tried(request);
        if (this.failing) this.options.onTrouble(`${this.options.url} is available again.`);
        this.failing = false;
        this.rest_ms = FIRST_REST_MS;
        return answer;
      } catch (error) {
        this.rest();
        if (!this.failing)
          this.options.onTrouble(`${this.options.url} fails (${(error as Error).message}); the store continues without it.`);
        this.failing = true;
        throw error;
      }
    });
  }

  /** Concurrent failures start only one rest. */
  private rest(): void {
    if (Date.now() < this.restUntil) return;
    this.restUntil = Date.now() + this.rest_ms;
    this.rest_ms = Math.min(2 * this.rest_ms, LONGEST_REST_MS);
  }

  private async tried(request: Request): Promise<ObjectResponse> {
    for (let tries = 1; ; tries++) {
      const outcome = await this.send(request).catch((error: unknown) => error as Error);
      if (!(outcome instanceof Error) && isFinal(outcome.status)) return outcome;
      if (outcome instanceof GivenUp) throw outcome;
      if (tries === TRIES) throw outcome instanceof Error ? reasonOf(outcome) : new Error(`status ${outcome.status}`);
      if (!(outcome instanceof Error) && !isPassing(outcome.status)) throw new Error(`status ${outcome.status}`);
      await sleep(FIRST_PAUSE_MS * 2 ** (tries - 1) * (0.5 + Math.random()));
    }
  }

  private async send({ method, key, query, headers = {}, body, patience }: Request): Promise<ObjectResponse> {
    const url = `${this.base}${key === undefined ? "" : (this.prefix + key).split("/").map(encodeURIComponent).join("/")}${query === undefined ? "" : `?${query}`}`;
    const sign = await (this.signing ??= this.signer());
    const giveUp = new AbortController();
    const { signal } = giveUp;
    const after = (ms: number, what: string) => setTimeout(() => giveUp.abort(new GivenUp(`${what} ${ms / 1000} s`)), ms);
    const silence = after(patience.silence_ms, "no byte for");
    const end = after(patience.all_ms, "not done in");
    try {
      const response = await fetch(await sign(url, { method, headers, signal, ...(body && { body: new Uint8Array(body) }) }), { signal });
      silence.refresh();
      return {
        status: response.status,
        headers: response.headers,
        body: await readWithin(response, MOST_BYTES, () => silence.refresh()),
      };
    } catch (error) {
      throw signal.aborted ? signal.reason : error;
    } finally {
      clearTimeout(silence);
      clearTimeout(end);
    }
  }

  /** Loaded only if there is such a tier. */
  private async signer() {
    const { AwsClient } = await import("aws4fetch");
    const { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey, AWS_SESSION_TOKEN: sessionToken } = this.environment;
    const client = new AwsClient({
      accessKeyId: accessKeyId!,
      secretAccessKey: secretAccessKey!,
      ...(sessionToken && { sessionToken }),
      service: "s3",
      region: this.region,
    });
    return (url: string, init: RequestInit) => client.sign(url, init);
  }
}

/** Done, or not there (404), or there already (412), or not implemented by the server (501). */
function isFinal(status: number): boolean {
  return (status >= 200 && status < 300) || status === 404 || status === 412 || status === 501;
}

/** Failures that another attempt may fix: 409 means another put at the same time. */
function isPassing(status: number): boolean {
  return status >= 500 || status === 429 || status === 409 || status === 408;
}

/** The network's own words if there are any. */
function reasonOf(error: Error): Error {
  return error.cause instanceof Error ? error.cause : error;
}

async function readWithin({ body }: Response, most: number, onBytes: () => void): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of body ?? []) {
    onBytes();
    length += chunk.length;
    if (length > most) throw new Error(`an object of more than ${most} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function infoOf(headers: Headers): Pick<BlockInfo, "model" | "cost_ms"> {
  try {
    const { model, cost_ms } = JSON.parse(decodeURIComponent(headers.get(META) ?? "")) as Partial<BlockInfo>;
    return { model: String(model ?? ""), cost_ms: Number(cost_ms ?? 0) };
  } catch {
    return { model: "", cost_ms: 0 };
  }
}
