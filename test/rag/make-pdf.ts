/** A PDF (1.4, Helvetica) of these pages' lines, 14 points apart; an empty line leaves a gap. */
export function makePdf(pages: readonly (readonly string[])[], trailer: { title?: string; encrypt?: string } = {}): Buffer {
  const fixed = ["<< /Type /Catalog /Pages 2 0 R >>", "", "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>", `<< ${trailer.title ? `/Title (${trailer.title})` : ""} >>`];
  const objects = [...fixed, ...(trailer.encrypt ? [trailer.encrypt] : [])];
  const encrypted = trailer.encrypt ? `/Encrypt ${objects.length} 0 R /ID [<00> <00>]` : "";
  const kids = pages.map((lines) => {
    const shown = lines.map((line) => (line === "" ? "T*" : `(${line}) Tj T*`)).join(" ");
    const content = `BT /F1 12 Tf 72 720 Td 14 TL ${shown} ET`;
    const stream = objects.push(`<< /Length ${content.length} >>\nstream\n${content}\nendstream`);
    const fonts = "/Resources << /Font << /F1 3 0 R >> >>";
    return `${objects.push(`<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] ${fonts} /Contents ${stream} 0 R >>`)} 0 R`;
  });
  objects[1] = `<< /Type /Pages /Kids [${kids.join(" ")}] /Count ${kids.length} >>`;

  let file = "%PDF-1.4\n";
  const offsets = objects.map((object, index) => {
    const offset = file.length;
    file += `${index + 1} 0 obj\n${object}\nendobj\n`;
    return `${String(offset).padStart(10, "0")} 00000 n \n`;
  });
  const table = `xref\n0 ${objects.length + 1}\n0000000000 65535 f \n${offsets.join("")}`;
  const end = `trailer\n<< /Size ${objects.length + 1} /Root 1 0 R /Info 4 0 R ${encrypted} >>\nstartxref\n${file.length}\n%%EOF\n`;
  return Buffer.from(file + table + end, "latin1");
}

/** Standard security handler, revision 3, with keys that belong to a password which nobody knows. */
export const UNKNOWN_PASSWORD = `<< /Filter /Standard /V 2 /R 3 /Length 128 /P -44 /O <${"5a".repeat(32)}> /U <${"a5".repeat(32)}> >>`;
