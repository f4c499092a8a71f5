import { createHmac, timingSafeEqual } from "node:crypto";
import { KvspliceError } from "../../plan/index.js";

/** Bytes in a SHA-256. */
const SEAL_BYTES = 32;

/** A seal being computed. */
export type Sealing = {
  /** Adds the next bytes. */
  add(bytes: Uint8Array): void;
  /** The seal over all bytes added: 32 bytes. Nothing can be added afterwards. */
  end(): Buffer;
};

/** Shorter secrets can be guessed. */
const LEAST_SECRET = 16;

/**
 * Authenticates data stored where others can write: HMAC-SHA256 (RFC 2104) over a name and the bytes under it. Each namespace
 * has its own key, derived from the secret, so one tenant's data is not valid for another.
 */
export class Seal {
  private readonly key: Buffer;

  /** @throws KvspliceError `bad_argument` if the secret is too short */
  constructor(secret: string, namespace = "") {
    if (secret.length < LEAST_SECRET) {
      throw new KvspliceError(
        "bad_argument",
        `KVSPLICE_STORE_KEY has ${secret.length} characters; use at least ${LEAST_SECRET}, such as those printed by openssl rand -hex 32.`,
      );
    }
    this.key = createHmac("sha256", secret).update(`kvsplice\n${namespace}`).digest();
  }

  /** The seal of bytes under a name, which arrive piece by piece. */
  begin(name: string): Sealing {
    const mac = createHmac("sha256", this.key).update(`${name.length} ${name}\n`);
    return { add: (bytes) => void mac.update(bytes), end: () => mac.digest() };
  }

  /** The seal of bytes under a name. */
  of(name: string, bytes: Uint8Array): Buffer {
    const sealing = this.begin(name);
    sealing.add(bytes);
    return sealing.end();
  }

  /** The bytes followed by their seal. */
  sealed(name: string, bytes: Buffer): Buffer {
    return Buffer.concat([bytes, this.of(name, bytes)]);
  }

  /** The bytes without their seal; undefined if it is not the seal of this name and these bytes. */
  opened(name: string, sealed: Buffer): Buffer | undefined {
    const at = Math.max(0, sealed.length - SEAL_BYTES);
    const bytes = sealed.subarray(0, at);
    return sameSeal(sealed.subarray(at), this.of(name, bytes)) ? bytes : undefined;
  }
}

/** Takes the same time wherever the seals differ. */
export function sameSeal(a: Buffer, b: Buffer): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

/** The seal set in the environment: `KVSPLICE_STORE_KEY` and `KVSPLICE_STORE_NAMESPACE`. None without a key. */
export function sealOf(environment: Readonly<Record<string, string | undefined>> = process.env): Seal | undefined {
  const secret = environment["KVSPLICE_STORE_KEY"];
  return secret ? new Seal(secret, environment["KVSPLICE_STORE_NAMESPACE"]) : undefined;
}
