import { createHash } from "node:crypto";
import { closeSync, createReadStream, existsSync, fstatSync, openSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { KvspliceError } from "../../../plan/index.js";
import { readFully } from "../../../storage/index.js";
import { type PlacedTensor, readGgufHeader } from "./gguf-header.js";
import { bytesOf } from "./layout.js";
import type { ModelFile, ModelMetadata, RawTensor } from "./model-file.js";

/** One file of a model: most models have one, large ones are split into several. */
type Part = { readonly path: string; readonly file: number; readonly metadata: ModelMetadata; readonly tensors: readonly PlacedTensor[] };

/** The names of a split model's parts, as llama.cpp's gguf-split writes them. */
const PART_NAME = /^(?<prefix>.+)-(?<number>\d{5})-of-(?<count>\d{5})\.gguf$/i;

/** llama.cpp itself allows 16 bits for the number of parts; no model has more than a few hundred. */
const MAX_PARTS = 1_000;

/**
 * Opens a GGUF file, or all parts of a split one if any of them is named.
 *
 * @throws KvspliceError `bad_model` for what is missing or wrong
 */
export function openGguf(path: string): ModelFile {
  const parts: Part[] = [];
  const close = () => parts.forEach(({ file }) => closeSync(file));
  try {
    for (const each of partPaths(path)) parts.push(openPart(each));
    mustBeInOrder(parts);
    return modelFileOf(path, parts, placesOf(parts), close);
  } catch (error) {
    close();
    throw error;
  }
}

function modelFileOf(
  path: string,
  parts: readonly Part[],
  places: ReadonlyMap<string, PlacedTensor & { part: Part }>,
  close: () => void,
): ModelFile {
  const placeOf = (name: string) => {
    const place = places.get(name);
    if (!place) throw new KvspliceError("bad_model", `${path} has no tensor ${name}.`);
    return place;
  };
  const read = (
    { name, type, part }: PlacedTensor & { part: Part },
    shape: readonly number[],
    offset: number,
    length: number,
  ): RawTensor => ({
    name,
    type,
    shape,
    // Read on access: a graph writer names all tensors, and unpacks them one by one.
    get bytes() {
      const bytes = readFully(part.file, offset, length);
      if (!bytes)
        throw new KvspliceError("bad_model", `${part.path} became shorter while it was open: ${name} is incomplete. Copy the file again.`);
      return bytes;
    },
  });
  let hash: Promise<string> | undefined;
  return {
    path,
    parts: parts.map((part) => part.path),
    origin: "gguf",
    variant: "",
    metadata: parts[0]!.metadata,
    names: () => places.keys(),
    has: (name) => places.has(name),
    info(name) {
      const { type, shape } = placeOf(name);
      return { name, type, shape };
    },
    tensor(name) {
      const place = placeOf(name);
      return read(place, place.shape, place.offset, place.length);
    },
    rows(name, from, count) {
      const place = placeOf(name);
      const columns = place.shape.at(-1)!;
      const length = bytesOf(place.type, columns);
      return read(place, [count, columns], place.offset + from * length, count * length);
    },
    contentHash: () => (hash ??= hashOf(parts.map((part) => part.path))),
    close,
  };
}

/** The model's files in order, given the name of any of them. */
function partPaths(path: string): readonly string[] {
  const match = PART_NAME.exec(basename(path))?.groups as { prefix: string; number: string; count: string } | undefined;
  const count = Number(match?.count ?? 1);
  if (!match || count < 2) return [path];
  if (count > MAX_PARTS)
    throw new KvspliceError("bad_model", `${path} claims to be one of ${count} parts; no model has more than ${MAX_PARTS}.`);
  const paths = Array.from({ length: count }, (_, i) =>
    join(dirname(path), `${match.prefix}-${String(i + 1).padStart(5, "0")}-of-${match.count}.gguf`),
  );
  const missing = paths.filter((each) => each !== path && !existsSync(each));
  if (missing.length > 0) {
    throw new KvspliceError(
      "bad_model",
      `${path} is one of ${count} parts, and ${missing.map((each) => basename(each)).join(", ")} is missing. Put all parts into one folder.`,
    );
  }
  return paths;
}

function openPart(path: string): Part {
  if (!existsSync(path)) throw new KvspliceError("bad_model", `${path} does not exist. Give the path of a model.`);
  if (!statSync(path).isFile())
    throw new KvspliceError("bad_model", `${path} is a folder without config.json. Give a .gguf file, or a Hugging Face folder.`);
  let file: number;
  try {
    file = openSync(path, "r");
  } catch (cause) {
    throw new KvspliceError("bad_model", `${path} cannot be opened (${(cause as NodeJS.ErrnoException).code}). Make it readable.`, {
      cause,
    });
  }
  try {
    return { path, file, ...readGgufHeader(file, fstatSync(file).size, path) };
  } catch (error) {
    closeSync(file);
    throw error;
  }
}

function mustBeInOrder(parts: readonly Part[]): void {
  for (const [i, { path, metadata }] of parts.entries()) {
    const count = Number(metadata["split.count"] ?? 1);
    const number = Number(metadata["split.no"] ?? 0);
    if (count === parts.length && number === i) continue;
    const says = `The metadata of ${path} says that it is part ${number + 1} of ${count}`;
    const want = `-${String(number + 1).padStart(5, "0")}-of-${String(count).padStart(5, "0")}.gguf`;
    throw new KvspliceError("bad_model", `${says}, but its name differs. Restore each part's original name; this one's ends in ${want}.`);
  }
}

function placesOf(parts: readonly Part[]): ReadonlyMap<string, PlacedTensor & { part: Part }> {
  const places = new Map<string, PlacedTensor & { part: Part }>();
  for (const part of parts) {
    for (const tensor of part.tensors) {
      if (places.has(tensor.name))
        throw new KvspliceError("bad_model", `${part.path} is damaged: tensor ${tensor.name} appears twice. Download or convert it again.`);
      places.set(tensor.name, { ...tensor, part });
    }
  }
  const promised = parts[0]!.metadata["split.tensors.count"];
  if (promised !== undefined && Number(promised) !== places.size) {
    throw new KvspliceError(
      "bad_model",
      `${parts[0]!.path} and its other parts have ${places.size} of ${Number(promised)} tensors: they are not parts of one model. Download all of them again.`,
    );
  }
  return places;
}

/** The file's SHA-256; for several files, that of their hashes. */
async function hashOf(paths: readonly string[]): Promise<string> {
  const hashes = [];
  for (const path of paths) {
    const hash = createHash("sha256");
    await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash);
    hashes.push(hash.digest("hex"));
  }
  return hashes.length === 1 ? hashes[0]! : createHash("sha256").update(hashes.join("\n")).digest("hex");
}
