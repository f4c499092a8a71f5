import { createHash } from "node:crypto";
import { KvspliceError } from "../../../plan/index.js";
import type { Adapter } from "./adapter.js";
import { readAdapter } from "./read.js";

/** An adapter to load, and how strongly it acts. */
export type AdapterChoice = {
  /** A PEFT folder, a .safetensors file or a .gguf file. */
  readonly path: string;
  /** Multiplies the adapter's own scale; 1 if omitted. */
  readonly scale?: number | undefined;
  /** Its display name; the last part of its path if omitted. */
  readonly name?: string | undefined;
};

/** An adapter that a model was loaded with: its scale is part of its name (`style=0.5`) and of its id. */
export type UsedAdapter = Pick<Adapter, "name" | "id" | "where">;

/**
 * Reads adapters that act together, in an order independent of that of the choices.
 * @throws KvspliceError as `readAdapter` does, and `bad_argument` for an adapter that is given twice, or a scale that is not a number
 */
export async function readAdapters(choices: readonly AdapterChoice[]): Promise<readonly Adapter[]> {
  const adapters: Adapter[] = [];
  const seen = new Set<string>();
  for (const { path, scale = 1, name } of choices) {
    if (!Number.isFinite(scale)) throw new KvspliceError("bad_argument", `The scale of ${path} is ${scale}. Give a number such as 0.5.`);
    const adapter = await readAdapter(path);
    const called = name ?? adapter.name;
    if (seen.has(adapter.id))
      throw new KvspliceError(
        "bad_argument",
        `The adapter ${called} is given twice. Give it once, with the sum of the scales: ${called}=2.`,
      );
    seen.add(adapter.id);
    adapters.push(
      scale === 1
        ? { ...adapter, name: called }
        : { ...adapter, name: `${called}=${scale}`, scale: scale * adapter.scale, id: sha256(`${adapter.id} ${scale}`) },
    );
  }
  return adapters.sort((a, b) => (a.id < b.id ? -1 : 1));
}

/** The identity of adapters that act together: a single one's own id; undefined if there are none. */
export function identityOf(adapters: readonly Adapter[]): string | undefined {
  return adapters.length < 2 ? adapters[0]?.id : sha256(adapters.map(({ id }) => id).join(" "));
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
