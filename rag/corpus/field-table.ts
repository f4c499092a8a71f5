import { KvspliceError, Pace } from "../../plan/index.js";
import { dateText, type Fields } from "../fields.js";
import { matcherOf, type Where } from "../retrieve/where.js";
import type { ChunkRecord, CorpusRecords, FileRecord } from "./records.js";

/** Most fields named in an error. */
const MOST_NAMED = 20;

/** Fields that every chunk has for conditions. */
const COMMON = ["path", "title", "page", "date"];

/** A chunk's own fields and those that every chunk has. */
export function allFields(
  { path, title, page, fields = {} }: Pick<ChunkRecord, "path" | "title" | "page" | "fields">,
  file: Pick<FileRecord, "modified_ms"> | undefined,
): Fields {
  const date = fields["date"] ?? (file && dateText(new Date(file.modified_ms)));
  return { ...fields, path, title, ...(page !== undefined && { page }), ...(date !== undefined && { date }) };
}

/** The fields of all chunks of a corpus, read when first needed and again when the corpus has changed. */
export class FieldTable {
  private known: { readonly generation: string; readonly fields: ReadonlyMap<number, Fields> } | undefined;

  constructor(private readonly records: CorpusRecords) {}

  /**
   * The chunks that a question may find.
   * @throws KvspliceError `bad_argument` for a condition on a field that no chunk has
   */
  async select(where: Where): Promise<ReadonlySet<number>> {
    const all = await this.all();
    this.mustKnow(where, all);
    const matches = matcherOf(where);
    return new Set([...all].flatMap(([id, fields]) => (matches(fields) ? [id] : [])));
  }

  /** Lets the event loop run while many chunks are read. */
  private async all(): Promise<ReadonlyMap<number, Fields>> {
    const { records } = this;
    const { generation } = records;
    if (this.known?.generation === generation) return this.known.fields;
    const fields = new Map<number, Fields>();
    const pace = new Pace();
    for (const file of [...records.allFiles()]) {
      for (const id of file.chunks) {
        const chunk = records.chunk(id);
        if (chunk !== undefined) fields.set(id, allFields(chunk, file));
        await pace.breathe();
      }
    }
    this.known = { generation, fields };
    return fields;
  }

  /** A misspelt field would silently find nothing. */
  private mustKnow(where: Where, all: ReadonlyMap<number, Fields>): void {
    const names = new Set(COMMON);
    for (const fields of all.values()) for (const name of Object.keys(fields)) names.add(name);
    const unknown = Object.keys(where).find((name) => !names.has(name));
    if (unknown === undefined) return;
    const some = [...names].slice(0, MOST_NAMED).join(", ");
    throw new KvspliceError(
      "bad_argument",
      `No document of the corpus has the field "${unknown}"; there are ${some}. Documents read by an older kvsplice have no fields of their own: precompute them again, which encodes nothing again.`,
    );
  }
}
