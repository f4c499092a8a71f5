import type { Reporter, TestModule } from "vitest/node";

/** With `npm run test:all`, no test may be skipped: the browser, Redis and everything else they use must be installed. */
const ALL = process.env["KVSPLICE_TEST_ALL"] === "1";

/** Lists the skipped tests at the end of a run, because what they cover was not tested. */
export default class Skipped implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const skipped = modules.flatMap((module) =>
      Array.from(module.children.allTests("skipped"), ({ fullName }) => `${module.relativeModuleId}: ${fullName}`),
    );
    if (skipped.length === 0) return;
    console.log(`Skipped, ${skipped.length}:\n${skipped.map((name) => `  ${name}\n`).join("")}`);
    if (ALL) process.exitCode = 1;
  }
}
