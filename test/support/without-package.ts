/** Node's options for a process in which a package is not installed. */
export function withoutPackage(name: string): string[] {
  const hooks = `export async function resolve(specifier, context, next) {
    if (specifier === ${JSON.stringify(name)} || specifier.startsWith(${JSON.stringify(`${name}/`)}))
      throw Object.assign(new Error("Cannot find package '" + specifier + "'"), { code: "ERR_MODULE_NOT_FOUND" });
    return next(specifier, context);
  }`;
  const register = `import { register } from "node:module"; register(${JSON.stringify(moduleUrl(hooks))});`;
  return ["--import", "tsx", "--import", moduleUrl(register)];
}

function moduleUrl(text: string): string {
  return `data:text/javascript,${encodeURIComponent(text)}`;
}
