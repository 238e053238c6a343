// Horizontal bars of parts, one below the other.
import { scaleLinear } from "d3-scale";
import { rove, shorten, svg, tell, type Rows } from "../dom";
import { responsive } from "./responsive";

export interface StackedRow {
  label: string;
  /** Behind the bar. */
  total: string;
  parts: { name: string; title: string; value: number }[];
  /** A line across, as what there is room for. */
  limit?: number;
  limitTitle?: string;
}

const axisHeight = 22;

/** Rows that are alike one after the other become one, named from first to last. */
export function foldRows(rows: StackedRow[], name: (first: number, last: number) => string): StackedRow[] {
  const alike = (a: StackedRow, b: StackedRow): boolean =>
    a.total === b.total && a.limit === b.limit && JSON.stringify(a.parts) === JSON.stringify(b.parts);
  const folded: StackedRow[] = [];
  for (let first = 0, end; first < rows.length; first = end) {
    for (end = first + 1; end < rows.length && alike(rows[first]!, rows[end]!); ++end);
    folded.push(end > first + 1 ? { ...rows[first]!, label: name(first, end - 1) } : rows[first]!);
  }
  return folded;
}

/** Ticks at round numbers of the unit that fits. */
function ticksOf(most: number, bytes: boolean): number[] {
  const unit = bytes ? 1024 ** Math.max(0, Math.floor(Math.log(Math.max(most, 1)) / Math.log(1024))) : 1;
  return scaleLinear([0, most / unit], [0, 1])
    .ticks(5)
    .map((tick) => tick * unit);
}

export function stackedBars(
  title: string,
  rows: StackedRow[],
  format: (value: number) => string,
  { bytes = false } = {},
): HTMLElement {
  const tall = rows.length > 24;
  return responsive((width) => draw(width, title, rows, format, bytes), tall ? "chart-holder tall" : "chart-holder");
}

function draw(
  width: number,
  title: string,
  rows: StackedRow[],
  format: (value: number) => string,
  bytes: boolean,
): SVGSVGElement {
  const isNarrow = width < 480;
  const labelWidth = isNarrow ? 110 : 150,
    totalWidth = isNarrow ? 8 : 150;
  const rowHeight = rows.length <= 24 ? 26 : 20;
  const barHeight = rowHeight - (rowHeight > 20 ? 8 : 5);
  const height = axisHeight + rows.length * rowHeight + 4;
  const sum = (row: StackedRow): number => row.parts.reduce((total, part) => total + part.value, 0);
  const largest = Math.max(1e-300, ...rows.map(sum));
  // Where there is room for many times as much, the limit would leave nothing to see.
  const limit = Math.max(0, ...rows.map((row) => row.limit ?? 0));
  const most = limit > 6 * largest ? largest : Math.max(largest, limit);
  const x = scaleLinear([0, most * 1.01], [labelWidth, width - totalWidth]);
  const chart = svg("svg", { class: "chart", width, height, role: "group", "aria-label": title });
  for (const tick of ticksOf(most, bytes)) {
    chart.append(
      svg("line", { class: "grid", x1: x(tick), x2: x(tick), y1: axisHeight - 4, y2: height - 4 }),
      svg("text", { class: "tick", x: x(tick), y: axisHeight - 11, "text-anchor": "middle" }, format(tick)),
    );
  }
  const groups = rows.map((row, r) => {
    const top = axisHeight + r * rowHeight + (rowHeight - barHeight) / 2;
    const about: Rows = row.parts.filter((part) => part.value > 0).map((part) => [part.title, format(part.value)]);
    about.push(["in all", row.total]);
    if (row.limit !== undefined) about.push([row.limitTitle ?? "limit", format(row.limit)]);
    const group = svg("g", {
      role: "img",
      class: "row",
      "aria-label": `${row.label}: ${about.map(([name, value]) => `${name} ${value}`).join(", ")}`,
    });
    group.append(
      svg("rect", { class: "hit", x: 0, y: axisHeight + r * rowHeight, width, height: rowHeight }),
      svg("text", { class: "label", x: 0, y: top + barHeight / 2 }, shorten(row.label, 20)),
    );
    let from = 0;
    for (const part of row.parts) {
      if (part.value <= 0) continue;
      const left = x(from);
      from += part.value;
      group.append(
        svg("rect", {
          class: "part",
          x: left,
          y: top,
          width: Math.max(0.3, x(from) - left),
          height: barHeight,
          style: `fill:var(--${part.name})`,
        }),
      );
    }
    if (row.limit !== undefined && row.limit <= most)
      group.append(
        svg("line", {
          class: "limit",
          x1: x(row.limit),
          x2: x(row.limit),
          y1: top - 2,
          y2: top + barHeight + 2,
        }),
      );
    if (!isNarrow)
      group.append(
        svg("text", { class: "total", x: width - 4, y: top + barHeight / 2, "text-anchor": "end" }, row.total),
      );
    tell(group, row.label, about);
    return group;
  });
  chart.append(...groups);
  rove(groups, ["ArrowUp", "ArrowLeft"], ["ArrowDown", "ArrowRight"]);
  return chart;
}
