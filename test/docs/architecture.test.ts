import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { expect, test } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));

test.each(["ARCHITECTURE.md", "CONTRIBUTING.md"])("every file and folder that %s names exists", (page) => {
  const text = readFileSync(join(root, page), "utf8");
  const named = Array.from(text.matchAll(/`([\w.-]+\/[\w./-]*)`/g), ([, path]) => path!);
  const paths = named.filter((path) => !path.includes("NAME"));
  expect(paths.length).toBeGreaterThan(3);
  expect(paths.filter((path) => !existsSync(join(root, path)))).toEqual([]);
});

test.each(["ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "docs/README.md"])("every link to a file in %s is valid", (page) => {
  const text = readFileSync(join(root, page), "utf8");
  const targets = Array.from(text.matchAll(/\]\((?!https?:|#)([^)#]+)/g), ([, target]) => target!);
  expect(targets.filter((target) => !existsSync(join(root, page, "..", target)))).toEqual([]);
});
