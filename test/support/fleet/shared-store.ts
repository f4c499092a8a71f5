import { openDiskStore } from "../../../engine/index.js";
export function sharedStore(dir: string) {
  return openDiskStore(dir);
}
