// Curves over one axis that is shared and zooms, with marks on it.
import { bisector } from "d3-array";
import { scaleLinear, scaleLog } from "d3-scale";
import { area, curveLinear, curveStepAfter, line } from "d3-shape";
import { h, hideTip, newId, showTip, svg, type Rows } from "../dom";
import type { Range } from "./range";
import { responsive } from "./responsive";
import { seriesColour, seriesDash } from "./palette";

export interface Series {
  name: string;
  /** [x, y]; y null: a gap. By x. */
  points: [number, number | null][];
  index: number;
}
export interface Mark {
  x: number;
  kind: "fault" | "back" | "note" | "version";
  title: string;
  rows: Rows;
}
export interface Curves {
  series: Series[];
  marks: Mark[];
}
export interface LinesOptions {
  title: string;
  /** Asked again when the range grows. */
  curves: () => Curves;
  range: Range;
  formatX: (value: number) => string;
  ticksX: (ticks: number[]) => string[];
  formatY: (value: number) => string;
  ticksY: (ticks: number[]) => string[];
  /** Values are whole numbers. */
  whole?: boolean;
  /** Values hold until the next. */
  steps?: boolean;
  limit?: { value: number; title: string };
  fromZero?: boolean;
  log?: boolean;
  /** Down to zero. */
  filled?: boolean;
}

const height = 220,
  left = 64,
  right = 12,
  top = 14,
  bottom = 26;
const behind = bisector((point: [number, number | null]) => point[0]).right;

