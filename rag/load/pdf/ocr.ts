import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";

import type { PDFDocumentProxy, PDFPageProxy } from "pdfjs-dist";

/** Resolution that OCR programs expect: letters of 10 points are some 28 pixels high. */
const DOTS_PER_INCH = 200;

const POINTS_PER_INCH = 72;

/** Both are created by pdf.js with the package @napi-rs/canvas, which npm installs with it. */
type Context = Parameters<PDFPageProxy["render"]>[0]["canvasContext"];
type Drawing = { readonly canvas: { toBuffer(type: "image/png"): Buffer }; readonly context: Context };
type CanvasFactory = { create(width: number, height: number): Drawing; destroy(drawing: Drawing): void };

/** The page as a PNG. */
export async function pictureOf(pdf: PDFDocumentProxy, page: PDFPageProxy): Promise<Buffer> {
  const viewport = page.getViewport({ scale: DOTS_PER_INCH / POINTS_PER_INCH });
  const factory = pdf.canvasFactory as CanvasFactory;
  const drawing = factory.create(Math.ceil(viewport.width), Math.ceil(viewport.height));
  try {
    await page.render({ canvas: null, canvasContext: drawing.context, viewport }).promise;
    return drawing.canvas.toBuffer("image/png");
  } finally {
    factory.destroy(drawing);
  }
}

/**
 * Text that a shell command (`tesseract stdin stdout`) reads in a picture: it gets a PNG on its input and writes text.
 *
 * @throws Error if it fails, with the last line of its error output
 */
export async function readPicture(command: string, picture: Buffer, signal: AbortSignal | undefined): Promise<string> {
  // A separate process group, so that whatever the shell started ends with it.
  const child = spawn(command, { shell: true, stdio: "pipe", detached: process.platform !== "win32" });
  const end = () => {
    try {
      if (child.pid !== undefined) process.kill(process.platform === "win32" ? child.pid : -child.pid);
    } catch {
      // It has already ended.
    }
  };
  signal?.addEventListener("abort", end, { once: true });
  child.stdin.on("error", () => undefined); // if the command ends before reading everything, its exit code says why
  child.stdin.end(picture);
  try {
    const [read, complaint, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
    if (code !== 0) throw new Error(complaint.trim().split("\n").at(-1) || `exit code ${code}`);
    return read;
  } finally {
    signal?.removeEventListener("abort", end);
  }
}
