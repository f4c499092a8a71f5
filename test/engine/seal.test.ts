import fc from "fast-check";
import { expect, test } from "vitest";
import { Seal, sealOf } from "../../engine/index.js";

const SECRET = "a secret of some length";
const bytes = fc.uint8Array({ maxLength: 200 }).map((values) => Buffer.from(values));

test("sealed data can be opened only with its secret, namespace and name", () => {
  fc.assert(
    fc.property(bytes, fc.string(), fc.string(), fc.nat(), (content, name, namespace, at) => {
      const seal = new Seal(SECRET, namespace);
      const sealed = seal.sealed(name, content);
      expect(seal.opened(name, sealed)).toEqual(content);
      const changed = Buffer.from(sealed);
      changed[at % sealed.length]! ^= 1;
      for (const opened of [
        seal.opened(`${name}.`, sealed),
        seal.opened(name, changed),
        seal.opened(name, sealed.subarray(0, at % sealed.length)),
        seal.opened(name, content),
        new Seal(SECRET, `${namespace}.`).opened(name, sealed),
        new Seal(`${SECRET}.`, namespace).opened(name, sealed),
      ]) {
        expect(opened).toBeUndefined();
      }
    }),
  );
});

test("the environment sets the key, and a short key is refused with advice", () => {
  expect(sealOf({})).toBeUndefined();
  expect(sealOf({ KVSPLICE_STORE_KEY: "" })).toBeUndefined();
  const sealed = new Seal(SECRET, "acme").sealed("name", Buffer.from("bytes"));
  expect(sealOf({ KVSPLICE_STORE_KEY: SECRET, KVSPLICE_STORE_NAMESPACE: "acme" })!.opened("name", sealed)).toEqual(Buffer.from("bytes"));
  expect(() => sealOf({ KVSPLICE_STORE_KEY: "short" })).toThrow(/has 5 characters; use at least 16/);
});
