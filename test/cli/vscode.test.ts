import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import Module, { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { afterEach, expect, test } from "vitest";
import { createMessageConnection, StreamMessageReader, StreamMessageWriter } from "vscode-languageserver/node";

const BIN = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
const FOLDER = new URL("../../editors/vscode/", import.meta.url);

type ServerOptions = { readonly command: string; readonly args: readonly string[]; readonly transport: number };

/** The client side of VS Code: starts a server over standard input and output, as vscode-languageclient does. */
class LanguageClient {
  static readonly started: LanguageClient[] = [];
  server: ChildProcessWithoutNullStreams | undefined;
  capabilities: unknown;

  constructor(
    readonly id: string,
    readonly name: string,
    readonly options: ServerOptions,
    readonly client: { readonly documentSelector: readonly { readonly language: string }[] },
  ) {}

  async start(): Promise<void> {
    LanguageClient.started.push(this);
    this.server = spawn(this.options.command, [...this.options.args, "--stdio"]);
    const connection = createMessageConnection(new StreamMessageReader(this.server.stdout), new StreamMessageWriter(this.server.stdin));
    connection.listen();
    const { capabilities } = (await connection.sendRequest("initialize", { processId: process.pid, rootUri: null, capabilities: {} })) as {
      capabilities: unknown;
    };
    this.capabilities = capabilities;
    connection.dispose();
  }

  stop(): void {
    this.server?.kill();
  }
}

/** Loads the extension as VS Code does, with a stand-in for the editor's module. */
function loadExtension(settings: Readonly<Record<string, unknown>>): { activate(): Promise<void>; deactivate(): void } {
  const provided: Readonly<Record<string, unknown>> = {
    vscode: { workspace: { getConfiguration: (section: string) => ({ get: (key: string) => settings[`${section}.${key}`] }) } },
    "vscode-languageclient/node": { LanguageClient, TransportKind: { stdio: 0 } },
  };
  const loader = Module as unknown as { _load(request: string, ...rest: unknown[]): unknown };
  const { _load: load } = loader;
  loader._load = (request, ...rest) => provided[request] ?? load(request, ...rest);
  try {
    const require = createRequire(new URL("package.json", FOLDER));
    delete require.cache[require.resolve("./extension.js")];
    return require("./extension.js");
  } finally {
    loader._load = load;
  }
}

const about = JSON.parse(readFileSync(new URL("package.json", FOLDER), "utf8"));

afterEach(() => LanguageClient.started.splice(0).forEach((client) => client.stop()));

test("the extension starts the server that its setting names, for PML files", async () => {
  const extension = loadExtension({ "pml.command": [process.execPath, BIN, "pml", "lsp"] });
  await extension.activate();
  const [client] = LanguageClient.started;
  expect(client?.client.documentSelector).toEqual([{ language: about.contributes.languages[0].id }]);
  expect(client?.capabilities).toMatchObject({ hoverProvider: true, definitionProvider: true, documentFormattingProvider: true });
  extension.deactivate();
  expect(client?.server?.killed).toBe(true);
});

test("its manifest declares the language, the activation, and the setting with a command that exists", () => {
  const { activationEvents, contributes, dependencies, main } = about;
  const [language] = contributes.languages;
  expect(activationEvents).toEqual([`onLanguage:${language.id}`]);
  expect(language.extensions).toEqual([".pml"]);
  for (const file of [main, language.configuration]) expect(readFileSync(new URL(file, FOLDER), "utf8")).not.toBe("");
  expect(JSON.parse(readFileSync(new URL(language.configuration, FOLDER), "utf8"))).toMatchObject({
    comments: { blockComment: ["<!--", "-->"] },
  });
  expect(Object.keys(dependencies)).toEqual(["vscode-languageclient"]);
  const { type, items, default: command } = contributes.configuration.properties["pml.command"];
  expect([type, items.type, command]).toEqual(["array", "string", ["npx", "kvsplice", "pml", "lsp"]]);
});
