import type { Activation, ExpertsSpec } from "../../model/spec.js";
import type { Activations } from "./activations.js";
import { linear } from "./linear.js";
import type { GraphWriter } from "./onnx.js";
import type { TensorReader } from "./rows.js";

/** gpt-oss's limit on gate and up, and the slope of its sigmoid. */
const CLAMP = 7;
const SLOPE = 1.702;

/**
 * A feed-forward of experts, `[1, S, hidden]`. Tokens are sorted by the experts chosen for them, each repeated for every
 * expert, and cut where the next expert's tokens begin. Each expert consists of ordinary linear layers over its own
 * tokens, of which there may be none.
 */
export function expertsOf(
  graph: GraphWriter,
  tensors: TensorReader,
  spec: ExpertsSpec,
  hidden: number,
  activations: Activations,
  input: string,
): string {
  const { experts, used, width } = spec;
  const ratings = linear(graph, input, [tensors.weight(spec.router, experts, hidden)], "float32");
  const [highest, chosen] = graph.fresh(2) as [string, string];
  graph.node("TopK", [ratings, graph.integers([used])], { axis: -1 }, [highest, chosen]);
  const shares = graph.node("Softmax", [highest], { axis: -1 });

  const choices = graph.node("Reshape", [chosen, graph.integers([-1])]);
  const byExpert = sortedIndices(graph, choices);
  const own = graph.node("Gather", [input, graph.node("Div", [byExpert, graph.integers([used])])], { axis: 1 });
  const isChosen = graph.node("Equal", [
    graph.node("Unsqueeze", [choices, graph.integers([1])]),
    graph.integers(Array.from({ length: experts }, (_, i) => i)),
  ]);
  const counts = graph.node("ReduceSum", [graph.node("Cast", [isChosen], { to: INT64 }), graph.integers([0])], { keepdims: 0 });
  const parts = graph.fresh(experts);
  graph.node("Split", [own, counts], { axis: 1 }, parts);

  const [gates, ups, downs] = [
    tensors.experts(spec.gate, experts, width, hidden),
    tensors.experts(spec.up, experts, width, hidden),
    tensors.experts(spec.down, experts, hidden, width),
  ];
  const results = parts.map((part, i) => {
    const gateUp = linear(graph, part, [gates[i]!, ups[i]!], activations);
    return linear(graph, gated(graph, gateUp, width, spec.activation), [downs[i]!], activations);
  });
  const back = graph.node("Gather", [graph.node("Concat", results, { axis: 1 }), sortedIndices(graph, byExpert)], { axis: 1 });
  const ofToken = graph.node("Reshape", [back, graph.integers([-1, used, hidden])]);
  const weighed = graph.node("MatMul", [graph.node("Reshape", [shares, graph.integers([-1, 1, used])]), ofToken]);
  return graph.node("Reshape", [weighed, graph.integers([1, -1, hidden])]);
}

/** ONNX's number for the type (TensorProto.DataType). */
const INT64 = 7;

/** The indices of a list's values, from the smallest value to the largest. */
function sortedIndices(graph: GraphWriter, values: string): string {
  const [sorted, indices] = graph.fresh(2) as [string, string];
  graph.node("TopK", [values, graph.node("Shape", [values])], { axis: 0, largest: 0 }, [sorted, indices]);
  return indices;
}

/** Combines gate and up, which are side by side in `[1, S, 2 * width]`. */
export function gated(graph: GraphWriter, gateUp: string, width: number, activation: Activation): string {
  const [gate, up] = graph.split(gateUp, [width, width], 2) as [string, string];
  switch (activation) {
    case "silu":
      return graph.node("Mul", [graph.contrib("QuickGelu", [gate], { alpha: 1 }), up]); // with this alpha it is SiLU
    case "gelu":
      return graph.node("Mul", [graph.contrib("FastGelu", [gate]), up]);
    case "clamped": {
      const most = graph.node("Min", [gate, graph.real(CLAMP)]);
      const within = graph.node("Clip", [up, graph.real(-CLAMP), graph.real(CLAMP)]);
      return graph.node("Mul", [graph.contrib("QuickGelu", [most], { alpha: SLOPE }), graph.node("Add", [within, graph.real(1)])]);
    }
  }
}
