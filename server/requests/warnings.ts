/** Fields whose values may have no effect. */
type Told = {
  readonly chat_template_kwargs?: Readonly<Record<string, unknown>> | null | undefined;
  readonly num_ctx?: number | null | undefined;
};

/** Chat template switches that make a model think before it answers. This server only supports off. */
const THINKING = new Set(["enable_thinking", "thinking"]);

/** Ignored parts of a request, for the answer's `warnings`. */
export function warningsOf({ chat_template_kwargs, num_ctx }: Told, unread: readonly string[], contextTokens: number): readonly string[] {
  const switches = Object.entries(chat_template_kwargs ?? {}).filter(([name, value]) => !(THINKING.has(name) && value === false));
  return [
    ...unread.map((name) => `'${shortened(name)}' is ignored: this server does not know it.`),
    ...switches.map(([name]) => `'chat_template_kwargs.${shortened(name)}' is ignored: the template is used unchanged, without thinking.`),
    ...(num_ctx != null && num_ctx > contextTokens ? [`'num_ctx' is ${num_ctx}, but this server's context has ${contextTokens}.`] : []),
  ];
}

/** Maximum characters quoted of a client's name. */
const QUOTED = 100;

function shortened(name: string): string {
  return name.length > QUOTED ? `${name.slice(0, QUOTED)}…` : name;
}
