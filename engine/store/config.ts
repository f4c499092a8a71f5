import { readFileSync } from "node:fs";
import { z } from "zod";
import { KvspliceError } from "../../plan/index.js";

const UNITS = { B: 1, KB: 2 ** 10, MB: 2 ** 20, GB: 2 ** 30, TB: 2 ** 40 };

/** Bytes as people write them, `2GB` or `512 MB` (powers of 1024), or as a number. */
const bytes = z.union([z.number(), z.string()]).transform((value, context) => {
  const [, number, unit] = /^\s*([\d.]+)\s*([KMGT]?B)?\s*$/i.exec(String(value)) ?? [];
  const size = Math.floor(Number(number) * UNITS[(unit ?? "B").toUpperCase() as keyof typeof UNITS]);
  if (size >= 0) return size;
  context.addIssue({ code: "custom", message: `"${value}" is no number of bytes; write one such as 2GB` });
  return z.NEVER;
});

/** Bytes of a text such as `2GB`; undefined where it says none. */
export function parseBytes(text: string): number | undefined {
  return bytes.safeParse(text).data;
}

const schema = z.strictObject({
  /** Blocks used last, in this process. 0 leaves the tier out. */
  memory: z.strictObject({ budget: bytes }).optional(),
  /** A folder of this machine, for any number of processes. */
  disk: z.strictObject({ path: z.string().min(1), budget: bytes.optional() }).optional(),
  /** A Redis server for any number of machines; `prefix` keeps several stores of one server apart. */
  redis: z
    .strictObject({
      url: z.string().regex(/^rediss?:\/\//, "give a URL such as redis://localhost:6379"),
      budget: bytes.optional(),
      prefix: z.string().min(1).default("kvsplice:"),
      /** Keeps tenants apart: a part of the prefix, and of the key that seals blocks. */
      namespace: z.string().regex(/^[\w.-]+$/, "use letters, digits, dots, hyphens and underscores").optional(),
      /** Seals blocks on the server, and lets no others in. */
      key: z.string().optional(),
    })
    .optional(),
});

/** The tiers of a store, each optional. Budgets in bytes. */
export type StoreConfig = z.output<typeof schema>;

/** The same as a person writes it: budgets may be texts such as "2GB". */
export type StoreConfigInput = z.input<typeof schema>;

/** @throws KvspliceError `bad_argument` that names the setting and where it stands */
export function parseStoreConfig(value: unknown, where = "The store's configuration"): StoreConfig {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const path = issue!.path.join(".");
  throw new KvspliceError("bad_argument", `${where}${path && `, ${path}`}: ${issue!.message}. docs/store.md has an example.`);
}

/** Settings as the command line has them. */
export type StoreSettings = {
  /** A JSON file of a `StoreConfig`. */
  readonly config?: string | undefined;
  readonly memory?: string | undefined;
  readonly disk?: string | undefined;
  readonly diskBudget?: string | undefined;
  readonly redis?: string | undefined;
  readonly redisBudget?: string | undefined;
  /** Folder of the disk tier where nothing else names one. */
  readonly folder?: string | undefined;
};

const DEFAULT_MEMORY = "512MB";

/**
 * One configuration of a file, the environment (`KVSPLICE_STORE_CONFIG`, `_MEMORY`, `_DISK`, `_DISK_BUDGET`,
 * `_REDIS`, `_REDIS_BUDGET`, `_NAMESPACE`, `_KEY`) and the command line; what comes later in this list goes before. Memory is 512 MB where
 * nothing says otherwise. A budget of 0 leaves its tier out.
 *
 * @throws KvspliceError `bad_argument`, `bad_file` where the file cannot be read
 */
export function readStoreConfig(settings: StoreSettings, environment: Readonly<Record<string, string | undefined>> = process.env): StoreConfig {
  const set = (name: keyof StoreSettings, variable: string) => settings[name] ?? (environment[`KVSPLICE_STORE_${variable}`] || undefined);
  const file = set("config", "CONFIG");
  const base = file === undefined ? {} : parseStoreConfig(readJson(file), file);
  const memory = set("memory", "MEMORY") ?? base.memory?.budget ?? DEFAULT_MEMORY;
  const path = set("disk", "DISK") ?? base.disk?.path ?? settings.folder;
  const diskBudget = set("diskBudget", "DISK_BUDGET") ?? base.disk?.budget;
  const url = set("redis", "REDIS") ?? base.redis?.url;
  const redisBudget = set("redisBudget", "REDIS_BUDGET") ?? base.redis?.budget;
  const namespace = environment["KVSPLICE_STORE_NAMESPACE"] || base.redis?.namespace;
  const key = environment["KVSPLICE_STORE_KEY"] || base.redis?.key;
  const shared = { ...(redisBudget !== undefined && { budget: redisBudget }), ...(namespace !== undefined && { namespace }), ...(key !== undefined && { key }) };
  const config = parseStoreConfig({
    memory: { budget: memory },
    ...(path !== undefined && { disk: { path, ...(diskBudget !== undefined && { budget: diskBudget }) } }),
    ...(url !== undefined && { redis: { ...base.redis, url, ...shared } }),
  });
  return Object.fromEntries(Object.entries(config).filter(([, tier]) => tier?.budget !== 0)) as StoreConfig;
}

function readJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch (cause) {
    throw new KvspliceError("bad_file", `The store's configuration ${path} cannot be read (${(cause as Error).message}); docs/store.md has an example.`, { cause });
  }
}
