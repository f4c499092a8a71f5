// Must come before the library is loaded: modules are evaluated in import order.
import "./telemetry.js";

export { env, InferenceSession, Tensor } from "onnxruntime-node";
export { usableCores } from "./cores.js";
