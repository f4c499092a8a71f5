// Makes git run the hooks of this folder in a clone. Does nothing outside one.
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";

if (existsSync(".git")) {
  try {
    execFileSync("git", ["config", "core.hooksPath", ".githooks"]);
  } catch {
    console.log("The commit hook was not installed: git is missing.");
  }
}
