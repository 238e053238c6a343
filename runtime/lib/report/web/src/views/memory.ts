import { foldRows, stackedBars, type StackedRow } from "../charts/stacked";
import * as format from "../format";
import { legend, type View } from "./section";

/** Kinds, from the regions of an arena. */
const kinds: [name: string, title: string, regions: RegExp][] = [
  ["mem-parameters", "parameters", /^(parameters|frozen)$/],
  ["mem-gradients", "gradients", /^gradients$/],
  ["mem-optimizer", "optimizer state", /^(exp_avg|exp_avg_sq|momentum.*)$/],
  ["mem-saved", "kept for backward", /^saved/],
  ["mem-boundary", "inputs and boundaries", /^(boundary|inputs|crossing)/],
  ["mem-workspace", "workspace", /^workspace/],
  ["mem-other", "other", /./],
];

export const memoryView: View = {
  id: "memory",
  title: "Memory",
  short: "Memory",
  about:
    "Planned peak of one chip of each stage, by what it is for. The red line is what the chip has, where that is not far off.",
  missing: () => "the plan has no island",
  legend: () => legend(kinds.map(([name, title]) => [name, title])),
  draw: (entry) => {
    const rows: StackedRow[] = [];
    const labels: string[][] = [];
    const several = entry.plan.islands.length > 1;
    entry.plan.islands.forEach((island, i) =>
      island.stages.forEach((stage, s) =>
        stage.groups.forEach((group) => {
          const sums = kinds.map(() => 0);
          for (const { name, bytes } of group.memory)
            sums[kinds.findIndex(([, , regions]) => regions.test(name))]! += bytes;
          const prefix = several ? `island ${i}, ` : "";
          const suffix = stage.groups.length > 1 ? ` (${group.pool})` : "";
          labels.push([prefix, String(s), suffix]);
          rows.push({
            label: `${prefix}stage ${s}${suffix}`,
            total: group.chip_memory_bytes
              ? `${format.bytes(group.arena_bytes)} of ${format.bytes(group.chip_memory_bytes)}`
              : format.bytes(group.arena_bytes),
            parts: kinds.map(([name, title], k) => ({ name, title, value: sums[k]! })),
            ...(group.chip_memory_bytes ? { limit: group.chip_memory_bytes, limitTitle: "memory of the chip" } : {}),
          });
        }),
      ),
    );
    if (rows.length === 0) return null;
    const folded = foldRows(rows, (first, last) => {
      const [prefix, from] = labels[first]!,
        [other, to] = labels[last]!;
      return prefix === other ? `${prefix}stages ${from}–${to}` : `${rows[first]!.label} – ${rows[last]!.label}`;
    });
    return stackedBars(`memory by stage of ${entry.name}`, folded, format.bytes, { bytes: true });
  },
};
