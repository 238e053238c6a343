import type { Direction } from "../data";
import { lineChart, linesLegend, type Mark, type Series } from "../charts/lines";
import { seriesLegend } from "../charts/palette";
import { Range } from "../charts/range";
import { h } from "../dom";
import * as format from "../format";
import type { View } from "./section";

/** A round unit for so many bytes per second. */
function unitOf(rate: number): { name: string; size: number } {
  const bits = rate * 8;
  return bits >= 1e9
    ? { name: "Gbit/s", size: 1e9 }
    : bits >= 1e6
      ? { name: "Mbit/s", size: 1e6 }
      : { name: "kbit/s", size: 1e3 };
}

function seriesOf(direction: Direction, index: number, unit: number): Series {
  const base = direction.pipeline_bytes_per_second;
  return {
    name: `${direction.from} to ${direction.to}`,
    index,
    points: direction.exchange.map(([at, load]) => [at, ((load + base) * 8) / unit]),
  };
}

export const roundView: View = {
  id: "round",
  title: "Lines over one round",
  short: "Lines",
  about:
    "What each line carries in one round, from the middle of one to the middle of the next: the exchange with the server as simulated, " +
    "with what pipelines over the line carry on average below it. The red line is what it can carry; ticks are new versions.",
  missing: (entry) => entry.missing.round ?? "there is none",
  draw: (entry) => {
    const round = entry.round;
    if (!round) return null;
    const range = new Range(round.seconds);
    const marks: Mark[] = round.marks.map((mark) => ({ x: mark.seconds, kind: "version", title: mark.text, rows: [] }));
    const charts: HTMLElement[] = [];
    for (let i = 0; i + 1 < round.directions.length; i += 2) {
      const pair = [round.directions[i]!, round.directions[i + 1]!];
      const unit = unitOf(pair[0]!.bytes_per_second);
      const series = pair.map((one, k) => seriesOf(one, k, unit.size));
      charts.push(
        h(
          "div",
          {},
          lineChart({
            title: `${pair[0]!.from} – ${pair[0]!.to}, ${unit.name}`,
            curves: () => ({ series, marks }),
            range,
            steps: true,
            fromZero: true,
            filled: true,
            limit: { value: (pair[0]!.bytes_per_second * 8) / unit.size, title: "the line carries" },
            formatX: format.seconds,
            ticksX: format.secondsTicks,
            ticksY: format.plainTicks,
            formatY: format.figure,
          }),
          linesLegend(seriesLegend(series.map((one) => one.name))),
        ),
      );
    }
    return h(
      "div",
      { class: "charts" },
      h(
        "p",
        { class: "note" },
        `A round is ${format.plural(round.inner_steps, "inner step")}, ${format.seconds(round.seconds)}.`,
      ),
      ...charts,
    );
  },
};
