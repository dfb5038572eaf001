/** Prints columns one below the other: the first `words` of them to the left, the rest, figures, to the right. */
export function printTable(
  head: readonly string[],
  lines: readonly (readonly string[])[],
  { words }: { words: number },
): void {
  const widths = head.map((title, column) =>
    Math.max(title.length, ...lines.map((line) => line[column]?.length ?? 0)),
  );
  for (const line of [head, ...lines])
    console.log(
      line
        .map((cell, column) =>
          column < words ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
        )
        .join('  ')
        .trimEnd(),
    );
}
