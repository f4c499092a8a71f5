const { workspace } = require("vscode");
const { LanguageClient, TransportKind } = require("vscode-languageclient/node");

let client;

exports.activate = () => {
  const [command, ...args] = workspace.getConfiguration("pml").get("command");
  client = new LanguageClient("pml", "PML", { command, args, transport: TransportKind.stdio }, { documentSelector: [{ language: "pml" }] });
  return client.start();
};

exports.deactivate = () => client?.stop();
