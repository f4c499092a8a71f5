/** A line at a given place: points from the lower left corner. */
export type PlacedLine = { readonly text: string; readonly x?: number; readonly y: number; readonly size?: number };

export type PdfPage = {
  /** From the top, 14 points apart; an empty line leaves a gap. */
  readonly lines?: readonly string[];
  readonly placed?: readonly PlacedLine[];
  /** A grey square. */
  readonly picture?: true;
  /** The page's object is missing. */
  readonly damaged?: true;
  /** Text fields of a form, with their values. */
  readonly fields?: Readonly<Record<string, string>>;
};

/** A PDF (1.4, Helvetica) of these pages. */
export function makePdf(pages: readonly (readonly string[] | PdfPage)[], trailer: { title?: string; encrypt?: string } = {}): Buffer {
  const fixed = [
    "",
    "",
    "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    `<< ${trailer.title ? `/Title (${trailer.title})` : ""} >>`,
  ];
  const objects = [...fixed, ...(trailer.encrypt ? [trailer.encrypt] : [])];
  const encrypted = trailer.encrypt ? `/Encrypt ${objects.length} 0 R /ID [<00> <00>]` : "";
  const fields: string[] = [];
  const kids = pages.map((page) => {
    const { lines = [], placed = [], picture, damaged, fields: values = {} }: PdfPage = "length" in page ? { lines: page } : page;
    if (damaged) return "9999 0 R";
    const shown = lines.map((line) => (line === "" ? "T*" : `(${line}) Tj T*`)).join(" ");
    const set = placed.map(({ text, x = 72, y, size = 12 }) => `BT /F1 ${size} Tf ${x} ${y} Td (${text}) Tj ET`).join(" ");
    const image = picture ? "q 300 0 0 300 72 300 cm BI /W 1 /H 1 /BPC 8 /CS /G ID \x80 EI Q" : "";
    const content = `BT /F1 12 Tf 72 720 Td 14 TL ${shown} ET ${set} ${image}`;
    const stream = objects.push(`<< /Length ${content.length} >>\nstream\n${content}\nendstream`);
    const annotations = Object.entries(values).map(([name, value]) => {
      const field = `<< /Type /Annot /Subtype /Widget /FT /Tx /T (${name}) /V (${value}) /Rect [72 100 300 120] >>`;
      fields.push(`${objects.push(field)} 0 R`);
      return fields.at(-1);
    });
    const fonts = "/Resources << /Font << /F1 3 0 R >> >>";
    return `${objects.push(`<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] ${fonts} /Contents ${stream} 0 R /Annots [${annotations.join(" ")}] >>`)} 0 R`;
  });
  objects[0] = `<< /Type /Catalog /Pages 2 0 R ${fields.length === 0 ? "" : `/AcroForm << /Fields [${fields.join(" ")}] >>`} >>`;
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

/** Standard security handler, revision 3, with keys for an unknown password. */
export const UNKNOWN_PASSWORD = `<< /Filter /Standard /V 2 /R 3 /Length 128 /P -44 /O <${"5a".repeat(32)}> /U <${"a5".repeat(32)}> >>`;
