// Colours and dashes that tell many of a kind apart.

/** Of the i-th of several series; style.css has eight. */
export const seriesColour = (i: number): string => `var(--series-${i % 8})`;

/** Not by colour alone. */
export const seriesDash = (i: number): string | undefined => [undefined, "7 3", "2 3", "9 3 2 3"][i % 4];

export const seriesLegend = (names: string[]): { name: string; colour: string; dash: string | undefined }[] =>
  names.map((name, i) => ({ name, colour: seriesColour(i), dash: seriesDash(i) }));
