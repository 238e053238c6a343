// Where the tracks of a timeline lie from top to bottom.
import type { Model, Track } from "./model";

export const computeHeight = 20,
  laneHeight = 5,
  gapHeight = 6,
  headHeight = 20;

export interface Row {
  top: number;
  height: number;
  label: string;
  /** A heading of an island, or a track. */
  island?: number;
  track?: Track;
  /** Lanes below the calls, from the top of the row. */
  lanes: { top: number; kinds: string[]; title: string }[];
}

/** Where a stage has several classes of ranks, the rank as well. */
function labelOf(track: Track, tracks: Track[]): string {
  const alone = tracks.every((one) => one === track || one.island !== track.island || one.stage !== track.stage);
  return alone ? `stage ${track.stage}` : `stage ${track.stage}, rank ${track.rank}`;
}

const laneGroups = [
  { kinds: ["collective"], title: "collectives" },
  {
    kinds: ["send_forward", "receive_forward", "send_backward", "receive_backward"],
    title: "transfers",
  },
  { kinds: ["exchange"], title: "exchange" },
];

export function layoutRows(model: Model): { rows: Row[]; height: number } {
  const rows: Row[] = [];
  let top = 2;
  let island = -1;
  const several = new Set(model.tracks.map((track) => track.island)).size > 1;
  for (const track of model.tracks) {
    if (several && track.island !== island)
      rows.push({ top, height: headHeight, island: track.island, label: `island ${track.island}`, lanes: [] });
    if (several && track.island !== island) top += headHeight;
    island = track.island;
    const lanes = laneGroups
      .filter((group) => track.lanes.some(([lane]) => group.kinds.includes(lane)))
      .map((group, i) => ({
        ...group,
        top: computeHeight + 1 + i * (laneHeight + 1),
      }));
    const height = computeHeight + lanes.length * (laneHeight + 1) + gapHeight;
    rows.push({ top, height, label: labelOf(track, model.tracks), track, lanes });
    top += height;
  }
  return { rows, height: top };
}
