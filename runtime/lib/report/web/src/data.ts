// What makeEntry (runtime/lib/report) puts into the page; its readers
// have checked the types of everything that came from a file.

import type { LiveRun } from "./live";

export interface Wire {
  bytes_per_second: number | null;
  latency_seconds: number | null;
}
export interface Pool {
  name: string;
  chip: string;
  chip_memory_bytes: number;
  nodes: number;
  chips_per_node: number;
  cards_per_node: number;
  cores_per_node?: number;
  intra_node?: Wire;
  inter_node?: Wire;
}
export interface Site {
  name: string;
  pools: Pool[];
}
export interface Line {
  first: number;
  second: number;
  bytes_per_second: number;
  rtt_seconds: number;
  loss: number;
}
export interface Group {
  site: string;
  pool: string;
  replicas: number;
  tensor_parallel: number;
  share: number;
  arena_bytes: number;
  host_bytes: number;
  memory: { name: string; bytes: number }[];
  chip_memory_bytes?: number;
}
export interface Island {
  sites: string[];
  batch: number;
  microbatch: number;
  inner_steps: number;
  stages: { groups: Group[] }[];
}
export interface Server {
  inner_steps: number;
  overlap_steps: number;
  fragments: number;
  compression: string;
  quorum: number;
  deadline_seconds: number;
  placements: { primary: string; backup: string }[];
}
export interface Figures {
  step_seconds: number | null;
  tokens_per_second: number | null;
  equivalent_compute: number | null;
  equivalent_compute_of_used_chips: number | null;
  wan_bytes_per_round: number | null;
  bubble_fraction: number | null;
}
export interface Plan {
  model_hash: string;
  topology_hash: string;
  tokens_per_sample: number;
  parameters: number;
  optimizer: string;
  learning_rate: number;
  global_batch: number;
  precision: string;
  prediction: Figures | null;
  islands: Island[];
  server: Server | null;
  topology: { sites: Site[]; lines: Line[] } | null;
}

/** Kinds of call, by number. */
export const kinds = ["forward", "recompute", "backward_input", "backward_weight", "update"] as const;
export type Lane =
  "send_forward" | "receive_forward" | "send_backward" | "receive_backward" | "collective" | "exchange";
export interface TimelineClass {
  island: number;
  stage: number;
  rank: number;
  ranks: number;
  pool: string;
  /** [gap, ticks, kind, microbatch, name]... */
  calls: number[];
  /** [gap, ticks, name]... */
  lanes: Partial<Record<Lane, number[]>>;
}
export interface Timeline {
  seconds: number;
  tick_seconds: number;
  names: string[];
  classes: TimelineClass[];
  classes_left_out: number;
  /** Read from a file, which has no microbatches and does not tell what runs again. */
  from_trace: boolean;
}

export interface Direction {
  from: string;
  to: string;
  bytes_per_second: number;
  pipeline_bytes_per_second: number;
  /** [seconds, bytes per second] from then on */
  exchange: [number, number][];
}
export interface Round {
  seconds: number;
  inner_steps: number;
  directions: Direction[];
  marks: { seconds: number; text: string }[];
}

export const exposures = ["tensor_parallel", "pipeline", "data_parallel", "island", "exchange", "waiting"] as const;
export type Exposure = (typeof exposures)[number];
export interface SimClass {
  stage: number;
  rank: number;
  ranks: number;
  pool: string;
  compute_seconds: number;
  exposed_seconds: Record<Exposure, number>;
}
export interface Simulation {
  predicted: Figures & {
    exchange_seconds: number | null;
    goodput: number | null;
  };
  simulated: {
    seconds: number;
    steps: number;
    islands: {
      step_seconds: number;
      steps: number;
      steps_lost: number;
      rounds: number;
      down_seconds: number;
      classes: SimClass[];
    }[];
    pools: { pool: string; chips: number; used: number; utilisation: number }[];
    lines: { from: string; to: string; bytes: number; utilisation: number }[];
    log: string[];
  };
}

export interface Alternative {
  strategy: string;
  step_seconds: number | null;
  simulated_step_seconds: number | null;
  memory_fraction: number | null;
  peak_memory_bytes: number | null;
  wan_bytes_per_round: number | null;
  wan_bytes_per_second: number | null;
}
export interface Search {
  candidates: number;
  lower_bound: number | null;
  optimal: boolean;
  alternatives: Alternative[];
  islands: {
    schedule: string;
    chunks: number;
    stages: {
      blocks: number;
      recompute?: string | number;
      optimizer_sharding?: boolean;
    }[];
  }[];
}

export interface RunIsland {
  steps_per_point: number;
  step: number[];
  clock: number[];
  loss: (number | null)[];
  seconds: number[];
  tokens: number[];
}
export interface RunEvent {
  event: string;
  clock: number;
  island?: number;
  step?: number;
  fragment?: number;
  round?: number;
  version?: number;
  site?: string;
  message?: string;
  /** Of day, UTC. */
  time?: string;
  part?: string;
  loss?: number;
  islands?: number[];
}
export interface Run {
  islands: RunIsland[];
  events: RunEvent[];
  events_left_out: number;
}

export interface Entry {
  name: string;
  plan: Plan;
  timeline: Timeline | null;
  round: Round | null;
  simulation: Simulation | null;
  search: Search | null;
  run: Run | null;
  /** Where the run goes on. */
  live?: LiveRun;
  missing: Partial<Record<"timeline" | "round" | "simulation" | "search" | "run", string>>;
}
export interface Report {
  format: number;
  title: string;
  /** Served by tombolo-run: of one plan. */
  live?: boolean;
  plans: Entry[];
}

export function readReport(): Report {
  const element = document.getElementById("data");
  return JSON.parse(element?.textContent ?? "") as Report;
}
