/**
 * Checks random answers against the schemas of the JSON Schema Test Suite (https://github.com/json-schema-org/JSON-Schema-Test-Suite).
 * Each schema is either refused by name, or every answer is valid for ajv, which knows nothing about grammars.
 *
 *     npx tsx bench/json-schema-suite.ts FOLDER/tests/draft2020-12 [--walks 20]
 */
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { parseArgs } from "node:util";
import { Ajv2020 } from "ajv/dist/2020.js";
import ajvFormats from "ajv-formats";
import { globSync } from "tinyglobby";
import { type Grammar, KvspliceError, loadTokenizer } from "../engine/index.js";
import { Grammars, type Schema } from "../grammar/index.js";
import { Walker, written } from "../test/support/grammar/walk.js";

type Group = {
  readonly description: string;
  readonly schema: Schema;
  readonly tests: readonly { readonly data: unknown; readonly valid: boolean }[];
};

const { positionals, values } = parseArgs({ allowPositionals: true, options: { walks: { type: "string", default: "20" } } });
const [folder] = positionals;
if (folder === undefined) throw new Error("Name the folder of a draft: JSON-Schema-Test-Suite/tests/draft2020-12");

const language = await loadTokenizer();
const walker = new Walker(language, 1);
await using grammars = new Grammars(language);
const [refused, wrong, unchecked] = [new Map<string, number>(), [] as string[], [] as string[]];
/** More digits than a JavaScript number has: the answer is right, but ajv sees another number. */
const LONG_NUMBER = /\d{16}/;

const count = { schemas: 0, held: 0, walks: 0, cut: 0, invalidTaken: 0, invalid: 0, validTaken: 0, valid: 0 };

for (const file of globSync("*.json", { cwd: folder, absolute: true }).sort()) {
  for (const { description, schema, tests } of JSON.parse(readFileSync(file, "utf8")) as readonly Group[]) {
    count.schemas++;
    let grammar: Grammar;
    try {
      grammar = await grammars.ofSchema(schema);
    } catch (error) {
      if (!(error instanceof KvspliceError)) throw error;
      const reason = error.message.slice(error.message.indexOf(":") + 2).slice(0, 90);
      refused.set(reason, (refused.get(reason) ?? 0) + 1);
      continue;
    }
    const validate = validatorOf(schema);
    if (!validate) unchecked.push(`${basename(file)}: ${description}`);
    count.held++;
    for (let i = 0; validate && i < Number(values.walks); i++) {
      const text = walker.walk(grammar);
      count.walks++;
      if (text === undefined || LONG_NUMBER.test(text)) count.cut++;
      else if (!isValid(validate, text))
        wrong.push(`${basename(file)}: ${description}: ${JSON.stringify(schema)} says ${text.slice(0, 200)}`);
    }
    for (const { data, valid } of tests) {
      const taken = walker.takes(grammar, written(data));
      count[valid ? "valid" : "invalid"]++;
      if (taken) count[valid ? "validTaken" : "invalidTaken"]++;
      if (taken && !valid) wrong.push(`${basename(file)}: ${description}: ${JSON.stringify(schema)} takes ${written(data)}`);
    }
  }
}

function validatorOf(schema: Schema) {
  try {
    const ajv = new Ajv2020({ strict: false, validateFormats: true, multipleOfPrecision: 6 });
    ajvFormats.default(ajv);
    return ajv.compile(schema as object);
  } catch {
    return undefined;
  }
}

function isValid(validate: (value: unknown) => unknown, text: string): boolean {
  try {
    return validate(JSON.parse(text)) === true;
  } catch {
    return false;
  }
}

console.log(`${count.schemas} schemas: ${count.held} enforced, ${count.schemas - count.held} refused.`);
console.log(
  `${count.walks} random answers, ${count.cut} of them cut or with numbers of more than 15 digits. Of the suite's instances ${count.validTaken} of ${count.valid} valid ones are taken, ${count.invalidTaken} of ${count.invalid} invalid ones.`,
);
for (const [reason, times] of [...refused].sort((a, b) => b[1] - a[1])) console.log(`refused ${times}: ${reason}`);
for (const each of unchecked) console.log(`enforced, but ajv does not accept the schema: ${each}`);
for (const each of [...new Set(wrong)]) console.log(`WRONG ${each}`);
process.exitCode = wrong.length > 0 ? 1 : 0;
