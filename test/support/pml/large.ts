/** A schema of 10,000 modules in 100 groups, 9,900 of them with a parameter. */
export function largeSchema(): string {
  const groups = Array.from({ length: 100 }, (_, i) => {
    const modules = Array.from(
      { length: 99 },
      (_, j) =>
        `  <module name="m${j}">\n    Rule ${j} of group ${i}: be <parameter name="how" length="4" default="kind"/> &amp; brief.\n  </module>\n`,
    );
    return `<module name="g${i}">\n${modules.join("")}</module>\n`;
  });
  return `<schema name="large">\n${groups.join("")}</schema>`;
}
