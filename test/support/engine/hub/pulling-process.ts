import { pull } from "../../../../engine/model/hub/pull.js";
import { parseReference } from "../../../../engine/model/hub/reference.js";
import { hubSettings } from "../../../../engine/model/hub/settings.js";

/** Fetches the named model, reports that it has begun, and ends. */
let begun = false;
const settings = hubSettings();
const path = await pull(parseReference(process.argv[2]!, settings.endpoint), {
  settings,
  onProgress: ({ bytes }) => {
    if (begun || bytes.done < 200_000) return;
    begun = true;
    process.stdout.write("begun\n");
  },
});
process.stdout.write(`${path}\n`);
