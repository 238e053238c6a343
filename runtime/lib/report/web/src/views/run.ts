import type { Entry, Run, RunEvent, RunIsland } from "../data";
import { lineChart, linesLegend, type Mark, type Series } from "../charts/lines";
import { seriesLegend } from "../charts/palette";
import { Range } from "../charts/range";
import { h, newId, type Rows } from "../dom";
import * as format from "../format";
import { sortableTable, type Column } from "../table";
import type { View } from "./section";

type Axis = "time" | "step";

const faults = /fail|lost|damage|discard|error|refused|restart|killed|kill/;
const returns = /back|rejoin|recover/;

function kindOf(event: RunEvent): Mark["kind"] {
  if (event.event === "outer_step" || event.event === "start") return "version";
  return faults.test(event.event) ? "fault" : returns.test(event.event) ? "back" : "note";
}

function tellEvent(event: RunEvent): Rows {
  const rows: Rows = [];
  if (event.island !== undefined) rows.push(["island", String(event.island)]);
  if (event.site !== undefined) rows.push(["site", event.site]);
  if (event.part !== undefined) rows.push(["part", event.part]);
  if (event.step !== undefined) rows.push(["step", format.count(event.step)]);
  if (event.fragment !== undefined) rows.push(["fragment", String(event.fragment)]);
  if (event.version !== undefined) rows.push(["version", String(event.version)]);
  if (event.islands !== undefined) rows.push(["islands", event.islands.join(", ")]);
  if (event.loss !== undefined) rows.push(["loss", format.fixed(event.loss, 4)]);
  if (event.message !== undefined) rows.push(["message", event.message]);
  return rows;
}

/** Where on the axis a moment of the run is: steps of the island that has come furthest. */
function placer(run: Run, axis: Axis): (event: RunEvent) => number {
  if (axis === "time") return (event) => event.clock;
  const all = run.islands
    .flatMap((island) => island.clock.map((clock, i): [number, number] => [clock, island.step[i]!]))
    .sort((a, b) => a[0] - b[0]);
  return (event) => {
    if (event.step !== undefined && kindOf(event) !== "version") return event.step;
    let step = 0;
    for (const [clock, at] of all) {
      if (clock > event.clock) break;
      step = Math.max(step, at);
    }
    return step;
  };
}

/** Means over so many points that about 300 are told apart. */
function throughput(island: RunIsland): number[] {
  const reach = Math.max(1, Math.round(island.step.length / 300));
  return island.step.map((_, i) => {
    let tokens = 0,
      seconds = 0;
    for (let k = Math.max(0, i - reach + 1); k <= i; ++k) {
      tokens += island.tokens[k]!;
      seconds += island.seconds[k]!;
    }
    return seconds > 0 ? tokens / seconds : 0;
  });
}

/** Versions of each fragment since the last one that an island had a part in; of its fragments the most. */
function staleness(run: Run, place: (event: RunEvent) => number): [number, number][][] {
  const islands = run.islands.map((): [number, number][] => []);
  const behind = run.islands.map(() => new Map<number, number>());
  for (const event of run.events) {
    if (event.event !== "outer_step" || !event.islands) continue;
    const at = place(event),
      fragment = event.fragment ?? 0;
    islands.forEach((points, i) => {
      const since = behind[i]!;
      since.set(fragment, event.islands!.includes(i) ? 0 : (since.get(fragment) ?? 0) + 1);
      points.push([at, Math.max(...since.values())]);
    });
  }
  return islands;
}

