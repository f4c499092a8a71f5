import { Argument, Command } from "commander";
import { KvspliceError } from "../engine/index.js";

const SHELLS = ["bash", "zsh", "fish"] as const;
type Shell = (typeof SHELLS)[number];

/** A command, as a shell completes it. */
type Place = {
  /** The words after `kvsplice` that lead to it: empty, `pml`, `pml check`. */
  readonly path: string;
  readonly words: readonly Word[];
  /** The values of options that offer a choice. */
  readonly choices: ReadonlyMap<string, readonly string[]>;
};

/** A command or an option, with its description. */
type Word = { readonly text: string; readonly about: string };

/** @param program has all commands */
export function completionCommand(program: () => Promise<Command>): Command {
  return new Command("completion")
    .description("print a script that completes commands and options in your shell")
    .addArgument(new Argument("<shell>", "your shell").choices(SHELLS))
    .addHelpText(
      "after",
      `
Examples:
  $ kvsplice completion bash > ~/.local/share/bash-completion/completions/kvsplice
  $ kvsplice completion zsh > "\${fpath[1]}/_kvsplice"
  $ kvsplice completion fish > ~/.config/fish/completions/kvsplice.fish`,
    )
    .action(async (shell: Shell) => void process.stdout.write(completionScript(shell, await program())));
}

/** The script that completes `program` in a shell. */
export function completionScript(shell: Shell, program: Command): string {
  const places = placesOf(program, "");
  switch (shell) {
    case "bash":
      return bash(places);
    case "zsh":
      return zsh(places);
    case "fish":
      return fish(places);
    default:
      throw new KvspliceError("bad_argument", `${String(shell satisfies never)} is not a known shell. Choose one of ${SHELLS.join(", ")}.`);
  }
}

function placesOf(command: Command, path: string): Place[] {
  const help = command.createHelp();
  const subcommands = help.visibleCommands(command).filter((each) => each.name() !== "help");
  const options = help.visibleOptions(command);
  const words = [
    ...subcommands.map((each) => ({ text: each.name(), about: each.description() })),
    ...options.flatMap(({ long, description }) => (long ? [{ text: long, about: description }] : [])),
  ];
  const choices = new Map(options.flatMap(({ long, argChoices }) => (long && argChoices ? [[long, argChoices] as const] : [])));
  const inner = subcommands.flatMap((each) => placesOf(each, `${path} ${each.name()}`.trim()));
  return [{ path, words, choices }, ...inner];
}

/** Finds the command among the words before the cursor, in bash and in zsh. */
const FIND_PLACE = (places: readonly Place[]) => `case "$place $word" in
      ${places
        .filter(({ path }) => path !== "")
        .map(({ path }) => quoted(path.includes(" ") ? path : ` ${path}`))
        .join("|")}) place="\${place:+$place }$word" ;;
    esac`;

function bash(places: readonly Place[]): string {
  const cases = places.map(({ path, words, choices }) => {
    const behind = Array.from(choices, ([option, values]) => `      ${option}) words="${values.join(" ")}" ;;`);
    const own = `words="${words.map(({ text }) => text).join(" ")}"`;
    if (behind.length === 0) return `    ${quoted(path)}) ${own} ;;`;
    return [`    ${quoted(path)}) case "$before" in`, ...behind, `      *) ${own} ;;`, "      esac ;;"].join("\n");
  });
  return `# kvsplice completion bash
_kvsplice() {
  local word words="" place="" current="\${COMP_WORDS[COMP_CWORD]}" before="\${COMP_WORDS[COMP_CWORD-1]}"
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    ${FIND_PLACE(places)}
  done
  case "$place" in
${cases.join("\n")}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _kvsplice kvsplice
`;
}

function zsh(places: readonly Place[]): string {
  const cases = places.map(({ path, words, choices }) => {
    const described = words.map(({ text, about }) => quoted(`${text}:${about.replaceAll("\n", " ")}`)).join(" ");
    const behind = Array.from(choices, ([option, values]) => `      ${option}) compadd -- ${values.join(" ")}; return ;;`);
    return [`    ${quoted(path)})`, '      case "$before" in', ...behind, "      esac", `      offers=(${described}) ;;`].join("\n");
  });
  return `#compdef kvsplice
# kvsplice completion zsh
_kvsplice() {
  local word place="" before="\${words[CURRENT-1]}"
  local -a offers
  for word in "\${(@)words[2,CURRENT-1]}"; do
    ${FIND_PLACE(places)}
  done
  case "$place" in
${cases.join("\n")}
  esac
  _describe kvsplice offers
  _files
}
if [ "$funcstack[1]" = "_kvsplice" ]; then _kvsplice "$@"; else compdef _kvsplice kvsplice; fi
`;
}

function fish(places: readonly Place[]): string {
  const lines = places.flatMap(({ path, words, choices }) => {
    const when = `--condition ${quoted(`test (__kvsplice_place) = ${path === "" ? '""' : `"${path}"`}`)}`;
    return words.map(({ text, about }) => {
      const what = text.startsWith("--") ? `--long-option ${text.slice(2)}` : `--no-files --arguments ${text}`;
      const values = choices.get(text);
      const behind = values === undefined ? "" : ` --exclusive --arguments ${quoted(values.join(" "))}`;
      return `complete --command kvsplice ${when} ${what}${behind} --description ${quoted(about.replaceAll("\n", " "))}`;
    });
  });
  const known = places
    .filter(({ path }) => path !== "")
    .map(({ path }) => quoted(path))
    .join(" ");
  return `# kvsplice completion fish
function __kvsplice_place
    set --local place ""
    for word in (commandline --tokenize --cut-at-cursor --current-process)[2..]
        set --local further (string trim "$place $word")
        contains -- $further ${known}; and set place $further
    end
    echo "$place"
end
${lines.join("\n")}
`;
}

/** Quotes a text so that a shell expands nothing in it. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
