import { KvspliceError } from "../../../plan/index.js";
import { Tensor } from "../../../runtime/index.js";
import type { Adapter, LowRank } from "../../model/adapter/index.js";
import type { LayerSpec, LinearSpec, ModelSpec } from "../../model/spec.js";
import { adaptable, type Product } from "./decoder.js";
import { queriesByGroup, rowsOf } from "./rows.js";

/** Inputs of an adapted graph: `a.l.p [columns, rank]` and `b.l.p [rank, rows]`. */
export type AdapterInputs = Readonly<Record<string, Tensor>>;

/** One weight of a product: where its rows begin in the product, and the graph's order of its rows and columns. */
type Part = { readonly linear: LinearSpec; readonly rows: number; readonly rowOrder?: Int32Array; readonly columnOrder?: Int32Array };

/** Factors of one weight: they are added to its part of a product, whose rows begin at `at`. */
type Factors = { readonly part: Part; readonly pair: LowRank; readonly scale: number; readonly from: number; readonly at: number };

/**
 * Factors of adapters that act together, in the graph's order of rows and columns. The factors of weights that form one
 * product are placed side by side, each over its own rows, and so are those of several adapters: their sum has a higher rank.
 *
 * @throws KvspliceError `bad_model` if an adapter belongs to another model
 */
export function adapterInputs(spec: ModelSpec, adapters: readonly Adapter[]): AdapterInputs {
  const inputs: Record<string, Tensor> = {};
  const used = new Map(adapters.map((adapter) => [adapter, new Set<string>()]));
  spec.layers.forEach((layer, l) => {
    for (const product of adaptable(layer)) {
      const factors: Factors[] = [];
      let size = { rows: 0, columns: 0 };
      for (const adapter of adapters) {
        const { parts, columns } = partsOf(spec, layer, product, adapter);
        size = { rows: parts.reduce((sum, part) => sum + part.rows, 0), columns };
        factors.push(...factorsOf(parts, columns, adapter, used.get(adapter)!));
      }
      const { a, b, rank } = sideBySide(factors, size);
      inputs[`a.${l}.${product}`] = new Tensor("float32", a, [size.columns, rank]);
      inputs[`b.${l}.${product}`] = new Tensor("float32", b, [rank, size.rows]);
    }
  });
  for (const [{ name, pairs }, known] of used) {
    const unused = [...pairs.keys()].find((weight) => !known.has(weight));
    if (unused !== undefined)
      throw new KvspliceError(
        "bad_model",
        `The adapter ${name} changes ${unused}, which ${spec.name} does not have. Use an adapter that was trained for this model.`,
      );
  }
  return inputs;
}

function factorsOf(parts: readonly Part[], columns: number, { name, scale, pairs }: Adapter, used: Set<string>): Factors[] {
  return parts.flatMap((part, i) => {
    const pair = pairs.get(part.linear.tensor);
    if (!pair) return [];
    used.add(part.linear.tensor);
    const [from, to] = part.linear.rows ?? [0, pair.rows];
    if (pair.columns !== columns || Math.min(to, pair.rows) - from !== part.rows) {
      throw new KvspliceError(
        "bad_model",
        `The adapter ${name} has factors of ${pair.rows} x ${pair.columns} for ${part.linear.tensor}, which has another shape. Use an adapter that was trained for this model.`,
      );
    }
    return [{ part, pair, scale, from, at: parts.slice(0, i).reduce((sum, each) => sum + each.rows, 0) }];
  });
}

/** `a [columns, rank]` and `b [rank, rows]` of all factors; a product without factors gets zeros of rank 1. */
function sideBySide(factors: readonly Factors[], { rows, columns }: { readonly rows: number; readonly columns: number }) {
  const rank = factors.reduce((sum, { pair }) => sum + pair.rank, 0) || 1;
  const [a, b] = [new Float32Array(columns * rank), new Float32Array(rank * rows)];
  let first = 0;
  for (const { part, pair, scale, from, at } of factors) {
    for (let r = 0; r < pair.rank; r++) {
      for (let c = 0; c < columns; c++) a[c * rank + first + r] = pair.a[r * columns + (part.columnOrder ? part.columnOrder[c]! : c)]!;
      for (let row = 0; row < part.rows; row++) {
        const source = from + (part.rowOrder ? part.rowOrder[row]! : row);
        b[(first + r) * rows + at + row] = scale * pair.b[source * pair.rank + r]!;
      }
    }
    first += pair.rank;
  }
  return { a, b, rank };
}

function partsOf(
  spec: ModelSpec,
  { attention, feedForward }: LayerSpec,
  product: Product,
  { rowOrder }: Adapter,
): { readonly parts: readonly Part[]; readonly columns: number } {
  const { heads, kvHeads, headSize, query, key, value, output } = attention;
  const [queries, width] = [heads * headSize, kvHeads * headSize];
  const byGroup = queriesByGroup(attention);
  const turned = attention.rotary === undefined ? undefined : spec.rotaries[attention.rotary]!.dimensions;
  const inFile = (linear: LinearSpec, rows: number) => rowsOf(rowOrder === "file" ? linear.pairs : "halves", rows, headSize, turned);
  switch (product) {
    case "qkv": {
      const queryRows = inFile(query, queries);
      const parts = [
        { linear: query, rows: queries, rowOrder: byGroup.map((row) => queryRows[row]!) },
        { linear: key, rows: width, rowOrder: inFile(key, width) },
        { linear: value, rows: width },
      ];
      return { parts, columns: spec.hidden };
    }
    case "output":
      return { parts: [{ linear: output, rows: spec.hidden, columnOrder: byGroup }], columns: queries };
    case "gateUp":
      return { parts: [feedForward.gate, feedForward.up].map((linear) => ({ linear, rows: feedForward.width })), columns: spec.hidden };
    case "down":
      return { parts: [{ linear: feedForward.down, rows: spec.hidden }], columns: feedForward.width };
  }
}
