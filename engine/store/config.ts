import { readFileSync } from "node:fs";
import { z } from "zod";
import { KvspliceError } from "../../plan/index.js";

const UNITS = { B: 1, KB: 2 ** 10, MB: 2 ** 20, GB: 2 ** 30, TB: 2 ** 40 };

/** Bytes as people write them, `2GB` or `512 MB` (powers of 1024), or as a number. */
const bytes = z.union([z.number(), z.string()]).transform((value, context) => {
  const [, number, unit] = /^\s*([\d.]+)\s*([KMGT]?B)?\s*$/i.exec(String(value)) ?? [];
  const size = Math.floor(Number(number) * UNITS[(unit ?? "B").toUpperCase() as keyof typeof UNITS]);
  if (size >= 0) return size;
  context.addIssue({ code: "custom", message: `"${value}" is not a number of bytes; write it like 2GB` });
  return z.NEVER;
});

/** Bytes of a text such as `2GB`; undefined if it is not a number of bytes. */
export function parseBytes(text: string): number | undefined {
  return bytes.safeParse(text).data;
}

const schema = z.strictObject({
  /** The blocks used most recently, in this process. 0 leaves the tier out. */
  memory: z.strictObject({ budget: bytes }).optional(),
  /** A folder on this machine, for any number of processes. */
  disk: z.strictObject({ path: z.string().min(1), budget: bytes.optional() }).optional(),
  /** A Redis server for any number of machines; `prefix` separates the stores on one server. */
  redis: z
    .strictObject({
      url: z.string().regex(/^rediss?:\/\//, "give a URL such as redis://localhost:6379"),
      budget: bytes.optional(),
      prefix: z.string().min(1).default("kvsplice:"),
      /** Separates tenants: part of the prefix, and of the key that seals blocks. */
      namespace: z
        .string()
        .regex(/^[\w.-]+$/, "use letters, digits, dots, hyphens and underscores")
        .optional(),
      /** Seals blocks on the server, and accepts only blocks with this seal. */
      key: z.string().optional(),
    })
    .optional(),
  /** A bucket on any S3 server; its keys come from the environment, as for AWS's own tools. `namespace` and `key` as for Redis. */
  objects: z
    .strictObject({
      url: z.string().regex(/^s3:\/\/[a-z0-9][a-z0-9.-]+(\/[\w./-]*)?$/, "give a URL such as s3://bucket/prefix"),
      endpoint: z.url({ protocol: /^https?$/, error: "give a URL such as http://minio:9000" }).optional(),
      region: z.string().min(1).optional(),
      namespace: z
        .string()
        .regex(/^[\w.-]+$/, "use letters, digits, dots, hyphens and underscores")
        .optional(),
      key: z.string().optional(),
    })
    .optional(),
});

/** The tiers of a store, each optional. Budgets are in bytes. */
export type StoreConfig = z.output<typeof schema>;

/** The same as people write it: budgets may be texts such as "2GB". */
export type StoreConfigInput = z.input<typeof schema>;

/** @throws KvspliceError `bad_argument` naming the setting and where it is */
export function parseStoreConfig(value: unknown, where = "The store's configuration"): StoreConfig {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const path = issue!.path.join(".");
  throw new KvspliceError("bad_argument", `${where}${path && `, ${path}`}: ${issue!.message}. docs/store.md has an example.`);
}

/** Settings as the command line passes them. */
export type StoreSettings = {
  /** A JSON file with a `StoreConfig`. */
  readonly config?: string | undefined;
  readonly memory?: string | undefined;
  readonly disk?: string | undefined;
  readonly diskBudget?: string | undefined;
  readonly redis?: string | undefined;
  readonly redisBudget?: string | undefined;
  readonly objects?: string | undefined;
  /** Folder of the disk tier if nothing else names one. */
  readonly folder?: string | undefined;
};

const DEFAULT_MEMORY = "512MB";

/**
 * One configuration from a file, the environment (`KVSPLICE_STORE_CONFIG`, `_MEMORY`, `_DISK`, `_DISK_BUDGET`, `_REDIS`,
 * `_REDIS_BUDGET`, `_OBJECTS`, `_NAMESPACE`, `_KEY`) and the command line; later ones in this list take precedence. Memory is
 * 512 MiB by default. A budget of 0 leaves its tier out.
 *
 * @throws KvspliceError `bad_argument`, `bad_file` if the file cannot be read
 */
export function readStoreConfig(
  settings: StoreSettings,
  environment: Readonly<Record<string, string | undefined>> = process.env,
): StoreConfig {
  const set = (name: keyof StoreSettings, variable: string) => settings[name] ?? (environment[`KVSPLICE_STORE_${variable}`] || undefined);
  const file = set("config", "CONFIG");
  const base = file === undefined ? {} : parseStoreConfig(readJson(file), file);
  const memory = set("memory", "MEMORY") ?? base.memory?.budget ?? DEFAULT_MEMORY;
  const path = set("disk", "DISK") ?? base.disk?.path ?? settings.folder;
  const diskBudget = set("diskBudget", "DISK_BUDGET") ?? base.disk?.budget;
  const url = set("redis", "REDIS") ?? base.redis?.url;
  const redisBudget = set("redisBudget", "REDIS_BUDGET") ?? base.redis?.budget;
  const objects = set("objects", "OBJECTS") ?? base.objects?.url;
  const namespace = environment["KVSPLICE_STORE_NAMESPACE"] || base.redis?.namespace;
  const key = environment["KVSPLICE_STORE_KEY"] || base.redis?.key;
  const shared = {
    ...(redisBudget !== undefined && { budget: redisBudget }),
    ...(namespace !== undefined && { namespace }),
    ...(key !== undefined && { key }),
  };
  const config = parseStoreConfig({
    memory: { budget: memory },
    ...(path !== undefined && { disk: { path, ...(diskBudget !== undefined && { budget: diskBudget }) } }),
    ...(url !== undefined && { redis: { ...base.redis, url, ...shared } }),
    ...(objects !== undefined && {
      objects: { ...base.objects, url: objects, ...(namespace !== undefined && { namespace }), ...(key !== undefined && { key }) },
    }),
  });
  return Object.fromEntries(Object.entries(config).filter(([, tier]) => !tier || !("budget" in tier) || tier.budget !== 0)) as StoreConfig;
}

function readJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch (cause) {
    throw new KvspliceError(
      "bad_file",
      `The store's configuration ${path} cannot be read (${(cause as Error).message}); docs/store.md has an example.`,
      { cause },
    );
  }
}
