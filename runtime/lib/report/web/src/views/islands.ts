import type { Entry } from "../data";
import * as format from "../format";
import { sortableTable, type Column } from "../table";
import type { View } from "./section";

interface Row {
  island: number;
  stage: number;
  pool: string;
  replicas: number;
  tensorParallel: number;
  share: number;
  blocks: number | null;
  recompute: string | null;
  memory: number;
  capacity: number | null;
  parts: Record<"computing" | "waiting" | "communication", number | null>;
}

/** Parts of the time of a stage's ranks on one pool, from a simulation. */
function partsOf(entry: Entry, island: number, stage: number, pool: string): Row["parts"] {
  const parts = { computing: 0, waiting: 0, communication: 0 };
  for (const one of entry.simulation?.simulated.islands[island]?.classes ?? []) {
    if (one.stage !== stage || one.pool !== pool) continue;
    const { waiting, ...others } = one.exposed_seconds;
    parts.computing += one.ranks * one.compute_seconds;
    parts.waiting += one.ranks * waiting;
    parts.communication += one.ranks * Object.values(others).reduce((sum, part) => sum + part, 0);
  }
  const whole = parts.computing + parts.waiting + parts.communication;
  return whole > 0
    ? {
        computing: parts.computing / whole,
        waiting: parts.waiting / whole,
        communication: parts.communication / whole,
      }
    : { computing: null, waiting: null, communication: null };
}

function rowsOf(entry: Entry): Row[] {
  return entry.plan.islands.flatMap((island, i) =>
    island.stages.flatMap((stage, s) =>
      stage.groups.map((group) => {
        const known = entry.search?.islands[i]?.stages[s];
        const pool = `${group.site}/${group.pool}`;
        return {
          island: i,
          stage: s,
          pool,
          replicas: group.replicas,
          tensorParallel: group.tensor_parallel,
          share: group.share,
          blocks: known?.blocks ?? null,
          recompute: known?.recompute === undefined ? null : String(known.recompute),
          memory: group.arena_bytes,
          capacity: group.chip_memory_bytes ?? null,
          parts: partsOf(entry, i, s, pool),
        };
      }),
    ),
  );
}

export const islandsView: View = {
  id: "islands",
  title: "Islands and stages",
  short: "Stages",
  about:
    "Who holds which part of the model. A click on a heading sorts; memory is of one chip, parts of time are of the simulated ranks.",
  missing: () => "the plan has no island",
  draw: (entry) => {
    const rows = rowsOf(entry);
    if (rows.length === 0) return null;
    const columns: Column<Row>[] = [
      { title: "Island", value: (row) => row.island },
      { title: "Stage", value: (row) => row.stage },
      { title: "Pool", value: (row) => row.pool },
      {
        title: "Replicas",
        value: (row) => row.replicas,
        about: "copies of the stage on this pool",
      },
      {
        title: "TP",
        value: (row) => row.tensorParallel,
        about: "tensor parallelism: chips of one replica",
      },
      { title: "Chips", value: (row) => row.replicas * row.tensorParallel },
      {
        title: "Memory",
        value: (row) => row.memory,
        show: (row) => format.bytes(row.memory),
        part: (row) => (row.capacity ? row.memory / row.capacity : null),
      },
      {
        title: "of chip",
        value: (row) => (row.capacity ? row.memory / row.capacity : null),
        show: (row) => (row.capacity ? format.percent(row.memory / row.capacity) : "–"),
      },
    ];
    if (rows.some((row) => row.blocks !== null))
      columns.splice(
        6,
        0,
        { title: "Blocks", value: (row) => row.blocks },
        {
          title: "Recompute",
          value: (row) => row.recompute,
          about: "blocks whose forward runs again instead of keeping what it saves",
        },
      );
    if (new Set(rows.map((row) => row.share)).size > 1)
      columns.splice(6, 0, {
        title: "Share",
        value: (row) => row.share,
        about: "relative part of the microbatches",
      });
    if (rows.some((row) => row.parts.computing !== null))
      for (const [title, part] of [
        ["Computing", "computing"],
        ["Communication", "communication"],
        ["Waiting", "waiting"],
      ] as const)
        columns.push({
          title,
          value: (row) => row.parts[part],
          show: (row) => format.percent(row.parts[part]),
          part: (row) => row.parts[part],
        });
    return sortableTable(`Islands and stages of ${entry.name}`, columns, rows);
  },
};
