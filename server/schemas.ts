import { realpathSync } from "node:fs";
import { relative, sep } from "node:path";
import { globSync } from "tinyglobby";
import { KvspliceError } from "../plan/index.js";
import {
  type Compiled,
  compileMarkup,
  type Data,
  type Diagnostic,
  type Documents,
  folderFiles,
  hasErrors,
  type Markup,
  type MarkupLanguage,
  openMarkup,
  readMarkup,
} from "../pml/index.js";
import { ApiError } from "./error.js";

/**
 * The schemas of one folder, by the names in their markup, so that clients never name a path. A file is read for each
 * request, so changes to a schema take effect at once.
 */
export class Schemas {
  private fileOf = new Map<string, string>();
  /** Problems that the last search of the folder reported. */
  private told: ReadonlySet<string> = new Set();

  /** @param tell called once for each problem because of which a file is not served, until that changes */
  constructor(
    private readonly dir: string,
    private readonly language: MarkupLanguage,
    private readonly tell: (problem: string) => void,
  ) {
    this.search();
  }

  get names(): readonly string[] {
    this.search();
    return [...this.fileOf.keys()];
  }

  /**
   * Compiles a schema's prompt for the engine.
   * @throws ApiError 404 for an unknown schema, 400 for markup with errors, all of which are in the message
   */
  compile(name: string, prompt: string, options: { readonly documents: Documents; readonly data?: Data }): Compiled {
    const files = [this.read(name), openMarkup(Buffer.from(prompt), { kind: "prompt", file: "prompt", files: folderFiles(this.root()) })];
    const { files: compiled, diagnostics } = compileMarkup(files, { language: this.language, ...options });
    const found = compiled[1]?.compiled;
    if (found && !hasErrors(diagnostics)) return found;
    throw new ApiError(
      400,
      diagnostics
        .filter(({ severity }) => severity === "error")
        .map(sentence)
        .join("\n"),
      { param: "prompt", code: "bad_markup" },
    );
  }

  private read(name: string): Markup {
    for (const searched of [false, true]) {
      if (searched) this.search();
      const file = this.fileOf.get(name);
      const read = file === undefined ? undefined : readMarkup(file);
      if (read?.kind === "schema" && read.schema.name === name) return read;
    }
    const known = [...this.fileOf.keys()].map((each) => `'${each}'`).join(", ");
    throw new ApiError(404, `There is no schema with this name. This server has ${known || "none"}.`, {
      param: "schema",
      code: "schema_not_found",
    });
  }

  private root(): string {
    try {
      return realpathSync(this.dir);
    } catch (cause) {
      throw new KvspliceError(
        "bad_file",
        `The folder of schemas ${this.dir} cannot be read (${(cause as NodeJS.ErrnoException).code}). Give another one with --schemas.`,
        { cause },
      );
    }
  }

  private search(): void {
    const root = this.root();
    this.fileOf = new Map();
    const problems = new Set<string>();
    for (const path of globSync("**/*.pml", { cwd: root, absolute: true, followSymbolicLinks: false }).sort()) {
      const file = realpathSync(path);
      const shown = relative(root, path);
      if (!file.startsWith(root + sep)) continue;
      const read = readMarkup(file);
      const [error] = read.diagnostics.filter(({ severity }) => severity === "error");
      if (error)
        problems.add(`${shown}${error.place ? `:${error.place.line}` : ""} has errors and is not served: ${error.message} [${error.code}]`);
      if (read.kind !== "schema") continue;
      const { name } = read.schema;
      const other = this.fileOf.get(name);
      if (other === undefined) this.fileOf.set(name, file);
      else problems.add(`${shown} and ${relative(root, other)} both define schema '${name}'; the latter is served. Rename one of them.`);
    }
    for (const problem of problems) if (!this.told.has(problem)) this.tell(problem);
    this.told = problems;
  }
}

/** A diagnostic with its line in the client's prompt, but never a path of the server. Values have no lines. */
function sentence({ code, message, place }: Diagnostic): string {
  const where = place === undefined ? "" : place.file === "prompt" ? `line ${place.line}, column ${place.column}: ` : "schema: ";
  return `${where}${message} [${code}]`;
}
