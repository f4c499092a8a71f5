import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { globSync } from "tinyglobby";
import { describe, expect, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { startFakeServing } from "../support/server/fake-serving.js";
import { remove } from "../support/server/serving.js";

const root = fileURLToPath(new URL("../../examples/deploy", import.meta.url));
const has = (program: string, ...args: string[]) => spawnSync(program, args).status === 0;

describe("examples/deploy", () => {
  test.skipIf(!has("haproxy", "-v")).each(["haproxy.cfg", "k8s/haproxy.cfg"])(
    "%s is a valid HAProxy configuration (skipped if HAProxy is not installed)",
    (file) => {
      const { status, stderr } = spawnSync("haproxy", ["-c", "-f", join(root, file)], { encoding: "utf8" });
      expect({ status, stderr: status === 0 ? "" : stderr }).toEqual({ status: 0, stderr: "" });
    },
  );

  test.skipIf(!has("nginx", "-v"))("nginx.conf is a valid nginx configuration (skipped if nginx is not installed)", () => {
    const folder = mkdtempSync(join(tmpdir(), "kvsplice-nginx-"));
    const { status, stderr } = spawnSync(
      "nginx",
      ["-t", "-p", folder, "-c", join(root, "nginx.conf"), "-g", `pid ${folder}/pid; error_log stderr;`],
      { encoding: "utf8" },
    );
    rmSync(folder, { recursive: true, force: true });
    expect({ status, stderr: status === 0 ? "" : stderr }).toEqual({ status: 0, stderr: "" });
  });

  test("YAML parses, and Kubernetes objects refer to existing names", () => {
    const documents = globSync(["*.yaml", "k8s/*.yaml"], { cwd: root }).flatMap((file) =>
      parseAllDocuments(readFileSync(join(root, file), "utf8"), { merge: true }),
    );
    expect(documents.flatMap(({ errors }) => errors)).toEqual([]);
    const objects = documents.map(
      (document) =>
        document.toJS() as {
          readonly kind?: string;
          readonly metadata?: { readonly name: string };
          readonly spec?: { readonly selector?: { readonly matchLabels?: { readonly app: string } } };
        },
    );
    const apps = objects.filter(({ kind }) => kind === "Deployment" || kind === "StatefulSet").map(({ metadata }) => metadata!.name);
    const budgets = objects.filter(({ kind }) => kind === "PodDisruptionBudget").map(({ spec }) => spec!.selector!.matchLabels!.app);
    expect(apps.toSorted()).toEqual(["kvsplice", "kvsplice-proxy", "kvsplice-redis", "kvsplice-worker"]);
    expect(budgets.toSorted()).toEqual(["kvsplice", "kvsplice-proxy", "kvsplice-worker"]);
  });

  test.skipIf(!has("kubernetes-validate", "--help"))(
    "manifests are valid for Kubernetes (skipped if kubernetes-validate is not installed)",
    () => {
      const files = globSync("k8s/*.yaml", { cwd: root, absolute: true }).filter((file) => !file.endsWith("kustomization.yaml"));
      const { status, stdout, stderr } = spawnSync("kubernetes-validate", files, { encoding: "utf8" });
      expect({ status, told: status === 0 ? "" : stdout + stderr }).toEqual({ status: 0, told: "" });
    },
  );
});

test("Grafana's dashboard queries metrics that a server has", async () => {
  const serving = await startFakeServing();
  const names = new Set(Array.from((await (await fetch(`${serving.url}/metrics`)).text()).matchAll(/^# TYPE (\S+)/gm), ([, name]) => name));
  await serving.stop();
  remove(serving.folder);
  const dashboard = readFileSync(join(root, "grafana.json"), "utf8");
  const asked = new Set(Array.from(dashboard.matchAll(/kvsplice_\w+/g), ([name]) => name.replace(/_bucket$/, "")));
  expect(asked.size).toBeGreaterThan(10);
  expect([...asked].filter((name) => !names.has(name))).toEqual([]);
});
