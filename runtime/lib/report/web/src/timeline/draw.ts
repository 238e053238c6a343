// Draws what is seen of a timeline onto a canvas.
import { scaleLinear } from "d3-scale";

import { kinds } from "../data";
import { shorten } from "../dom";
import * as format from "../format";
import { colour } from "../theme";

import { firstEndingAfter, flowKind, type Model, type Run, type Track } from "./model";
import { computeHeight, laneHeight, type Row } from "./rows";
import type { Range } from "../charts/range";

export const axisHeight = 24;

/** Left of the bars. */
export const labelWidthOf = (width: number): number => (width < 700 ? 84 : 190);

export interface Selection {
  track: Track;
  run: number;
}

export interface Scene {
  model: Model;
  rows: Row[];
  window: Range;
  width: number;
  height: number;
  scrollTop: number;
  selected: Selection | null;
  focused: boolean;
}

/** Calls are drawn one by one where a run has so many pixels for each. */
const pixelsPerCall = 4;

export function draw(canvas: HTMLCanvasElement, scene: Scene): void {
  const { width, height, window } = scene;
  const labelWidth = labelWidthOf(width);
  const ratio = devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  if (!context) return;
  context.scale(ratio, ratio);
  const palette: Record<string, string> = {};
  const paint = (name: string): string => (palette[name] ??= colour(name));
  const x = scaleLinear([window.begin, window.end], [labelWidth, width - 1]);
  context.fillStyle = paint("surface");
  context.fillRect(0, 0, width, height);
  context.font = "12px system-ui, sans-serif";
  context.textBaseline = "middle";

  for (const row of scene.rows) {
    const top = row.top - scene.scrollTop + axisHeight;
    if (top + row.height < axisHeight || top > height) continue;
    if (row.track) drawTrack(row, row.track, top);
    else {
      context.fillStyle = paint("text");
      context.font = "600 12px system-ui, sans-serif";
      context.fillText(row.label, 4, top + row.height / 2);
      context.font = "12px system-ui, sans-serif";
    }
  }
  drawAxis();

  function drawTrack(row: Row, track: Track, top: number): void {
    const c = context!;
    c.fillStyle = paint("text");
    c.fillText(row.label, 4, top + computeHeight / 2);
    if (labelWidth > 100) {
      c.fillStyle = paint("faint");
      c.textAlign = "right";
      c.fillText(
        `${shorten(track.pool, row.label.length > 9 ? 9 : 14)} × ${format.count(track.ranks)}`,
        labelWidth - 8,
        top + computeHeight / 2,
      );
      c.textAlign = "left";
    }
    // Everything that is not covered is waiting.
    const whole = scene.model.seconds;
    c.fillStyle = paint("waiting");
    c.fillRect(
      x(Math.max(0, window.begin)),
      top,
      x(Math.min(whole, window.end)) - x(Math.max(0, window.begin)),
      computeHeight,
    );
    c.save();
    c.beginPath();
    c.rect(labelWidth, top, width - labelWidth, row.height);
    c.clip();
    let drawn = -1;
    for (let i = firstRun(track.runs, window.begin); i < track.runs.length; ++i) {
      const run = track.runs[i]!;
      if (run.begin > window.end) break;
      const left = x(run.begin),
        right = x(run.end);
      if (right < drawn + 0.5) continue; // within a pixel that is drawn
      drawn = right;
      if ((right - left) / (run.last - run.first + 1) >= pixelsPerCall) drawCalls(track, run, top);
      else drawRun(run, left, Math.max(right - left, 0.75), top);
      if (right - left > 22 && run.microbatch >= 0) {
        const from = Math.max(left, labelWidth),
          to = Math.min(right, width);
        const text = String(run.microbatch);
        if (to - from > 8 * text.length + 6) {
          c.fillStyle = paint(run.parts[0]! > 0 ? "on-forward" : "on-backward");
          c.textAlign = "center";
          c.fillText(text, (from + to) / 2, top + computeHeight / 2);
          c.textAlign = "left";
        }
      }
      if (scene.selected?.track === track && scene.selected.run === i) {
        c.strokeStyle = paint("text");
        c.lineWidth = scene.focused ? 3 : 2;
        c.strokeRect(left, top + 1, Math.max(right - left, 3), computeHeight - 2);
      }
    }
    for (const lane of row.lanes)
      for (const [kind, bars] of track.lanes) {
        if (!lane.kinds.includes(kind)) continue;
        let last = -1;
        for (let i = firstEndingAfter(bars.end, window.begin); i < bars.end.length; ++i) {
          if (bars.begin[i]! > window.end) break;
          const left = x(bars.begin[i]!),
            right = x(bars.end[i]!);
          if (right < last + 0.5) continue;
          last = right;
          c.fillStyle = paint(flowKind(kind, scene.model.names[bars.name[i]!] ?? ""));
          c.fillRect(left, top + lane.top, Math.max(right - left, 0.75), laneHeight);
        }
      }
    c.restore();
  }

  /** Bands as high as the parts of its time; pauses inside are part of it. */
  function drawRun(run: Run, left: number, wide: number, top: number): void {
    const total = run.parts.reduce((sum, part) => sum + part, 0) || 1;
    let y = top;
    kinds.forEach((kind, k) => {
      const part = (run.parts[k]! / total) * computeHeight;
      if (part <= 0) return;
      context!.fillStyle = paint(kind);
      context!.fillRect(left, y, wide > 6 ? wide - 0.6 : wide, part);
      y += part;
    });
  }

  function drawCalls(track: Track, run: Run, top: number): void {
    const { begin, end, kind } = track.calls;
    for (let i = run.first; i <= run.last; ++i) {
      const left = x(begin[i]!),
        right = x(end[i]!);
      if (right < labelWidth || left > width) continue;
      context!.fillStyle = paint(kinds[kind[i]!] ?? "update");
      context!.fillRect(left, top, Math.max(right - left - (right - left > 6 ? 0.6 : 0), 0.75), computeHeight);
    }
  }

  function drawAxis(): void {
    const c = context!;
    c.fillStyle = paint("surface");
    c.fillRect(0, 0, width, axisHeight);
    c.strokeStyle = paint("rule");
    c.fillStyle = paint("faint");
    c.lineWidth = 1;
    const step = Math.max(2, Math.floor((width - labelWidth) / 110));
    const ticks = x.ticks(step);
    const unit = tickUnit(window.end);
    c.beginPath();
    for (const tick of ticks) {
      c.moveTo(Math.round(x(tick)) + 0.5, axisHeight - 5);
      c.lineTo(Math.round(x(tick)) + 0.5, height);
    }
    c.globalAlpha = 0.5;
    c.stroke();
    c.globalAlpha = 1;
    const places = Math.max(
      0,
      Math.min(9, -Math.floor(Math.log10(((ticks[1] ?? 1) - (ticks[0] ?? 0)) / unit.size) + 1e-9)),
    );
    for (const tick of ticks) {
      const text = `${(tick / unit.size).toFixed(places)} ${unit.name}`;
      const wide = c.measureText(text).width;
      const at = Math.min(Math.max(x(tick) - wide / 2, labelWidth), width - wide - 1);
      c.fillText(text, at, axisHeight / 2 - 2);
    }
  }
}

export function firstRun(runs: Run[], time: number): number {
  let low = 0,
    high = runs.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (runs[middle]!.end > time) high = middle;
    else low = middle + 1;
  }
  return low;
}

function tickUnit(largest: number): { name: string; size: number } {
  return largest < 1e-3
    ? { name: "µs", size: 1e-6 }
    : largest < 1
      ? { name: "ms", size: 1e-3 }
      : { name: "s", size: 1 };
}
