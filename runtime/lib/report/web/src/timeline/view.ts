// One plan's timeline: pointer, wheel, keys, and the line that tells what is
// selected.
import { h, hideTip, newId, showTip, type Rows } from "../dom";
import * as format from "../format";
import { onTheme } from "../theme";
import { axisHeight, draw, firstRun, labelWidthOf, type Scene } from "./draw";
import { firstEndingAfter, type Model, type Track } from "./model";
import { overview } from "./overview";
import { computeHeight, layoutRows, type Row } from "./rows";
import type { Range } from "../charts/range";
import { kinds } from "../data";

const mostHeight = 560;

const kindTitles: Record<string, string> = {
  forward: "forward",
  recompute: "forward again (recompute)",
  backward_input: "backward by input",
  backward_weight: "backward by weight",
  update: "update and zeroing",
};

function ranksOf(track: Track): string {
  return track.ranks === 1 ? `rank ${track.rank}` : `rank ${track.rank} and ${format.count(track.ranks - 1)} like it`;
}

function tellRun(track: Track, index: number): { title: string; rows: Rows } {
  const run = track.runs[index]!;
  const isForward = run.parts[0]! > 0,
    isUpdate = run.parts[4]! > 0;
  const what = isForward ? "forward" : isUpdate ? "update" : "backward";
  const rows: Rows = [
    ["where", `island ${track.island}, stage ${track.stage}, ${ranksOf(track)} (${track.pool})`],
    ["from, for", `${format.seconds(run.begin)}, ${format.seconds(run.end - run.begin)}`],
  ];
  kinds.forEach((kind, k) => {
    if (run.parts[k]! > 0) rows.push([kindTitles[kind]!, format.seconds(run.parts[k]!)]);
  });
  const computed = run.parts.reduce((sum, part) => sum + part, 0);
  if (run.end - run.begin > computed * 1.001)
    rows.push(["pauses inside", format.seconds(run.end - run.begin - computed)]);
  rows.push(["calls", format.count(run.last - run.first + 1)]);
  return {
    title: run.microbatch >= 0 ? `${what}, microbatch ${run.microbatch}` : what,
    rows,
  };
}

function tellWaiting(model: Model, track: Track, time: number): { title: string; rows: Rows } {
  const next = firstRun(track.runs, time);
  const begin = track.runs[next - 1]?.end ?? 0,
    end = track.runs[next]?.begin ?? model.seconds;
  const moving = track.lanes.flatMap(([lane, bars]) => {
    const i = firstEndingAfter(bars.end, time);
    return i < bars.end.length && bars.begin[i]! <= time
      ? [`${format.words(lane)}: ${model.names[bars.name[i]!] ?? ""}`]
      : [];
  });
  return {
    title: moving.length ? "communication" : "waiting",
    rows: [
      ["where", `island ${track.island}, stage ${track.stage}, ${ranksOf(track)}`],
      ["from, for", `${format.seconds(begin)}, ${format.seconds(end - begin)}`],
      ...moving.map((text): [string, string] => ["under way", text]),
    ],
  };
}

