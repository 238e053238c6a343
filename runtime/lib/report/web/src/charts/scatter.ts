// Points of two figures, a third as their size.
import { scaleLinear, scaleSqrt } from "d3-scale";
import { rove, svg, tell, type Rows } from "../dom";
import { responsive } from "./responsive";

export interface Point {
  x: number;
  y: number;
  size: number;
  chosen: boolean;
  title: string;
  rows: Rows;
}

interface Axes {
  x: string;
  y: string;
  ticksX: (ticks: number[]) => string[];
  ticksY: (ticks: number[]) => string[];
}

const height = 320,
  left = 64,
  right = 20,
  top = 30,
  bottom = 46;

export function scatter(title: string, points: Point[], axes: Axes): HTMLElement {
  return responsive((width) => draw(width, title, points, axes));
}

function draw(width: number, title: string, points: Point[], axes: Axes): SVGSVGElement {
  const spread = (values: number[]): [number, number] => {
    const low = Math.min(...values),
      high = Math.max(...values);
    const margin = (high - low) * 0.08 || Math.abs(high) * 0.05 || 1;
    return [Math.max(0, low - margin), high + margin];
  };
  const x = scaleLinear(spread(points.map((point) => point.x)), [left, width - right]).nice(6);
  const y = scaleLinear(spread(points.map((point) => point.y)), [height - bottom, top]).nice(5);
  const radius = scaleSqrt([0, Math.max(1e-300, ...points.map((point) => point.size))], [5, 13]);
  const chart = svg("svg", { class: "chart", width, height, role: "group", "aria-label": title });
  const ticksY = y.ticks(5),
    textsY = axes.ticksY(ticksY);
  ticksY.forEach((tick, i) =>
    chart.append(
      svg("line", { class: "grid", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }),
      svg("text", { class: "tick", x: left - 6, y: y(tick), "text-anchor": "end" }, textsY[i]),
    ),
  );
  const ticksX = x.ticks(Math.max(2, Math.floor(width / 130))),
    textsX = axes.ticksX(ticksX);
  ticksX.forEach((tick, i) =>
    chart.append(
      svg("line", { class: "grid", x1: x(tick), x2: x(tick), y1: top, y2: height - bottom }),
      svg("text", { class: "tick", x: x(tick), y: height - bottom + 14, "text-anchor": "middle" }, textsX[i]),
    ),
  );
  chart.append(
    svg("text", { class: "unit", x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, axes.x),
    svg("text", { class: "unit", x: 0, y: 10 }, axes.y),
    svg("line", { class: "axis", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }),
  );
  // Large ones below, what was chosen on top.
  const order = points
    .map((_, i) => i)
    .sort((a, b) => Number(points[a]!.chosen) - Number(points[b]!.chosen) || points[b]!.size - points[a]!.size);
  // Those at one place stand side by side.
  const taken: [number, number][] = [];
  const placeOf = (point: Point): [number, number] => {
    let at: [number, number] = [x(point.x), y(point.y)];
    while (taken.some(([left, top]) => Math.hypot(left - at[0], top - at[1]) < 5)) at = [at[0] + 9, at[1]];
    taken.push(at);
    return at;
  };
  const dots = points.map((point) => {
    const [cx, cy] = placeOf(point);
    const dot = svg("circle", {
      class: point.chosen ? "dot chosen" : "dot",
      cx,
      cy,
      r: radius(point.size),
      role: "img",
      "aria-label": `${point.title}: ${point.rows.map(([name, value]) => `${name} ${value}`).join(", ")}`,
    });
    tell(dot, point.title, point.rows);
    return dot;
  });
  rove(dots, ["ArrowLeft", "ArrowUp"], ["ArrowRight", "ArrowDown"]);
  chart.append(...order.map((i) => dots[i]!));
  return chart;
}
