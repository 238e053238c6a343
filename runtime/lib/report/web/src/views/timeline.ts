import type { Entry } from "../data";
import { append, h } from "../dom";
import * as format from "../format";
import { readTimeline } from "../timeline/model";
import { timelineView } from "../timeline/view";
import { Range } from "../charts/range";
import { legend, type View } from "./section";

/** All timelines of the page show the same part of the time. */
export function timelineSection(entries: Entry[], names: string[]): View {
  const shared = new Range(Math.max(1e-12, ...entries.map((entry) => entry.timeline?.seconds ?? 0)));
  const button = (label: string, title: string, action: () => void): HTMLElement =>
    h("button", { type: "button", title, "aria-label": title, click: action }, label);
  const range = h("output", { class: "range" });
  const tellRange = (): void => {
    range.textContent = `${format.seconds(shared.begin)} to ${format.seconds(
      shared.end,
    )} of ${format.seconds(shared.full)}`;
  };
  shared.onChange(tellRange);
  tellRange();
  return {
    id: "timeline",
    title: "One step",
    short: "Step",
    stacked: true,
    about:
      "One inner step on a virtual clock, a row for each class of ranks that behave alike. A bar is one microbatch; " +
      "in a backward bar the bands are as high as the parts of its time. Closer up, single calls are drawn. " +
      "Below a row: collectives, then transfers between stages, then the exchange with the server.",
    missing: (entry) => entry.missing.timeline ?? "there is none",
    legend: () => {
      const all = legend([
        ["forward", "forward"],
        ["recompute", "forward again"],
        ["backward_input", "backward by input"],
        ["backward_weight", "backward by weight"],
        ["update", "update"],
        ["waiting", "not computing"],
        ["tensor_parallel", "collective in a replica"],
        ["data_parallel", "collective over replicas"],
        ["island", "collective of the island"],
        ["pipeline", "transfer"],
        ["exchange", "wait for the server"],
      ]);
      return h(
        "div",
        { class: "controls" },
        all,
        h(
          "div",
          { class: "buttons", role: "group", "aria-label": "zoom" },
          button("−", "zoom out", () => shared.zoom(2)),
          button("+", "zoom in", () => shared.zoom(0.5)),
          button("◀", "move left", () => shared.pan(-0.25)),
          button("▶", "move right", () => shared.pan(0.25)),
          button("whole step", "show the whole step", () => shared.fit()),
          range,
        ),
      );
    },
    draw: (entry, i) => {
      if (!entry.timeline) return null;
      const model = readTimeline(entry.timeline);
      const view = timelineView(model, shared, names[i]!);
      if (entry.timeline.from_trace)
        append(
          view,
          h(
            "p",
            { class: "help" },
            "From a trace of tombolo-sim: it may be of several steps, names no microbatches, and does not tell forwards that run again.",
          ),
        );
      if (model.leftOut > 0)
        append(
          view,
          h(
            "p",
            { class: "help" },
            `${format.plural(model.leftOut, "class", "classes")} of ranks left out: there are too many bars.`,
          ),
        );
      return view;
    },
  };
}
