/** What a layer stores of one token in a block: K and V, `heads * headSize` values each. */
export type LayerShape = { readonly heads: number; readonly headSize: number };

/**
 * What a layer stores of one token, and how its K is rotated: `rotary` is the index of one of the model's rotary embeddings,
 * undefined if the layer has none. The `kind` leaves room for layers that store something else, such as a state.
 */
export type LayerForm = LayerShape & { readonly kind: "kv"; readonly rotary: number | undefined };

/** What one token's KV consists of in a model, layer by layer. */
export type KvForm = { readonly layers: readonly LayerForm[] };

/** Length of one token's K (or V) in a layer. */
export function widthOf({ heads, headSize }: LayerShape): number {
  return heads * headSize;
}

/**
 * Where each layer's values begin when the layers' values follow one another: `[before layer 0, ..., before the end]`, in
 * units of one token's values (`widths`), and of one token's heads.
 */
export function layerOffsets(layers: readonly LayerShape[]): { readonly widths: readonly number[]; readonly heads: readonly number[] } {
  const [widths, heads] = [[0], [0]];
  for (const layer of layers) {
    widths.push(widths.at(-1)! + widthOf(layer));
    heads.push(heads.at(-1)! + layer.heads);
  }
  return { widths, heads };
}
