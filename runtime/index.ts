// Before the library is loaded: modules are evaluated in the order of their imports.
import "./telemetry.js";

export { env, InferenceSession, Tensor } from "onnxruntime-node";
