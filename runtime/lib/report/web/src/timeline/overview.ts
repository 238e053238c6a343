// All ranks over the whole step: how many compute, how many wait. A window
// drawn on it is what the timelines below show.
import { kinds } from "../data";
import { h } from "../dom";
import { colour, onTheme } from "../theme";

import { labelWidthOf } from "./draw";

import type { Model } from "./model";
import type { Range } from "../charts/range";

const height = 44,
  buckets = 600;

/** Part of the ranks by kind, for each of `buckets` parts of `seconds`. */
export function density(model: Model, seconds: number): Float64Array[] {
  const sums = kinds.map(() => new Float64Array(buckets));
  const ranks = model.tracks.reduce((sum, track) => sum + track.ranks, 0) || 1;
  const width = seconds / buckets;
  for (const track of model.tracks) {
    const weight = track.ranks / ranks / width;
    const { begin, end, kind } = track.calls;
    for (let i = 0; i < begin.length; ++i) {
      const to = sums[kind[i]!];
      if (!to) continue;
      const first = Math.max(0, Math.floor(begin[i]! / width)),
        last = Math.min(buckets - 1, Math.floor(end[i]! / width));
      for (let b = first; b <= last; ++b)
        to[b]! += weight * Math.max(0, Math.min(end[i]!, (b + 1) * width) - Math.max(begin[i]!, b * width));
    }
  }
  return sums;
}

export function overview(model: Model, window: Range): HTMLElement {
  const sums = density(model, window.full);
  const canvas = h("canvas", { class: "overview", height, "aria-hidden": "true" });
  const holder = h("div", { class: "overview-holder" }, canvas);
  const labelOf = (): number => labelWidthOf(canvas.clientWidth);
  const plotWidth = (): number => Math.max(1, canvas.clientWidth - labelOf());
  const timeAt = (clientX: number): number =>
    ((clientX - canvas.getBoundingClientRect().left - labelOf()) / plotWidth()) * window.full;

  const draw = (): void => {
    const width = holder.clientWidth;
    if (width === 0) return;
    const labelWidth = labelWidthOf(width);
    const ratio = devicePixelRatio || 1;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const c = canvas.getContext("2d");
    if (!c) return;
    c.scale(ratio, ratio);
    c.fillStyle = colour("faint");
    c.font = "12px system-ui, sans-serif";
    c.textBaseline = "middle";
    c.fillText("all ranks", 4, height / 2);
    c.fillStyle = colour("waiting");
    c.fillRect(labelWidth, 0, width - labelWidth, height);
    const base = new Float64Array(buckets);
    const step = (width - labelWidth) / buckets;
    kinds.forEach((kind, k) => {
      c.fillStyle = colour(kind);
      c.beginPath();
      for (let b = 0; b < buckets; ++b) {
        const part = sums[k]![b]! * height;
        if (part > 0) c.rect(labelWidth + b * step, height - base[b]! - part, step + 0.5, part);
        base[b]! += part;
      }
      c.fill();
    });
    if (!window.zoomed) return;
    const from = labelWidth + (window.begin / window.full) * (width - labelWidth);
    const to = labelWidth + (window.end / window.full) * (width - labelWidth);
    c.fillStyle = colour("veil");
    c.fillRect(labelWidth, 0, from - labelWidth, height);
    c.fillRect(to, 0, width - to, height);
    c.strokeStyle = colour("text");
    c.lineWidth = 1.5;
    c.strokeRect(from, 0.75, Math.max(3, to - from), height - 1.5);
  };

  let from: number | null = null;
  canvas.addEventListener("pointerdown", (event) => {
    from = timeAt(event.clientX);
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (from === null) return;
    const to = timeAt(event.clientX);
    if (Math.abs(to - from) > window.full * 0.004) window.show(Math.min(from, to), Math.max(from, to));
  });
  canvas.addEventListener("pointerup", (event) => {
    // A click brings what is seen there.
    const at = timeAt(event.clientX),
      width = window.end - window.begin;
    if (from !== null && Math.abs(at - from) <= window.full * 0.004) window.show(at - width / 2, at + width / 2);
    from = null;
  });
  canvas.addEventListener("dblclick", () => window.fit());
  window.onChange(draw);
  onTheme(draw);
  new ResizeObserver(draw).observe(holder);
  return holder;
}
