// The bars of one step, unpacked for drawing and asking.
import { kinds, type Lane, type Timeline } from "../data";

export type Kind = (typeof kinds)[number];

/** Bars of one lane that do not overlap, by time. Times are seconds. */
export interface Bars {
  begin: Float64Array;
  end: Float64Array;
  name: Uint32Array;
}
export interface Calls extends Bars {
  kind: Uint8Array;
  microbatch: Int32Array;
}

/** Consecutive calls for one microbatch in one direction. */
export interface Run {
  begin: number;
  end: number;
  first: number;
  last: number;
  microbatch: number;
  /** Seconds by kind. */
  parts: Float64Array;
}

export interface Track {
  island: number;
  stage: number;
  rank: number;
  ranks: number;
  pool: string;
  calls: Calls;
  runs: Run[];
  lanes: [Lane, Bars][];
}

export interface Model {
  seconds: number;
  names: string[];
  tracks: Track[];
  leftOut: number;
}

function unpack(
  packed: number[],
  width: number,
  tick: number,
): Bars & {
  at: (i: number, k: number) => number;
  size: number;
} {
  const size = Math.floor(packed.length / width);
  const bars = {
    begin: new Float64Array(size),
    end: new Float64Array(size),
    name: new Uint32Array(size),
  };
  let time = 0;
  for (let i = 0; i < size; ++i) {
    time += packed[i * width] ?? 0;
    bars.begin[i] = time * tick;
    time += packed[i * width + 1] ?? 0;
    bars.end[i] = time * tick;
    bars.name[i] = packed[i * width + width - 1] ?? 0;
  }
  return { ...bars, size, at: (i, k) => packed[i * width + k] ?? 0 };
}

const backward = (kind: number): number => (kind === 0 ? 0 : kind === 4 ? 2 : 1);

function findRuns(calls: Calls): Run[] {
  const runs: Run[] = [];
  for (let i = 0; i < calls.begin.length; ++i) {
    const begin = calls.begin[i]!,
      end = calls.end[i]!,
      kind = calls.kind[i]!,
      microbatch = calls.microbatch[i]!;
    const before = runs.at(-1);
    // Over the pauses of its collectives, not while it waits for other ranks
    // (the first forward that runs again needs no gradient); what belongs to no
    // microbatch without any pause.
    const pause = before ? begin - before.end : 0;
    const goesOn =
      before &&
      before.microbatch === microbatch &&
      backward(calls.kind[before.last]!) === backward(kind) &&
      pause <= (microbatch >= 0 ? Math.max(before.end - before.begin, end - begin) : (end - begin) * 1e-3);
    const run = goesOn
      ? before
      : {
          begin,
          end,
          first: i,
          last: i,
          microbatch,
          parts: new Float64Array(kinds.length),
        };
    if (!goesOn) runs.push(run);
    run.end = end;
    run.last = i;
    run.parts[kind]! += end - begin;
  }
  return runs;
}

const models = new WeakMap<Timeline, Model>();

/** Unpacked once. */
export function readTimeline(timeline: Timeline): Model {
  let model = models.get(timeline);
  if (!model) models.set(timeline, (model = readModel(timeline)));
  return model;
}

function readModel(timeline: Timeline): Model {
  const tick = timeline.tick_seconds;
  return {
    seconds: timeline.seconds,
    names: timeline.names,
    leftOut: timeline.classes_left_out,
    tracks: timeline.classes.map((one) => {
      const { at, size, ...bars } = unpack(one.calls, 5, tick);
      const calls: Calls = {
        ...bars,
        kind: new Uint8Array(size),
        microbatch: new Int32Array(size),
      };
      for (let i = 0; i < size; ++i) {
        calls.kind[i] = at(i, 2);
        calls.microbatch[i] = at(i, 3);
      }
      return {
        island: one.island,
        stage: one.stage,
        rank: one.rank,
        ranks: one.ranks,
        pool: one.pool,
        calls,
        runs: findRuns(calls),
        lanes: (Object.entries(one.lanes) as [Lane, number[]][]).map(([lane, packed]): [Lane, Bars] => {
          const { begin, end, name } = unpack(packed, 3, tick);
          return [lane, { begin, end, name }];
        }),
      };
    }),
  };
}

/**
 * The first bar that ends behind `time`; bars are by time and do not overlap.
 */
export function firstEndingAfter(ends: ArrayLike<number>, time: number): number {
  let low = 0,
    high = ends.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ends[middle]! > time) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Seconds by kind of call of one track. */
export function secondsByKind(track: Track): Record<Kind, number> {
  const sums = Object.fromEntries(kinds.map((kind) => [kind, 0])) as Record<Kind, number>;
  for (const run of track.runs)
    kinds.forEach((kind, k) => {
      sums[kind] += run.parts[k]!;
    });
  return sums;
}

/** What moves on a lane, as the page's colours name it. */
export function flowKind(lane: Lane, name: string): string {
  if (lane === "exchange") return "exchange";
  if (lane !== "collective") return "pipeline";
  return name.endsWith("tensor_parallel")
    ? "tensor_parallel"
    : name.endsWith("data_parallel")
      ? "data_parallel"
      : name.endsWith("island")
        ? "island"
        : "several";
}
