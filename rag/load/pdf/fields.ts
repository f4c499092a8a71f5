import type { PDFPageProxy } from "pdfjs-dist";

import type { Paragraph } from "../../document.js";

/** The form field part of an annotation (ISO 32000-2, 12.7): pdf.js's annotations have no type. */
type Field = {
  readonly subtype?: string;
  readonly fieldName?: string;
  readonly alternativeText?: string;
  readonly fieldType?: "Tx" | "Btn" | "Ch" | "Sig";
  readonly fieldValue?: string | readonly string[] | null;
  readonly password?: boolean;
};

/** A page's filled-in fields, as `name: value`. */
export async function fieldsOf(page: PDFPageProxy): Promise<Paragraph[]> {
  const fields = (await page.getAnnotations()) as readonly Field[];
  const lines = fields.flatMap((field) => {
    const value = valueOf(field);
    const name = field.alternativeText || field.fieldName;
    return value === undefined ? [] : [name ? `${name}: ${value}` : value];
  });
  return lines.length === 0 ? [] : [{ text: [...new Set(lines)].join("\n"), page: page.pageNumber }];
}

function valueOf({ subtype, fieldType, fieldValue, password }: Field): string | undefined {
  if (subtype !== "Widget" || password === true || fieldValue === null || fieldValue === undefined) return undefined;
  const value = (typeof fieldValue === "string" ? fieldValue : fieldValue.join(", ")).trim();
  if (value === "") return undefined;
  if (fieldType !== "Btn") return value;
  return value === "Off" ? undefined : "yes";
}