export function lineChart(options: LinesOptions): HTMLElement {
  const { range } = options;
  // What is larger than any axis is a gap, as what is no number.
  const read = (): Curves => {
    const { series, marks } = options.curves();
    for (const one of series)
      one.points = one.points.map(([at, y]) => [at, y !== null && Math.abs(y) < 1e100 ? y : null]);
    return { series, marks };
  };
  let { series, marks } = read();
  range.onGrowth(() => ({ series, marks } = read()));
  const clip = newId("clip"),
    status = h("p", { class: "hidden", role: "status" });
  const chart = svg("svg", {
    class: "chart lines",
    height,
    tabindex: 0,
    role: "application",
    "aria-label": `${options.title}: ${series.map((one) => one.name).join(", ")}. Arrow keys read values, + and - zoom, 0 shows all`,
  });
  // What the pointer is over stays when the curves are drawn again.
  const content = svg("g"),
    cover = svg("rect", { class: "hit", height });
  chart.append(content, cover);
  let width = 760;
  let cursor: number | null = null;
  let brush: [number, number] | null = null;
  const x = (): ((value: number) => number) & { invert: (at: number) => number; ticks: (n: number) => number[] } =>
    scaleLinear([range.begin, range.end], [left, width - right]);

  const draw = (): void => {
    const scaleX = x();
    const seen = series.flatMap((one) =>
      one.points.filter(([at, y], i) => y !== null && at <= range.end && (one.points[i + 1]?.[0] ?? at) >= range.begin),
    );
    const values = seen.map(([, y]) => y as number).filter((y) => !options.log || y > 0);
    if (options.limit) values.push(options.limit.value);
    let low = options.fromZero ? 0 : Math.min(...values),
      high = Math.max(...values);
    if (values.length === 0) [low, high] = [options.log ? 0.1 : 0, 1];
    if (options.fromZero && high <= 0) high = 1;
    if (high <= low) [low, high] = [low - (Math.abs(low) * 0.1 || 0.5), high + (Math.abs(high) * 0.1 || 0.5)];
    const y = options.log
      ? scaleLog([Math.max(low, 1e-30), high], [height - bottom, top]).nice()
      : // What counts things often is 0, and shall not lie on the axis.
        scaleLinear([low, high], [height - bottom - (options.whole ? 5 : 0), top]).nice(5);
    const parts: Element[] = [
      svg(
        "defs",
        {},
        svg(
          "clipPath",
          { id: clip },
          svg("rect", { x: left, y: 0, width: width - left - right, height: height - bottom + 1 }),
        ),
      ),
    ];
    const all = options.log ? y.ticks(4).slice(0, 12) : y.ticks(5);
    const ticks = options.whole ? all.filter(Number.isInteger) : all;
    const texts = options.ticksY(ticks);
    ticks.forEach((tick, i) =>
      parts.push(
        svg("line", { class: "grid", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }),
        svg("text", { class: "tick", x: left - 6, y: y(tick), "text-anchor": "end" }, texts[i]),
      ),
    );
    const ticksX = scaleX.ticks(Math.max(2, Math.floor(width / 110)));
    const textsX = options.ticksX(ticksX);
    ticksX.forEach((tick, i) =>
      parts.push(
        svg("line", {
          class: "tick-mark",
          x1: scaleX(tick),
          x2: scaleX(tick),
          y1: height - bottom,
          y2: height - bottom + 4,
        }),
        svg("text", { class: "tick", x: scaleX(tick), y: height - bottom + 14, "text-anchor": "middle" }, textsX[i]),
      ),
    );
    const plot = svg("g", { "clip-path": `url(#${clip})` });
    if (options.limit)
      plot.append(
        svg("line", {
          class: "limit",
          x1: left,
          x2: width - right,
          y1: y(options.limit.value),
          y2: y(options.limit.value),
        }),
      );
    const path = line<[number, number | null]>()
      .defined(([, value]) => value !== null && (!options.log || value > 0))
      .x(([at]) => scaleX(at))
      .y(([, value]) => y(value as number))
      .curve(options.steps ? curveStepAfter : curveLinear);
    const below = area<[number, number | null]>()
      .defined(([, value]) => value !== null)
      .x(([at]) => scaleX(at))
      .y0(height - bottom)
      .y1(([, value]) => y(value as number))
      .curve(options.steps ? curveStepAfter : curveLinear);
    for (const one of series) {
      const from = Math.max(0, behind(one.points, range.begin) - 1),
        to = behind(one.points, range.end) + 1;
      const visible = one.points.slice(from, to);
      // The last value holds to the end.
      const last = visible.at(-1);
      if (options.steps && last && last[0] < range.end && to >= one.points.length) visible.push([range.end, last[1]]);
      if (options.filled)
        plot.append(svg("path", { class: "below", d: below(visible) ?? "", style: `fill:${seriesColour(one.index)}` }));
      plot.append(
        svg("path", {
          class: "curve",
          d: path(visible) ?? "",
          style: `stroke:${seriesColour(one.index)}`,
          "stroke-dasharray": seriesDash(one.index),
        }),
      );
      if (visible.length === 1 && last?.[1] !== null && last)
        plot.append(
          svg("circle", { r: 3, cx: scaleX(last[0]), cy: y(last[1]), style: `fill:${seriesColour(one.index)}` }),
        );
    }
    for (const mark of marks) {
      if (mark.x < range.begin || mark.x > range.end) continue;
      const at = scaleX(mark.x);
      if (mark.kind === "version")
        plot.append(svg("line", { class: "version", x1: at, x2: at, y1: height - bottom - 6, y2: height - bottom }));
      else
        plot.append(
          svg("line", { class: `mark ${mark.kind}`, x1: at, x2: at, y1: top + 9, y2: height - bottom }),
          mark.kind === "fault"
            ? svg("path", { class: "mark-head fault", d: `M${at - 6},${top - 2} h12 l-6,11 z` })
            : mark.kind === "back"
              ? svg("path", { class: "mark-head back", d: `M${at - 6},${top + 9} h12 l-6,-11 z` })
              : svg("circle", { class: "mark-head note", cx: at, cy: top + 4, r: 4 }),
        );
    }
    if (cursor !== null) {
      plot.append(
        svg("line", { class: "cursor", x1: scaleX(cursor), x2: scaleX(cursor), y1: top, y2: height - bottom }),
      );
      for (const one of series) {
        const value = valueAt(one, cursor);
        if (value !== null && (!options.log || value > 0))
          plot.append(
            svg("circle", {
              class: "point",
              r: 3.5,
              cx: scaleX(cursor),
              cy: y(value),
              style: `fill:${seriesColour(one.index)}`,
            }),
          );
      }
    }
    if (brush)
      plot.append(
        svg("rect", {
          class: "brush",
          x: scaleX(Math.min(...brush)),
          width: Math.abs(scaleX(brush[1]) - scaleX(brush[0])),
          y: top,
          height: height - bottom - top,
        }),
      );
    parts.push(
      plot,
      svg("line", { class: "axis", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }),
    );
    content.replaceChildren(...parts);
    cover.setAttribute("width", String(width));
  };

  /** Of the point at or before it; the nearest where values do not hold. */
  const valueAt = (one: Series, at: number): number | null => {
    const i = behind(one.points, at);
    const before = one.points[i - 1],
      after = one.points[i];
    if (options.steps || !after)
      return before && (options.steps || at <= before[0] + (range.end - range.begin) / 50) ? before[1] : null;
    if (!before) return null;
    return at - before[0] <= after[0] - at ? before[1] : after[1];
  };
  const about = (at: number): Rows => {
    const rows: Rows = series.map((one): [string, string] => {
      const value = valueAt(one, at);
      return [one.name, value === null ? "–" : options.formatY(value)];
    });
    if (options.limit) rows.push([options.limit.title, options.formatY(options.limit.value)]);
    const near = (range.end - range.begin) / 120;
    for (const mark of marks.filter((one) => Math.abs(one.x - at) <= near).slice(0, 5))
      rows.push([mark.title, mark.rows.map(([name, value]) => `${name} ${value}`).join(", ")]);
    return rows;
  };
  const toX = (clientX: number): number => {
    const box = chart.getBoundingClientRect();
    const at = x().invert(((clientX - box.left) / Math.max(1, box.width)) * width);
    return Math.min(range.end, Math.max(range.begin, at));
  };
  chart.addEventListener("pointerdown", (event) => {
    brush = [toX(event.clientX), toX(event.clientX)];
    chart.setPointerCapture(event.pointerId);
  });
  chart.addEventListener("pointermove", (event) => {
    cursor = toX(event.clientX);
    if (brush) brush[1] = cursor;
    showTip(options.formatX(cursor), about(cursor), event.clientX, event.clientY);
    draw();
  });
  chart.addEventListener("pointerup", () => {
    const drawn = brush;
    brush = null;
    if (drawn && Math.abs(drawn[1] - drawn[0]) > (range.end - range.begin) / 100)
      range.show(Math.min(...drawn), Math.max(...drawn));
    else draw();
  });
  chart.addEventListener("pointerleave", () => {
    cursor = null;
    hideTip();
    draw();
  });
  chart.addEventListener("dblclick", () => range.fit());
  chart.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      range.zoom(Math.exp(Math.max(-1, Math.min(1, event.deltaY / 200))), toX(event.clientX));
    },
    { passive: false },
  );
  chart.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const by = (range.end - range.begin) / 60;
    const move = (to: number): void => {
      if (to < range.begin || to > range.end) range.pan(to < range.begin ? -0.5 : 0.5);
      cursor = Math.min(range.end, Math.max(range.begin, to));
      const rows = about(cursor);
      status.textContent = `${options.formatX(cursor)}: ${rows.map(([name, value]) => `${name} ${value}`).join("; ")}`;
      const box = chart.getBoundingClientRect();
      showTip(options.formatX(cursor), rows, box.left + (x()(cursor) / width) * box.width, box.top + 20);
      draw();
    };
    const keys: Record<string, () => void> = {
      ArrowLeft: () => move((cursor ?? range.end) - by),
      ArrowRight: () => move((cursor ?? range.begin) + by),
      Home: () => move(range.begin),
      End: () => move(range.end),
      "+": () => range.zoom(0.5, cursor ?? undefined),
      "=": () => range.zoom(0.5, cursor ?? undefined),
      "-": () => range.zoom(2, cursor ?? undefined),
      "0": () => range.fit(),
    };
    const action = keys[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
  chart.addEventListener("blur", () => {
    cursor = null;
    hideTip();
    draw();
  });
  range.onChange(draw);
  const holder = responsive((to) => {
    width = to;
    chart.setAttribute("width", String(width));
    draw();
    return chart;
  });
  return h("figure", {}, h("figcaption", {}, options.title), holder, status);
}

/** Names beside the lines that stand for them. */
export function linesLegend(items: { name: string; colour: string; dash: string | undefined }[]): HTMLElement {
  return h(
    "ul",
    { class: "legend" },
    ...items.map(({ name, colour, dash }) =>
      h(
        "li",
        {},
        svg(
          "svg",
          { width: 26, height: 10, "aria-hidden": "true" },
          svg("line", {
            x1: 1,
            x2: 25,
            y1: 5,
            y2: 5,
            style: `stroke:${colour}`,
            "stroke-width": 2.5,
            "stroke-dasharray": dash,
          }),
        ),
        name,
      ),
    ),
  );
}
