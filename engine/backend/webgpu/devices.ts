import { readdirSync, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";

/** A graphics processor listed in the system's files. */
export type Gpu = {
  readonly vendor: Vendor;
  /** The driver's name for it if there is one, or its vendor and number. */
  readonly name: string;
  /** Its own memory, if the driver reports it. */
  readonly memory_bytes?: number | undefined;
};

export type Vendor = "NVIDIA" | "AMD" | "Intel";

/** An installed Vulkan driver; `software` ones compute on the CPU. */
export type VulkanDriver = { readonly library: string; readonly of: Vendor | "software" | "other" };

/** What the system's files report, on systems that have such files: Linux does. */
export type Hardware = {
  readonly gpus: readonly Gpu[];
  readonly drivers: readonly VulkanDriver[];
  /** Files that `VK_DRIVER_FILES` names and that describe no driver, or do not exist. */
  readonly notDrivers: readonly string[];
};

/** Vendors by PCI number. Other vendors make the consoles of servers and virtual machines, which cannot compute. */
const VENDORS: Readonly<Record<string, Vendor>> = { "0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel" };

/** Vendors of Vulkan drivers, by words in their library's name. */
const LIBRARIES: readonly (readonly [RegExp, VulkanDriver["of"]])[] = [
  [/lvp|lavapipe|swiftshader/i, "software"],
  [/nvidia|nouveau|nvk/i, "NVIDIA"],
  [/radeon|amdvlk|amdgpu/i, "AMD"],
  [/intel/i, "Intel"],
];

/**
 * The graphics processors and Vulkan drivers of a Linux machine; undefined on other systems, where WebGPU uses what
 * the system itself provides (Metal, Direct3D 12).
 * @param root where the system's files are; tests use another folder
 */
export function hardware({ platform = process.platform, env = process.env, root = "/" } = {}): Hardware | undefined {
  if (platform !== "linux") return undefined;
  return { gpus: gpusOf(root), ...driversOf(root, env) };
}

function gpusOf(root: string): Gpu[] {
  const nvidia = list(join(root, "proc/driver/nvidia/gpus")).map((folder): Gpu => {
    const model = /^Model:\s*(.+)$/m.exec(read(join(root, "proc/driver/nvidia/gpus", folder, "information")))?.[1];
    return { vendor: "NVIDIA", name: model ?? "NVIDIA" };
  });
  const cards = list(join(root, "sys/class/drm"))
    .filter((name) => /^renderD\d+$/.test(name))
    .flatMap((name): Gpu[] => {
      const folder = join(root, "sys/class/drm", name, "device");
      const vendor = VENDORS[read(join(folder, "vendor"))];
      // NVIDIA's own driver reports the model, see above.
      if (vendor === undefined || (vendor === "NVIDIA" && nvidia.length > 0)) return [];
      const memory = Number(read(join(folder, "mem_info_vram_total")));
      return [{ vendor, name: `${vendor} ${read(join(folder, "device"))}`, ...(memory > 0 && { memory_bytes: memory }) }];
    });
  return [...nvidia, ...cards];
}

/** How the loader finds drivers: these variables, or the folders of manifests. */
function driversOf(root: string, env: NodeJS.ProcessEnv): Omit<Hardware, "gpus"> {
  const named = (env["VK_DRIVER_FILES"] || env["VK_ICD_FILENAMES"])?.split(delimiter);
  const folders = ["etc/vulkan/icd.d", "usr/local/share/vulkan/icd.d", "usr/share/vulkan/icd.d"].map((folder) => join(root, folder));
  const found = folders.flatMap((folder) => list(folder).map((name) => join(folder, name)));
  const libraries = (named ?? found).map((path) => ({ path, library: libraryOf(read(path)) }));
  return {
    drivers: libraries.flatMap(({ library }) =>
      library === undefined ? [] : [{ library, of: LIBRARIES.find(([pattern]) => pattern.test(library))?.[1] ?? "other" }],
    ),
    notDrivers: named ? libraries.flatMap(({ path, library }) => (library === undefined ? [path] : [])) : [],
  };
}

function libraryOf(manifest: string): string | undefined {
  try {
    const { ICD } = JSON.parse(manifest) as { ICD?: { library_path?: unknown } };
    return typeof ICD?.library_path === "string" ? ICD.library_path : undefined;
  } catch {
    return undefined;
  }
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return "";
  }
}
