/** What a layer keeps of one token in a block: K and V, `heads * headSize` values each. */
export type LayerShape = { readonly heads: number; readonly headSize: number };

/**
 * What a layer keeps of one token, and how its K is turned: `rotary` is the kind of rotary embedding among the model's,
 * undefined where the layer has none. The `kind` leaves room for layers that keep something else, such as a state.
 */
export type LayerForm = LayerShape & { readonly kind: "kv"; readonly rotary: number | undefined };

/** What one token's KV is made of in a model, layer by layer. */
export type KvForm = { readonly layers: readonly LayerForm[] };

/** Length of one token's K (or V) in a layer. */
export function widthOf({ heads, headSize }: LayerShape): number {
  return heads * headSize;
}

/**
 * Where each layer's values begin where all layers' lie one after the other, as `[before layer 0, ..., before the end]`:
 * in units of one token's values (`widths`), and of one token's heads.
 */
export function layerOffsets(layers: readonly LayerShape[]): { readonly widths: readonly number[]; readonly heads: readonly number[] } {
  const [widths, heads] = [[0], [0]];
  for (const layer of layers) {
    widths.push(widths.at(-1)! + widthOf(layer));
    heads.push(heads.at(-1)! + layer.heads);
  }
  return { widths, heads };
}