function charts(entry: Entry, run: Run, axis: Axis): HTMLElement[] {
  const place = placer(run, axis);
  const xs = run.islands.map((island) => (axis === "time" ? island.clock : island.step));
  const largest = Math.max(1e-9, ...xs.map((values) => values.at(-1) ?? 0));
  const range = new Range(largest);
  const names = entry.plan.islands.map((island, i) => `island ${i} (${island.sites.join(" and ")})`);
  const all = run.islands.map((_, i) => i).filter((i) => run.islands[i]!.step.length > 0);
  const series = (values: (i: number) => (number | null)[]): Series[] =>
    all.map((i) => ({
      name: names[i]!,
      index: i,
      points: values(i).map((value, k): [number, number | null] => [xs[i]![k]!, value]),
    }));
  const marks: Mark[] = run.events.map((event) => ({
    x: place(event),
    kind: kindOf(event),
    title: format.words(event.event),
    rows: tellEvent(event),
  }));
  const common = {
    range,
    marks,
    formatX: axis === "time" ? format.seconds : (value: number) => `step ${format.count(Math.round(value))}`,
    ticksX:
      axis === "time"
        ? format.secondsTicks
        : (ticks: number[]) => format.plainTicks(ticks).map((text) => `step ${text}`),
    ticksY: format.plainTicks,
  };
  const stale = staleness(run, place);
  const result = [
    linesLegend(seriesLegend(names)),
    lineChart({
      ...common,
      title: "Loss of each island",
      series: series((i) => run.islands[i]!.loss),
      formatY: (value) => format.fixed(value, 4),
    }),
    lineChart({
      ...common,
      title: "Tokens per second",
      series: series((i) => throughput(run.islands[i]!)),
      formatY: (value) => format.count(Math.round(value)),
      fromZero: true,
    }),
  ];
  if (stale.some((points) => points.length > 0))
    result.push(
      lineChart({
        ...common,
        title: "Staleness: versions since the last that an island had a part in",
        series: stale.map((points, i) => ({ name: names[i]!, index: i, points: [[0, 0], ...points] })),
        formatY: format.figure,
        whole: true,
        steps: true,
        fromZero: true,
      }),
    );
  return result;
}

interface EventRow {
  event: RunEvent;
}

export const runView: View = {
  id: "run",
  title: "The run",
  short: "Run",
  about:
    "Time is the sum of each island's steps, as metrics.jsonl has no clock: what lies between steps is not in it. Triangles are faults " +
    "(pointing up: returns), dots other events, ticks below new versions. Draw over a chart to zoom all, a double click shows the whole run.",
  missing: (entry) => entry.missing.run ?? "there is none",
  draw: (entry) => {
    const run = entry.run;
    if (!run) return null;
    const holder = h("div", { class: "charts" });
    const name = newId("axis");
    const choose = (axis: Axis): void => holder.replaceChildren(...charts(entry, run, axis));
    choose("time");
    const choice = (axis: Axis, label: string): HTMLElement =>
      h(
        "label",
        {},
        h("input", { type: "radio", name, value: axis, checked: axis === "time", change: () => choose(axis) }),
        ` ${label}`,
      );
    const rows = run.events.filter((event) => kindOf(event) !== "version").map((event): EventRow => ({ event }));
    const columns: Column<EventRow>[] = [
      { title: "Time", value: ({ event }) => event.clock, show: ({ event }) => format.seconds(event.clock) },
      { title: "Event", value: ({ event }) => format.words(event.event) },
      {
        title: "Where",
        value: ({ event }) =>
          event.island !== undefined ? `island ${event.island}` : (event.site ?? event.part ?? ""),
      },
      {
        title: "About",
        wide: true,
        value: ({ event }) =>
          event.message ??
          tellEvent(event)
            .filter(([key]) => key !== "island")
            .map(([key, value]) => `${key} ${value}`)
            .join(", "),
      },
    ];
    const perPoint = Math.max(1, ...run.islands.map((island) => island.steps_per_point));
    return h(
      "div",
      {},
      h(
        "fieldset",
        { class: "choice" },
        h("legend", { class: "hidden" }, "horizontal axis"),
        choice("time", "by time"),
        choice("step", "by step"),
      ),
      holder,
      perPoint > 1 && h("p", { class: "note" }, `A point is the mean of ${perPoint} steps.`),
      rows.length > 0 && sortableTable(`Events of ${entry.name}`, columns, rows.slice(0, 1000)),
      rows.length > 1000 && h("p", { class: "note" }, `${format.count(rows.length - 1000)} more events.`),
      run.events_left_out > 0 && h("p", { class: "note" }, `${format.count(run.events_left_out)} events left out.`),
    );
  },
};
