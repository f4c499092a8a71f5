/** A metric's value with its labels. */
export type Sample = { readonly name: string; readonly labels: Readonly<Record<string, string>>; readonly value: number };

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** Parses `/metrics` in the Prometheus text format (see "Exposition formats" in its documentation). Other lines are skipped. */
export function parsePrometheusText(text: string): readonly Sample[] {
  return text.split("\n").flatMap((line) => {
    const [, name, labels = "", value] = LINE.exec(line) ?? [];
    if (name === undefined) return [];
    return [
      {
        name,
        labels: Object.fromEntries(Array.from(labels.matchAll(LABEL), ([, label, quoted]) => [label!, quoted!])),
        value: Number(value),
      },
    ];
  });
}
