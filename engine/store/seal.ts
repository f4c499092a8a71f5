import { createHmac, timingSafeEqual } from "node:crypto";
import { KvspliceError } from "../../plan/index.js";

/** Bytes of a SHA-256. */
const SEAL_BYTES = 32;

/** A seal that is being made. */
export type Sealing = { add(bytes: Uint8Array): void; end(): Buffer };

/** Shorter ones can be guessed. */
const LEAST_SECRET = 16;

/**
 * Authenticates what lies where others can write: HMAC-SHA256 (RFC 2104) over a name and the bytes under it. Each
 * namespace has a key of its own, made of the secret, so that what one tenant wrote is nobody else's.
 */
export class Seal {
  private readonly key: Buffer;

  /** @throws KvspliceError `bad_argument` for a secret that is too short */
  constructor(secret: string, namespace = "") {
    if (secret.length < LEAST_SECRET) {
      throw new KvspliceError("bad_argument", `KVSPLICE_STORE_KEY has ${secret.length} characters; use at least ${LEAST_SECRET}, such as those that openssl rand -hex 32 prints.`);
    }
    this.key = createHmac("sha256", secret).update(`kvsplice\n${namespace}`).digest();
  }

  /** The seal of bytes under a name, which come bit by bit. */
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

  /** The bytes with their seal behind them. */
  sealed(name: string, bytes: Buffer): Buffer {
    return Buffer.concat([bytes, this.of(name, bytes)]);
  }

  /** The bytes without their seal; undefined where it is not that of this name and these bytes. */
  opened(name: string, sealed: Buffer): Buffer | undefined {
    const at = Math.max(0, sealed.length - SEAL_BYTES);
    const bytes = sealed.subarray(0, at);
    return sameSeal(sealed.subarray(at), this.of(name, bytes)) ? bytes : undefined;
  }
}

/** Takes the same time wherever they differ. */
export function sameSeal(a: Buffer, b: Buffer): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

/** The seal that the environment names: `KVSPLICE_STORE_KEY`, and `KVSPLICE_STORE_NAMESPACE`. None without a key. */
export function sealOf(environment: Readonly<Record<string, string | undefined>> = process.env): Seal | undefined {
  const secret = environment["KVSPLICE_STORE_KEY"];
  return secret ? new Seal(secret, environment["KVSPLICE_STORE_NAMESPACE"]) : undefined;
}
