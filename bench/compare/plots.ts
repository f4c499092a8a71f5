import * as vega from "vega";
import { compile, type TopLevelSpec } from "vega-lite";
import type { FirstToken } from "./results.js";

const WAYS = ["node-llama-cpp, cold", "kvsplice, full prefill", "kvsplice, spliced"] as const;

/** Time to the first token over the quantity `along`, one line per way, on a logarithmic scale, as SVG. */
export async function firstTokenPlot(rows: readonly FirstToken[], along: "documents" | "tokens", title: string): Promise<string> {
  const values = rows.flatMap((row) => {
    const ms = [row.llama_ms, row.full_ms, row.spliced_ms];
    return WAYS.map((way, i) => ({ way, at: row[along], ms: ms[i]!.median, min: ms[i]!.min, max: ms[i]!.max }));
  });
  const x = {
    field: "at",
    type: "quantitative",
    title: along === "documents" ? "documents of 130 tokens" : "tokens of the prompt",
  } as const;
  const color = {
    field: "way",
    type: "nominal",
    title: null,
    scale: { domain: [...WAYS], range: ["#b3541e", "#6b7280", "#1d6fa5"] },
    legend: { orient: "top" },
  } as const;
  const spec: TopLevelSpec = {
    background: "white",
    title: { text: title, anchor: "start" },
    width: 520,
    height: 300,
    data: { values },
    layer: [
      {
        mark: { type: "rule", strokeWidth: 1 },
        encoding: { x, y: { field: "min", type: "quantitative", scale: { type: "log" } }, y2: { field: "max" }, color },
      },
      {
        mark: { type: "line", point: true },
        encoding: { x, y: { field: "ms", type: "quantitative", title: "time to first token, ms", scale: { type: "log" } }, color },
      },
    ],
  };
  return new vega.View(vega.parse(compile(spec).spec), { renderer: "none" }).toSVG();
}
