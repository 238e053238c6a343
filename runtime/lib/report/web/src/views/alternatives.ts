import type { Alternative } from "../data";
import { scatter, type Point } from "../charts/scatter";
import { h, type Rows } from "../dom";
import * as format from "../format";
import { sortableTable, type Column } from "../table";
import type { View } from "./section";

interface Row extends Alternative {
  rank: number;
}

export const alternativesView: View = {
  id: "alternatives",
  title: "What the search weighed",
  short: "Search",
  about:
    "The strategies that the search kept, by the cost model: time of a step against the memory of the fullest chip. " +
    "A larger dot uses the lines between sites more. The filled one is this plan.",
  missing: (entry) =>
    entry.missing.search ??
    (entry.search
      ? "the file has no alternatives (a strategy that was given whole leaves none)"
      : "there is no file of the search"),
  draw: (entry) => {
    const rows = (entry.search?.alternatives ?? []).map((one, i): Row => ({ ...one, rank: i + 1 }));
    if (!entry.search || rows.length === 0) return null;
    const points = rows.flatMap((one): Point[] => {
      if (one.step_seconds === null || one.memory_fraction === null) return [];
      const about: Rows = [
        ["strategy", one.strategy],
        ["step", format.seconds(one.step_seconds)],
        ["simulated", format.seconds(one.simulated_step_seconds)],
        ["memory", `${format.percent(one.memory_fraction)}, ${format.bytes(one.peak_memory_bytes)}`],
        ["between sites", format.bits(one.wan_bytes_per_second)],
      ];
      const title = one.rank === 1 ? "this plan" : `number ${one.rank}`;
      return [
        {
          x: one.step_seconds,
          y: one.memory_fraction,
          size: one.wan_bytes_per_second ?? 0,
          chosen: one.rank === 1,
          title,
          rows: about,
        },
      ];
    });
    const columns: Column<Row>[] = [
      { title: "Rank", value: (row) => row.rank },
      { title: "Step", value: (row) => row.step_seconds, show: (row) => format.seconds(row.step_seconds) },
      {
        title: "Simulated",
        value: (row) => row.simulated_step_seconds,
        show: (row) => format.seconds(row.simulated_step_seconds),
      },
      {
        title: "Memory",
        value: (row) => row.memory_fraction,
        show: (row) => format.percent(row.memory_fraction),
        part: (row) => row.memory_fraction,
      },
      {
        title: "Between sites",
        value: (row) => row.wan_bytes_per_second,
        show: (row) => format.bits(row.wan_bytes_per_second),
      },
      { title: "Strategy", value: (row) => row.strategy, wide: true },
    ];
    const { candidates, lower_bound, optimal } = entry.search;
    const proof = optimal
      ? "No better one exists within what the search may choose."
      : lower_bound
        ? `None can be faster than ${format.seconds(lower_bound)}.`
        : "";
    return h(
      "div",
      {},
      h("p", { class: "note" }, `${format.plural(candidates, "layout")} looked at. ${proof}`),
      points.length > 0 &&
        scatter(`alternatives of ${entry.name}`, points, {
          x: "time of a step",
          y: "of the fullest chip's memory",
          ticksX: format.secondsTicks,
          ticksY: format.percentTicks,
        }),
      sortableTable(`Alternatives of ${entry.name}`, columns, rows),
    );
  },
};
