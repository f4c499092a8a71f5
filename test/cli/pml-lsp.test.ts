import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createMessageConnection, type MessageConnection, StreamMessageReader, StreamMessageWriter } from "vscode-languageserver/node";

const BIN = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
const SCHEMA = `<schema name="trip">
  <user open="true">
    <module name="plan">
      For <parameter name="days" length="6" default="two"/>.
      <union>
        <module name="miami">Warm.</module>
        <module name="tokyo" src="tokyo.md"/>
      </union>
    </module>
  </user>
</schema>
`;

let folder: string;
let server: ChildProcessWithoutNullStreams;
let client: MessageConnection;
const diagnostics = new Map<string, { code: string; range: unknown }[]>();
const uriOf = (name: string) => pathToFileURL(join(folder, name)).href;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "kvsplice-lsp-"));
  writeFileSync(join(folder, "trip.pml"), SCHEMA);
  writeFileSync(join(folder, "tokyo.md"), "Tokyo.\n");
  server = spawn(process.execPath, [BIN, "pml", "lsp", "--stdio"], { cwd: folder });
  client = createMessageConnection(new StreamMessageReader(server.stdout), new StreamMessageWriter(server.stdin));
  client.onNotification("textDocument/publishDiagnostics", ({ uri, diagnostics: found }) => void diagnostics.set(uri, found));
  client.listen();
  await client.sendRequest("initialize", { processId: process.pid, rootUri: pathToFileURL(folder).href, capabilities: {} });
  await client.sendNotification("initialized", {});
}, 240_000);
afterAll(() => {
  client.dispose();
  server.kill();
  rmSync(folder, { recursive: true, force: true });
});

/** Opens a text, with `|` for the cursor. */
async function open(name: string, marked: string) {
  const at = marked.indexOf("|");
  const text = marked.replace("|", "");
  const lines = marked.slice(0, at).split("\n");
  diagnostics.delete(uriOf(name));
  await client.sendNotification("textDocument/didOpen", { textDocument: { uri: uriOf(name), languageId: "pml", version: 1, text } });
  return { textDocument: { uri: uriOf(name) }, position: { line: lines.length - 1, character: lines.at(-1)!.length } };
}
const close = (name: string) => client.sendNotification("textDocument/didClose", { textDocument: { uri: uriOf(name) } });

test("diagnostics are the command's, at their places, and consider a schema that is being edited", { timeout: 240_000 }, async () => {
  await open("packing.pml", `<prompt schema="trip">\n  <plan><toyko/></plan>\n  Why?\n</prompt>|`);
  await expect
    .poll(() => diagnostics.get(uriOf("packing.pml")))
    .toMatchObject([{ code: "unknown-module", range: { start: { line: 1, character: 9 }, end: { line: 1, character: 14 } } }]);
  await open("trip.pml", `|${SCHEMA.replace('"tokyo"', '"toyko"')}`);
  await expect.poll(() => diagnostics.get(uriOf("packing.pml"))).toEqual([]);
  await close("trip.pml");
  await close("packing.pml");
});

test.each([
  ["modules of the schema", `<prompt schema="trip"><pl|`, ["plan", "document", "system", "user", "assistant"]],
  ["modules in a module, in text that does not parse", `<prompt schema="trip"><plan><`, ["miami", "tokyo"]],
  ["parameters of a module", `<prompt schema="trip"><plan |`, ["days"]],
  ["schemas' names", `<prompt schema="|`, ["trip"]],
  ["elements of a schema", `<schema name="s"><user><module name="m">x<|`, ["module", "union", "parameter"]],
  ["values of an attribute", `<schema name="s" wrap="|`, ["soft", "hard"]],
])("completion: %s", { timeout: 240_000 }, async (_, text, labels) => {
  const found = await client.sendRequest<{ label: string }[]>(
    "textDocument/completion",
    await open("new.pml", text.includes("|") ? text : `${text}|`),
  );
  expect(found.map(({ label }) => label)).toEqual(expect.arrayContaining(labels));
  await close("new.pml");
});

test("hover shows tokens and positions, even in text that does not parse", { timeout: 240_000 }, async () => {
  const { contents } = await client.sendRequest<{ contents: { value: string } }>(
    "textDocument/hover",
    await open("hover.pml", `<prompt schema="trip">\n  a < b <plan><mia|mi></plan>`),
  );
  expect(contents.value).toMatch(/^\*\*module `miami`\*\*: positions \d+–\d+; \d+ own tokens, cached$/);
  await close("hover.pml");
});

test("go to definition finds the place in the schema, and a source's file", { timeout: 240_000 }, async () => {
  const prompt = await open("define.pml", `<prompt schema="trip"><plan da|ys="3"/></prompt>`);
  expect(await client.sendRequest("textDocument/definition", prompt)).toMatchObject({
    uri: uriOf("trip.pml"),
    range: { start: { line: 3, character: 11 } },
  });
  const schema = await open("trip.pml", SCHEMA.replace("tokyo.md", "tok|yo.md"));
  expect(await client.sendRequest("textDocument/definition", schema)).toMatchObject({ uri: expect.stringMatching(/tokyo\.md$/) });
  await close("define.pml");
  await close("trip.pml");
});

test("formatting is the command's, and does not change invalid text", { timeout: 240_000 }, async () => {
  const document = await open("ugly.pml", `<prompt   schema='trip'><plan/>Why?</prompt>|`);
  expect(await client.sendRequest("textDocument/formatting", { ...document, options: {} })).toMatchObject([
    { newText: `<prompt schema="trip">\n  <plan/>\n  Why?\n</prompt>\n` },
  ]);
  const wrong = await open("wrong.pml", `<prompt schema="trip"><plan>|`);
  expect(await client.sendRequest("textDocument/formatting", { ...wrong, options: {} })).toBeNull();
});
