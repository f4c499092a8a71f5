import PostalMime, { type Address, type Email } from "postal-mime";

import type { Document, Paragraph } from "../document.js";
import { type Fields, fieldsOf } from "../fields.js";
import { readHtml } from "./html.js";
import type { Loaded, Loader, LoadWithin } from "./loader.js";
import { paragraphsOf } from "./text.js";
import { titleLine, titleOfPath } from "./title.js";

/** Where a mail of a mailbox begins (RFC 4155); lines of text that begin like this are escaped with `>`. */
const MAILBOX_FROM = /^From (?=\S+ .*\d{4}\b)/m;

/** A mail (RFC 5322): sender, recipients, date and text, and its attachments as separate documents. */
export const loadMail: Loader = async (path, bytes, _options, within) => mailOf(path, bytes, within);

/** A mailbox (RFC 4155): its mails, each a document. */
export const loadMailbox: Loader = async (path, bytes, _options, within) => {
  const [, ...mails] = Buffer.from(bytes).toString("latin1").split(MAILBOX_FROM);
  const loaded: Loaded[] = [];
  for (const mail of mails) loaded.push(await mailOf(path, Buffer.from(mail.slice(mail.indexOf("\n") + 1), "latin1"), within));
  return { documents: loaded.flatMap(({ documents }) => documents), problems: loaded.flatMap(({ problems }) => problems) };
};

async function mailOf(path: string, bytes: Uint8Array, within: LoadWithin): Promise<Loaded> {
  const mail = await PostalMime.parse(bytes, { maxNestingDepth: 20 });
  const title = titleLine(mail.subject) ?? titleOfPath(path);
  const body = mail.text?.trim() ? paragraphsOf(mail.text) : readHtml(mail.html ?? "").paragraphs;
  const documents: Document[] =
    body.length === 0 ? [] : [{ path, title, paragraphs: [...headOf(mail), ...body], fields: fieldsOfMail(mail) }];
  const attached: Loaded[] = [];
  for (const { filename, content } of mail.attachments) {
    if (filename) attached.push(await within(filename, typeof content === "string" ? Buffer.from(content) : new Uint8Array(content)));
  }
  return {
    documents: [
      ...documents,
      ...attached.flatMap((file) => file.documents).map((file) => ({ ...file, path, title: `${title}: ${file.title}` })),
    ],
    problems: attached.flatMap(({ problems }) => problems),
  };
}

function headOf({ from, to = [], date }: Email): Paragraph[] {
  const lines = [from && `From: ${nameOf(from)}`, to.length > 0 && `To: ${to.map(nameOf).join(", ")}`, date && `Date: ${date}`];
  const text = lines.filter((line) => typeof line === "string").join("\n");
  return text === "" ? [] : [{ text }];
}

function fieldsOfMail({ from, date }: Email): Fields {
  return fieldsOf({ from: from && nameOf(from), date: date && new Date(date) });
}

function nameOf({ name, address }: Address): string {
  return name && address ? `${name} <${address}>` : name || address || "";
}
