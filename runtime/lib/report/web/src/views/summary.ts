// The figures of each plan, side by side.
import type { Entry } from "../data";
import { h } from "../dom";
import * as format from "../format";

interface Figure {
  title: string;
  about: string;
  show: (entry: Entry) => string;
  /** What plans are compared by, and which is better. */
  value?: (entry: Entry) => number | null | undefined;
  better?: "less" | "more";
  /** A part of a whole: compared by the difference. */
  part?: boolean;
}

const chipsUsed = (entry: Entry): number =>
  entry.plan.islands
    .flatMap((island) => island.stages.flatMap((stage) => stage.groups))
    .reduce((sum, group) => sum + group.replicas * group.tensor_parallel, 0);
const chips = (entry: Entry): number | null =>
  entry.plan.topology &&
  entry.plan.topology.sites
    .flatMap((site) => site.pools)
    .reduce((sum, pool) => sum + pool.nodes * pool.chips_per_node, 0);
const predicted = (entry: Entry) => entry.simulation?.predicted ?? entry.plan.prediction;

const main: Figure[] = [
  {
    title: "Step",
    about: "one inner step, simulated",
    show: (e) => format.seconds(predicted(e)?.step_seconds),
    value: (e) => predicted(e)?.step_seconds,
    better: "less",
  },
  {
    title: "Tokens/s",
    about: "of all islands",
    show: (e) => format.count(Math.round(predicted(e)?.tokens_per_second ?? NaN)),
    value: (e) => predicted(e)?.tokens_per_second,
    better: "more",
  },
  {
    title: "Equivalent compute",
    about: "1: nothing is lost by mixing chips and distance",
    show: (e) => format.fixed(predicted(e)?.equivalent_compute, 3),
    value: (e) => predicted(e)?.equivalent_compute,
    better: "more",
  },
  {
    title: "Waiting",
    about: "part of the ranks' time spent waiting for other ranks",
    show: (e) => format.percent(predicted(e)?.bubble_fraction),
    value: (e) => predicted(e)?.bubble_fraction,
    part: true,
    better: "less",
  },
  {
    title: "Between sites",
    about: "bytes of one round",
    show: (e) => format.bytes(predicted(e)?.wan_bytes_per_round),
    value: (e) => predicted(e)?.wan_bytes_per_round,
    better: "less",
  },
  {
    title: "Chips used",
    about: "of all in the topology",
    show: (e) => `${format.count(chipsUsed(e))}${chips(e) === null ? "" : ` of ${format.count(chips(e))}`}`,
  },
];

const others: Figure[] = [
  {
    title: "Step by the planner",
    about: "what its cost model foretold",
    show: (e) => format.seconds(e.plan.prediction?.step_seconds),
  },
  {
    title: "Goodput",
    about: "tokens that count, over those of the same run without failures",
    show: (e) => format.percent(e.simulation?.predicted.goodput),
  },
  { title: "Parameters", about: "of the model", show: (e) => format.amount(e.plan.parameters) },
  {
    title: "Batch",
    about: "samples of one inner step over all islands",
    show: (e) => `${format.count(e.plan.global_batch)} × ${format.plural(e.plan.tokens_per_sample, "token")}`,
  },
  { title: "Precision", about: "of matrix products and stored activations", show: (e) => e.plan.precision },
  {
    title: "Optimizer",
    about: "of inner steps",
    show: (e) => `${e.plan.optimizer}, rate ${format.figure(e.plan.learning_rate)}`,
  },
  {
    title: "Schedule",
    about: "of the pipeline",
    show: (e) =>
      e.search
        ? [
            ...new Set(e.search.islands.map((i) => (i.chunks > 1 ? `${i.schedule}, ${i.chunks} chunks` : i.schedule))),
          ].join(", ")
        : "–",
  },
  { title: "Islands", about: "complete copies of the model", show: (e) => format.count(e.plan.islands.length) },
  {
    title: "Exchange",
    about: "between islands",
    show: (e) => {
      const s = e.plan.server;
      return s
        ? `every ${format.plural(s.inner_steps, "step")}, ${format.plural(s.fragments, "fragment")}, overlap ${s.overlap_steps}, ${s.compression === "none" ? "not compressed" : s.compression}`
        : "none";
    },
  },
  {
    title: "Model, topology",
    about: "beginnings of their hashes",
    show: (e) => `${e.plan.model_hash.slice(0, 10)}, ${e.plan.topology_hash.slice(0, 10)}`,
  },
];

/** For each plan what its figure is against that of the first. */
function differences(figure: Figure, entries: Entry[]): { text: string; good: boolean | null }[] {
  const values = entries.map((entry) => figure.value?.(entry) ?? null);
  const first = values[0] ?? null;
  return values.map((value, i) => {
    if (i === 0 || value === null || first === null || first === 0 || value === first) return { text: "", good: null };
    const by = figure.part ? value - first : value / first - 1;
    if (Math.abs(by) < 0.0005) return { text: "", good: null };
    const much = figure.part ? `${format.figure(Math.abs(by) * 100)} points` : format.percent(Math.abs(by));
    return { text: `${by > 0 ? "+" : "−"}${much}`, good: by < 0 === (figure.better === "less") };
  });
}

export function summary(entries: Entry[], names: string[]): HTMLElement {
  const content =
    entries.length === 1
      ? h(
          "div",
          {},
          h(
            "dl",
            { class: "figures" },
            ...main.map((figure) =>
              h("div", { title: figure.about }, h("dt", {}, figure.title), h("dd", {}, figure.show(entries[0]!))),
            ),
          ),
          h(
            "dl",
            { class: "details" },
            ...others.map((figure) =>
              h("div", { title: figure.about }, h("dt", {}, figure.title), h("dd", {}, figure.show(entries[0]!))),
            ),
          ),
        )
      : h(
          "div",
          { class: "table", tabindex: 0, role: "region", "aria-label": "figures of the plans" },
          h(
            "table",
            { class: "compare" },
            h("thead", {}, h("tr", {}, h("td", {}), ...names.map((name) => h("th", { scope: "col" }, name)))),
            h(
              "tbody",
              {},
              ...[...main, ...others].map((figure) => {
                const against = differences(figure, entries);
                return h(
                  "tr",
                  {},
                  h("th", { scope: "row", title: figure.about }, figure.title),
                  ...entries.map((entry, i) =>
                    h(
                      "td",
                      {},
                      figure.show(entry),
                      against[i]!.text !== "" &&
                        h("span", { class: against[i]!.good ? "good" : "worse" }, ` ${against[i]!.text}`),
                    ),
                  ),
                );
              }),
            ),
          ),
        );
  return h(
    "section",
    { id: "summary", "aria-labelledby": "summary-title" },
    h("h2", { id: "summary-title" }, "Figures"),
    content,
  );
}
