// A run that goes on: what tombolo-run tells of it as server-sent events. The messages
// are those of runtime/tools/tombolo-run/Dashboard.h.
import type { Run, RunEvent } from "./data";

export interface IslandStatus {
  island: number;
  sites: string[];
  here: boolean;
  state: string;
  step: number;
  loss: number | null;
  tokens_per_second: number;
  line_bytes_per_second: number;
  last_sync_seconds: number | null;
  behind_rounds: number;
  incarnation: number;
}
export interface Status {
  steps: number;
  outer_steps: number;
  islands: IslandStatus[];
  versions: { fragment: number; version: number }[];
  server?: { primary: string; backup: string; epoch: number };
}

interface Point {
  island: number;
  /** Its place; what was there and behind it is no longer so. */
  at: number;
  step: number;
  clock: number;
  loss: number | null;
  seconds: number;
  tokens: number;
}

export type Connection = "connecting" | "live" | "lost" | "refused" | "over";

/** Charts are drawn so often, however many steps a second there are. */
const drawEvery = 250;
/** The status comes twice a second, so who is silent for so long is not there. */
const silence = 10_000;
const mostEvents = 5_000;

export class LiveRun {
  readonly run: Run;
  status: Status | null = null;
  connection: Connection = "connecting";
  private readonly listeners: (() => void)[] = [];
  private source: EventSource | null = null;
  private heard = Date.now();
  private waits = false;

  constructor(islands: number) {
    this.run = {
      islands: Array.from({ length: islands }, () => ({
        steps_per_point: 1,
        step: [],
        clock: [],
        loss: [],
        seconds: [],
        tokens: [],
      })),
      events: [],
      events_left_out: 0,
    };
  }

  onChange(listener: () => void): void {
    this.listeners.push(listener);
  }

  start(): void {
    this.open();
    setInterval(() => {
      if (this.connection !== "live" || Date.now() - this.heard < silence) return;
      this.source?.close();
      this.become("lost");
      this.open();
    }, silence / 4);
  }

  private open(): void {
    this.heard = Date.now();
    // With the token that the page was asked for with.
    const source = new EventSource(`events${location.search}`);
    this.source = source;
    const on = <T>(kind: string, take: (data: T) => void): void =>
      source.addEventListener(kind, (message) => {
        this.heard = Date.now();
        take(JSON.parse((message as MessageEvent<string>).data) as T);
        this.changed();
      });
    on<Run>("run", (run) => {
      Object.assign(this.run, run);
      this.become("live");
    });
    on<Point>("point", ({ island, at, ...point }) => {
      const columns = this.run.islands[island];
      if (!columns) return;
      for (const name of ["step", "clock", "loss", "seconds", "tokens"] as const) {
        columns[name].length = at;
        columns[name].push(point[name]!);
      }
    });
    on<RunEvent>("note", (event) => {
      this.run.events.push(event);
      if (this.run.events.length <= mostEvents) return;
      this.run.events.shift();
      ++this.run.events_left_out;
    });
    on<Status>("status", (status) => (this.status = status));
    on("end", () => {
      source.close();
      this.become("over");
    });
    source.addEventListener("error", () =>
      // It tries again by itself, unless it was turned away.
      this.become(source.readyState === EventSource.CLOSED ? "refused" : "lost"),
    );
  }

  private become(connection: Connection): void {
    if (this.connection === "over") return;
    this.connection = connection;
    this.changed();
  }

  private changed(): void {
    if (this.waits) return;
    this.waits = true;
    setTimeout(() => {
      this.waits = false;
      this.listeners.forEach((listener) => listener());
    }, drawEvery);
  }
}
