/**
 * From plans to answers: a model, the KV of its blocks, and the stores that keep them.
 *
 *     const model = await loadModel();
 *     console.log(await model.generate(plan, { store: openBlockStore({ memory: { budget: 2 ** 29 } }) }).text);
 */

export type { BlockPiece, BlockSource, ChatTemplate, ErrorCode, FreshPiece, Piece, Plan, Range, Role, Tokenizer } from "../plan/index.js";
export { isBlockPiece, KvspliceError, tokensOf, withoutCache } from "../plan/index.js";
export { CommonCommit, checkLmdbFile, isOpenable, makeFolder, mayWriteLmdb, storageError } from "../storage/index.js";
export { ACTIVATIONS, type Activations, DEFAULT_ACTIVATIONS } from "./backend/cpu/activations.js";
export { type BuiltGraphs, builtGraphs, graphsFolder, removeGraphs } from "./backend/cpu/built-graphs.js";
export { DEFAULT_ENCODING, ENCODINGS, type Encoding } from "./backend/cpu/encoding.js";
export type { Gpu, Hardware, Vendor, VulkanDriver } from "./backend/webgpu/devices.js";
export { DEFAULT_DEVICE, DEVICES, type DeviceChoice, type DeviceName, type Survey, surveyDevices } from "./backend/webgpu/survey.js";
export type { Trial } from "./backend/webgpu/trial.js";
export { type Constraint, createMask, type Grammar } from "./constraint.js";
export type { Activity, Model } from "./engine.js";
export { type Elsewhere, type EncodeOptions, type Encoder, type FetchOptions, storeBlock } from "./fetch-blocks.js";
export type { GeneratedToken, GenerateOptions, Generation, GenerationStats, Phase, PromptStats, Scored } from "./generation.js";
export type { Block, Precision } from "./kv/block.js";
export { blockFits, DEFAULT_PRECISION, PRECISIONS } from "./kv/block.js";
export type { KvForm, LayerForm, LayerShape } from "./kv/form.js";
export { decodeSafetensors, encodeSafetensors } from "./kv/safetensors.js";
export { Lifetime } from "./lifetime.js";
export { DEFAULT_LINK, isLink, type Link, linkText, NO_LINK, parseLink } from "./link/index.js";
export type { LoadProgress } from "./load-progress.js";
export type { LoadOptions } from "./loaded-model.js";
export { loadModel } from "./loaded-model.js";
export { type Adapter, type AdapterChoice, readAdapter, type UsedAdapter } from "./model/adapter/index.js";
export type { ModelCard } from "./model/card.js";
export { carriedFile } from "./model/carried.js";
export { DEFAULT_QUANTIZATION, QUANTIZATIONS, type Quantization } from "./model/files/open.js";
export {
  type HeldModel,
  isHeldSound,
  listModels,
  modelsFolder,
  type PullProgress,
  pullAdapter,
  pullEncoder,
  pullModel,
  removeHeld,
} from "./model/hub/index.js";
export { defaultModelPath, type Language, loadTokenizer } from "./model/language.js";
export { type ModelNeeds, modelNeeds } from "./model/needs.js";
export type { SamplingOptions } from "./sampling.js";
export type { Client } from "./schedule/shares.js";
export {
  parseBytes,
  parseStoreConfig,
  readStoreConfig,
  type StoreConfig,
  type StoreConfigInput,
  type StoreSettings,
} from "./store/config.js";
export { Seal, type Sealing, sameSeal, sealOf } from "./store/seal.js";
export type {
  BlockInfo,
  BlockKey,
  BlockStore,
  DeleteOptions,
  Lease,
  PutOptions,
  StoredTier,
  StoreHooks,
  StoreStats,
  TieredStore,
  TierName,
  TierStats,
} from "./store/store.js";
export {
  openBlockStore,
  /** @deprecated Use `openBlockStore`. */
  openBlockStore as openStore,
  openDiskStore,
} from "./store/tiers.js";
export { WhenAwaited } from "./when-awaited.js";
