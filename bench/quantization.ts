/**
 * The error of int8 for the default model's K and V, by which values share a scale: root mean square of the error divided by
 * that of the values, and bytes per value including scales. Over 24 articles of examples/corpus, up to 256 tokens each.
 *
 *     npx tsx bench/quantization.ts
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { globSync } from "tinyglobby";
import { loadModel } from "../engine/index.js";
import type { Float32Block } from "../engine/kv/block.js";
import { widthOf } from "../engine/kv/form.js";

const [ARTICLES, TOKENS, HEAD_SIZE, SCALE_BYTES] = [24, 256, 64, 4];
const GROUPS = [16, 32, 64, 128, 160, 256];

const sums = new Map<string, { error: number; square: number; values: number; scales: number }>();

/** Rounds the values at these places to multiples of one scale; `asymmetric` also has a zero point. */
function round(scheme: string, values: Float32Array, places: readonly number[], asymmetric: boolean): void {
  const chosen = places.map((place) => values[place]!);
  const [low, high] = [Math.min(...chosen), Math.max(...chosen)];
  const scale = (asymmetric ? (high - low) / 255 : Math.max(-low, high) / 127) || 1;
  const zero = asymmetric ? low + 128 * scale : 0;
  const sum = sums.get(scheme) ?? { error: 0, square: 0, values: 0, scales: 0 };
  for (const value of chosen) {
    sum.error += (Math.round((value - zero) / scale) * scale + zero - value) ** 2;
    sum.square += value ** 2;
  }
  sum.values += chosen.length;
  sum.scales += asymmetric ? 2 : 1;
  sums.set(scheme, sum);
}

const range = (from: number, count: number, step = 1) => Array.from({ length: count }, (_, i) => from + i * step);

function measure({ k, v, layers: { length: layers, 0: layer }, tokens }: Float32Block): void {
  const width = widthOf(layer!); // all of the default model's layers have the same width
  for (const asymmetric of [false, true]) {
    const form = asymmetric ? "asymmetric" : "symmetric";
    for (let row = 0; row < layers * tokens; row++) {
      round(`V per token, ${form}`, v, range(row * width, width), asymmetric);
      for (let head = 0; head < width; head += HEAD_SIZE) {
        round(`V per token and head, ${form}`, v, range(row * width + head, HEAD_SIZE), asymmetric);
        round(`K per token and head, ${form}`, k, range(row * width + head, HEAD_SIZE), asymmetric);
      }
    }
    for (const group of GROUPS) {
      for (let layer = 0; layer < layers; layer++) {
        for (let start = 0; start < tokens; start += group) {
          for (let channel = 0; channel < width; channel++) {
            const places = range((layer * tokens + start) * width + channel, Math.min(group, tokens - start), width);
            round(`K per channel of ${String(group).padStart(3)} tokens, ${form}`, k, places, asymmetric);
          }
        }
      }
    }
  }
}

const model = await loadModel({ precision: "float32" });
const folder = join(import.meta.dirname, "..", "examples", "corpus");
for (const name of globSync("*.md", { cwd: folder }).sort().slice(0, ARTICLES)) {
  const tokens = model.tokenizer.encode(readFileSync(join(folder, name), "utf8")).slice(0, TOKENS);
  measure((await model.encode({ tokens })) as Float32Block);
}
await model.close();

console.table(
  Object.fromEntries(
    [...sums]
      .sort(([a], [b]) => a.localeCompare(b))
      .map(([scheme, { error, square, values, scales }]) => [
        scheme,
        { "relative error": Math.sqrt(error / square).toFixed(4), "bytes per value": (1 + (scales * SCALE_BYTES) / values).toFixed(3) },
      ]),
  ),
);
