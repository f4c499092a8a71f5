import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** package.json of this clone. */
export const own = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as Readonly<Record<string, unknown>> & {
  readonly dependencies: Readonly<Record<string, string>>;
  readonly optionalDependencies: Readonly<Record<string, string>>;
  readonly peerDependencies: Readonly<Record<string, string>>;
  readonly peerDependenciesMeta: Readonly<Record<string, { readonly optional: boolean }>>;
  readonly files: readonly string[];
};

/** Writes a package.json. All packages name the repository they are built in: otherwise provenance is refused. */
export async function writeManifest(folder: string, manifest: object): Promise<void> {
  const { repository } = own;
  const whole = { ...manifest, ...(repository !== undefined && { repository }) };
  await writeFile(join(folder, "package.json"), `${JSON.stringify(whole, undefined, 2)}\n`);
}
