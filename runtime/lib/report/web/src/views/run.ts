import type { Entry, Run, RunEvent, RunIsland } from "../data";
import { lineChart, linesLegend, type Mark, type Series } from "../charts/lines";
import { seriesLegend } from "../charts/palette";
import { Range } from "../charts/range";
import { h, newId, type Rows } from "../dom";
import * as format from "../format";
import { growingTable, type Column } from "../table";
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
  if (event.time !== undefined) rows.push(["at", event.time]);
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

/** Which charts there are, and of which islands. */
const shapeOf = (run: Run): string =>
  JSON.stringify([
    run.islands.map((island) => island.step.length > 0),
    run.events.some((event) => event.event === "outer_step"),
  ]);

const along = (run: Run, axis: Axis): number[][] =>
  run.islands.map((island) => (axis === "time" ? island.clock : island.step));
const lengthOf = (run: Run, axis: Axis): number =>
  Math.max(1e-9, ...along(run, axis).map((values) => values.at(-1) ?? 0));

interface Charts {
  elements: HTMLElement[];
  /** Grows with the run. */
  range: Range;
}

function charts(entry: Entry, run: Run, axis: Axis): Charts {
  const range = new Range(lengthOf(run, axis));
  const names = entry.plan.islands.map((island, i) => `island ${i} (${island.sites.join(" and ")})`);
  // The run may grow: what is drawn is read again each time.
  const series = (values: (i: number) => (number | null)[]): Series[] => {
    const xs = along(run, axis);
    return run.islands
      .map((island, i) => ({ island, i }))
      .filter(({ island }) => island.step.length > 0)
      .map(({ i }) => ({
        name: names[i]!,
        index: i,
        points: values(i).map((value, k): [number, number | null] => [xs[i]![k]!, value]),
      }));
  };
  const marks = (): Mark[] => {
    const place = placer(run, axis);
    return run.events.map((event) => ({
      x: place(event),
      kind: kindOf(event),
      title: format.words(event.event),
      rows: tellEvent(event),
    }));
  };
  const common = {
    range,
    formatX: axis === "time" ? format.seconds : (value: number) => `step ${format.count(Math.round(value))}`,
    ticksX:
      axis === "time"
        ? format.secondsTicks
        : (ticks: number[]) => format.plainTicks(ticks).map((text) => `step ${text}`),
    ticksY: format.plainTicks,
  };
  const stale = (): Series[] =>
    staleness(run, placer(run, axis)).map((points, i) => ({ name: names[i]!, index: i, points: [[0, 0], ...points] }));
  const elements = [
    linesLegend(seriesLegend(names)),
    lineChart({
      ...common,
      title: "Loss of each island",
      curves: () => ({ series: series((i) => run.islands[i]!.loss), marks: marks() }),
      formatY: (value) => format.fixed(value, 4),
    }),
    lineChart({
      ...common,
      title: "Tokens per second",
      curves: () => ({ series: series((i) => throughput(run.islands[i]!)), marks: marks() }),
      formatY: (value) => format.count(Math.round(value)),
      fromZero: true,
    }),
  ];
  if (run.events.some((event) => event.event === "outer_step"))
    elements.push(
      lineChart({
        ...common,
        title: "Staleness: versions since the last that an island had a part in",
        curves: () => ({ series: stale(), marks: marks() }),
        formatY: format.figure,
        whole: true,
        steps: true,
        fromZero: true,
      }),
    );
  return { elements, range };
}

const mostRows = 1000;

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
    let axis: Axis = "time";
    let drawn = charts(entry, run, axis);
    let shape = shapeOf(run);
    const choose = (next: Axis): void => {
      axis = next;
      shape = shapeOf(run);
      drawn = charts(entry, run, axis);
      holder.replaceChildren(...drawn.elements);
    };
    choose("time");
    const choice = (to: Axis, label: string): HTMLElement =>
      h(
        "label",
        {},
        h("input", { type: "radio", name, value: to, checked: to === "time", change: () => choose(to) }),
        ` ${label}`,
      );
    const rows = (): EventRow[] =>
      run.events
        .filter((event) => kindOf(event) !== "version")
        .slice(-mostRows)
        .map((event) => ({ event }));
    const columns: Column<EventRow>[] = [
      { title: "Time", value: ({ event }) => event.clock, show: ({ event }) => format.seconds(event.clock) },
      { title: "Event", text: true, value: ({ event }) => format.words(event.event) },
      {
        title: "Where",
        text: true,
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
    const events = h("div");
    const table = growingTable(`Events of ${entry.name}`, columns, rows());
    const notes = h("p", { class: "note" });
    let told = "";
    const tellRest = (): void => {
      const now = JSON.stringify(rows());
      if (now !== told) table.show(rows());
      told = now;
      if (rows().length > 0 && !table.element.isConnected) events.replaceChildren(table.element);
      const perPoint = Math.max(1, ...run.islands.map((island) => island.steps_per_point));
      const all = run.events.filter((event) => kindOf(event) !== "version").length;
      notes.textContent = [
        perPoint > 1 && `A point is the mean of ${perPoint} steps.`,
        all > mostRows && `${format.count(all - mostRows)} earlier events are not in the table.`,
        run.events_left_out > 0 && `${format.count(run.events_left_out)} events from before are left out.`,
      ]
        .filter(Boolean)
        .join(" ");
    };
    tellRest();
    entry.live?.onChange(() => {
      // Other charts only where there are others: what is zoomed and read stays.
      if (shapeOf(run) !== shape) choose(axis);
      else drawn.range.grow(lengthOf(run, axis));
      tellRest();
    });
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
      events,
      notes,
    );
  },
};
