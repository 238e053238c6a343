// Charts are drawn as wide as their place is, so that text keeps its size.
import { h } from "../dom";

/** What `draw` makes for a width, made again when the width changes. */
export function responsive(draw: (width: number) => SVGSVGElement, name = "chart-holder"): HTMLElement {
  const holder = h("div", { class: name });
  let drawn = 0;
  new ResizeObserver(() => {
    const width = Math.max(320, Math.min(1200, Math.floor(holder.clientWidth)));
    if (width === drawn || holder.clientWidth === 0) return;
    drawn = width;
    holder.replaceChildren(draw(width));
  }).observe(holder);
  return holder;
}
