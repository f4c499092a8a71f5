import { realpathSync } from "node:fs";
import { sep } from "node:path";
import { globSync } from "tinyglobby";
import { KvspliceError, type Model } from "../engine/index.js";
import { compilePrompt, hasErrors, layoutSchema, parsePrompt, readSchema, type Compiled, type Diagnostic, type Documents, type ReadSchema } from "../pml/index.js";
import { ApiError } from "./error.js";

/**
 * The schemas of one folder, by the names that they have in their markup: nothing that a client writes is a path. A
 * file is read anew for each request, so that an edited schema serves at once.
 */
export class Schemas {
  private fileOf = new Map<string, string>();

  constructor(
    private readonly dir: string,
    private readonly model: Pick<Model, "tokenizer" | "chat" | "contextLength">,
  ) {
    this.search();
  }

  get names(): readonly string[] {
    this.search();
    return [...this.fileOf.keys()];
  }

  /**
   * A prompt of a schema, ready for the engine.
   * @throws ApiError 404 for a name that no schema has, 400 for markup with errors: all of them are in the message
   */
  compile(name: string, prompt: string, documents: Documents): Compiled {
    const read = this.read(name);
    const { layout, diagnostics } = read.schema ? layoutSchema(read.schema, this.model) : { layout: undefined, diagnostics: [] };
    const parsed = parsePrompt(Buffer.from(prompt), { file: "prompt" });
    const compiled = layout && parsed.prompt ? compilePrompt(layout, parsed.prompt, { documents }) : undefined;
    const found = [...read.diagnostics, ...diagnostics, ...parsed.diagnostics, ...(compiled?.diagnostics ?? [])];
    if (compiled?.compiled && !hasErrors(found)) return compiled.compiled;
    throw new ApiError(400, found.filter(({ severity }) => severity === "error").map(sentence).join("\n"), { param: "prompt", code: "bad_markup" });
  }

  private read(name: string): ReadSchema {
    for (const searched of [false, true]) {
      if (searched) this.search();
      const file = this.fileOf.get(name);
      const read = file === undefined ? undefined : readSchema(file);
      if (read?.schema?.name === name) return read;
    }
    const known = [...this.fileOf.keys()].map((each) => `'${each}'`).join(", ");
    throw new ApiError(404, `There is no schema of this name; this server has ${known || "none"}.`, { param: "schema", code: "schema_not_found" });
  }

  private root(): string {
    try {
      return realpathSync(this.dir);
    } catch (cause) {
      throw new KvspliceError("bad_file", `The folder of schemas ${this.dir} cannot be read (${(cause as NodeJS.ErrnoException).code}); give another with --schemas.`, { cause });
    }
  }

  private search(): void {
    const root = this.root();
    this.fileOf = new Map();
    for (const path of globSync("**/*.pml", { cwd: root, absolute: true, followSymbolicLinks: false }).sort()) {
      const file = realpathSync(path);
      const name = file.startsWith(root + sep) ? readSchema(file).schema?.name : undefined;
      if (name !== undefined && !this.fileOf.has(name)) this.fileOf.set(name, file);
    }
  }
}

/** The line of the client's own prompt, and never a path of the server. */
function sentence({ code, message, place }: Diagnostic): string {
  return `${place?.file === "prompt" ? `line ${place.line}, column ${place.column}: ` : "schema: "}${message} [${code}]`;
}
