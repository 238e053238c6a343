import { exposures, kinds, type SimClass } from "../data";
import { stackedBars, type StackedRow } from "../charts/stacked";
import * as format from "../format";
import { readTimeline, secondsByKind, type Kind } from "../timeline/model";
import { legend, type View } from "./section";

const titles: Record<string, string> = {
  forward: "forward",
  recompute: "forward again",
  backward_input: "backward by input",
  backward_weight: "backward by weight",
  update: "update",
  compute: "computing",
  tensor_parallel: "collectives in a replica",
  pipeline: "transfers",
  data_parallel: "collectives over replicas",
  island: "collectives of the island",
  exchange: "exchange with the server",
  waiting: "waiting for ranks",
};

export const timeView: View = {
  id: "time",
  title: "Where the time goes",
  short: "Time",
  about:
    "Of an average step of one rank, by stage: what it computes, and what it waits for while it does not compute " +
    "(communication beside computing is not counted).",
  missing: (entry) => entry.missing.simulation ?? "there is no simulation",
  legend: () => legend([...kinds, ...exposures].map((name) => [name, titles[name]!])),
  draw: (entry) => {
    if (!entry.simulation) return null;
    const ofClass = new Map<string, Record<Kind, number>>();
    if (entry.timeline)
      for (const track of readTimeline(entry.timeline).tracks)
        ofClass.set(`${track.island} ${track.stage} ${track.rank}`, secondsByKind(track));
    const { islands } = entry.simulation.simulated;
    const rows: StackedRow[] = islands.flatMap((island, i) => {
      // The classes of a stage on one pool together.
      const groups = new Map<string, SimClass[]>();
      for (const one of island.classes) {
        const key = `${one.stage} ${one.pool}`;
        groups.set(key, [...(groups.get(key) ?? []), one]);
      }
      const pools = (stage: number): number =>
        new Set(island.classes.filter((one) => one.stage === stage).map((one) => one.pool)).size;
      return [...groups.values()].map((classes): StackedRow => {
        const { stage, pool } = classes[0]!;
        const ranks = classes.reduce((sum, one) => sum + one.ranks, 0);
        const perStep = 1 / Math.max(1, ranks * island.steps);
        const parts: Record<string, number> = {};
        const add = (name: string, seconds: number): void => {
          parts[name] = (parts[name] ?? 0) + seconds * perStep;
        };
        for (const one of classes) {
          const known = ofClass.get(`${i} ${one.stage} ${one.rank}`);
          const whole = known && Object.values(known).reduce((sum, part) => sum + part, 0);
          if (known && whole)
            for (const kind of kinds) add(kind, (one.ranks * one.compute_seconds * known[kind]) / whole);
          else add("compute", one.ranks * one.compute_seconds);
          for (const kind of exposures) add(kind, one.ranks * one.exposed_seconds[kind]);
        }
        const total = Object.values(parts).reduce((sum, part) => sum + part, 0);
        const computed = [...kinds, "compute"].reduce((sum, kind) => sum + (parts[kind] ?? 0), 0);
        return {
          label: `${islands.length > 1 ? `island ${i}, ` : ""}stage ${stage}${pools(stage) > 1 ? ` (${pool.split("/").at(-1)})` : ""}`,
          total: `${format.percent(total > 0 ? computed / total : 0)} computing`,
          parts: ["compute", ...kinds, ...exposures].map((name) => ({
            name,
            title: titles[name]!,
            value: parts[name] ?? 0,
          })),
        };
      });
    });
    return rows.length ? stackedBars(`time by stage of ${entry.name}`, rows, format.seconds) : null;
  },
};