export function timelineView(model: Model, window: Range, title: string): HTMLElement {
  const { rows, height } = layoutRows(model);
  const canvas = h("canvas", { class: "bars", "aria-hidden": "true" });
  const seen = Math.min(height + axisHeight, mostHeight);
  const spacer = h("div", { style: `height:${height + axisHeight}px` }, canvas);
  const helpId = newId("keys"),
    statusId = newId("status");
  const scroller = h(
    "div",
    {
      class: "scroller",
      style: `height:${seen}px`,
      tabindex: 0,
      role: "application",
      "aria-label": `timeline of ${title}`,
      "aria-describedby": `${helpId} ${statusId}`,
    },
    spacer,
  );
  const status = h("p", { class: "status", id: statusId, role: "status" }, "nothing selected");
  const scene: Scene = {
    model,
    rows,
    window,
    width: 0,
    height: seen,
    scrollTop: 0,
    selected: null,
    focused: false,
  };
  const tracks = rows.filter((row): row is Row & { track: Track } => row.track !== undefined);

  let pending = false;
  const redraw = (): void => {
    if (pending) return;
    pending = true;
    requestAnimationFrame(drawNow);
  };
  const drawNow = (): void => {
    pending = false;
    scene.width = scroller.clientWidth;
    scene.height = scroller.clientHeight;
    scene.scrollTop = scroller.scrollTop;
    if (scene.width > 0) draw(canvas, scene);
  };
  const timeAt = (clientX: number): number => {
    const labelWidth = labelWidthOf(scroller.clientWidth);
    const left = scroller.getBoundingClientRect().left + labelWidth;
    return (
      window.begin + ((clientX - left) / Math.max(1, scroller.clientWidth - labelWidth)) * (window.end - window.begin)
    );
  };
  const rowAt = (clientY: number): Row | undefined => {
    const y = clientY - scroller.getBoundingClientRect().top + scroller.scrollTop - axisHeight;
    return rows.find((row) => y >= row.top && y < row.top + row.height);
  };
  const select = (track: Track, run: number): void => {
    scene.selected = { track, run };
    const { title: what, rows: about } = tellRun(track, run);
    status.textContent = `${what}: ${about.map(([name, value]) => `${name} ${value}`).join("; ")}`;
    redraw();
  };

  // Pointer.
  let dragged: { x: number; begin: number; end: number; moved: boolean } | null = null;
  canvas.addEventListener("pointerdown", (event) => {
    dragged = {
      x: event.clientX,
      begin: window.begin,
      end: window.end,
      moved: false,
    };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (dragged) {
      const by =
        ((event.clientX - dragged.x) / Math.max(1, scroller.clientWidth - labelWidthOf(scroller.clientWidth))) *
        (dragged.end - dragged.begin);
      if (Math.abs(event.clientX - dragged.x) > 3) dragged.moved = true;
      if (dragged.moved) window.show(dragged.begin - by, dragged.end - by);
      hideTip();
      return;
    }
    const row = rowAt(event.clientY),
      time = timeAt(event.clientX);
    if (!row?.track || time < window.begin || time > model.seconds) return hideTip();
    const run = firstRun(row.track.runs, time);
    const y = event.clientY - scroller.getBoundingClientRect().top + scroller.scrollTop - axisHeight - row.top;
    const isOn = (row.track.runs[run]?.begin ?? Infinity) <= time && y <= computeHeight;
    const about = isOn ? tellRun(row.track, run) : tellWaiting(model, row.track, time);
    showTip(about.title, about.rows, event.clientX, event.clientY);
  });
  canvas.addEventListener("pointerup", (event) => {
    const row = rowAt(event.clientY),
      time = timeAt(event.clientX);
    if (dragged && !dragged.moved && row?.track) {
      const run = firstRun(row.track.runs, time);
      if ((row.track.runs[run]?.begin ?? Infinity) <= time) select(row.track, run);
    }
    dragged = null;
  });
  canvas.addEventListener("pointerleave", hideTip);
  canvas.addEventListener("dblclick", (event) => window.zoom(0.25, timeAt(event.clientX)));
  scroller.addEventListener(
    "wheel",
    (event) => {
      if (event.ctrlKey || event.metaKey) {
        event.preventDefault();
        window.zoom(Math.exp(Math.max(-1, Math.min(1, event.deltaY / 200))), timeAt(event.clientX));
      } else if (Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey) {
        event.preventDefault();
        window.pan((event.deltaX || event.deltaY) / 600);
      }
    },
    { passive: false },
  );
  scroller.addEventListener("scroll", redraw);

  // Keys.
  const move = (rowBy: number, runBy: number): void => {
    if (tracks.length === 0) return;
    const at = scene.selected;
    let row = at ? tracks.findIndex((one) => one.track === at.track) : 0;
    let run = at?.run ?? -1;
    if (!at) run = firstRun(tracks[0]!.track.runs, window.begin);
    else if (runBy) run += runBy;
    else {
      const begin = at.track.runs[at.run]?.begin ?? 0;
      row = Math.max(0, Math.min(tracks.length - 1, row + rowBy));
      run = firstRun(tracks[row]!.track.runs, begin);
    }
    const to = tracks[row]!;
    run = Math.max(0, Math.min(to.track.runs.length - 1, run));
    const bar = to.track.runs[run];
    if (!bar) return;
    select(to.track, run);
    window.reveal(bar.begin, bar.end);
    if (to.top < scroller.scrollTop) scroller.scrollTop = to.top;
    else if (to.top + to.height + axisHeight > scroller.scrollTop + scroller.clientHeight)
      scroller.scrollTop = to.top + to.height + axisHeight - scroller.clientHeight;
  };
  const middle = (): number | undefined => {
    const run = scene.selected && scene.selected.track.runs[scene.selected.run];
    return run && run.begin < window.end && run.end > window.begin ? (run.begin + run.end) / 2 : undefined;
  };
  const keys: Record<string, () => void> = {
    ArrowLeft: () => move(0, -1),
    ArrowRight: () => move(0, 1),
    ArrowUp: () => move(-1, 0),
    ArrowDown: () => move(1, 0),
    "+": () => window.zoom(0.5, middle()),
    "=": () => window.zoom(0.5, middle()),
    "-": () => window.zoom(2, middle()),
    "0": () => window.fit(),
    PageUp: () => window.pan(-0.5),
    PageDown: () => window.pan(0.5),
  };
  scroller.addEventListener("keydown", (event) => {
    const action = event.ctrlKey || event.metaKey || event.altKey ? undefined : keys[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
  scroller.addEventListener("focus", () => {
    scene.focused = true;
    redraw();
  });
  scroller.addEventListener("blur", () => {
    scene.focused = false;
    redraw();
  });

  // On paper there is nothing to scroll.
  addEventListener("beforeprint", () => {
    scroller.style.height = `${Math.min(height + axisHeight, 1300)}px`;
    drawNow();
  });
  addEventListener("afterprint", () => {
    scroller.style.height = `${seen}px`;
    redraw();
  });
  window.onChange(redraw);
  onTheme(drawNow);
  new ResizeObserver(redraw).observe(scroller);

  return h(
    "div",
    { class: "timeline" },
    overview(model, window),
    scroller,
    status,
    h(
      "p",
      { class: "help", id: helpId },
      "Drag to move, ctrl and wheel or double click to zoom, draw a window on the strip of all ranks. " +
        "Keys: arrows go from bar to bar and from row to row, + and − zoom, 0 shows the whole step, page up and down move.",
    ),
  );
}
