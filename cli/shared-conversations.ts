import { SharedConversations } from "../chat/index.js";
import { readStoreConfig, Seal } from "../engine/index.js";
import { KvspliceError } from "../plan/index.js";
import { DAY_ms, type OfferOptions } from "./offers.js";

/**
 * The conversation records that servers share through one Redis; undefined if they are not shared.
 * @throws KvspliceError `bad_argument` if no Redis is given
 */
export function openSharedConversations(
  { shareConversations, storeConfig, redis, chatTokens, chatDays }: OfferOptions,
  onTrouble: (message: string) => void,
): SharedConversations | undefined {
  if (!shareConversations) return undefined;
  const tier = readStoreConfig({ config: storeConfig, redis }).redis;
  if (!tier)
    throw new KvspliceError(
      "bad_argument",
      "--share-conversations needs a Redis that the servers share. Name it with --redis redis://host:6379 (or KVSPLICE_STORE_REDIS).",
    );
  return new SharedConversations({
    url: tier.url,
    prefix: `${tier.prefix}${tier.namespace === undefined ? "" : `${tier.namespace}:`}chat:`,
    maxTokens: chatTokens,
    maxAge_ms: chatDays * DAY_ms,
    seal: tier.key === undefined ? undefined : new Seal(tier.key, tier.namespace),
    onTrouble,
  });
}
