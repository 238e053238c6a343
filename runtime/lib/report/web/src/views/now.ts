// How a run that goes on is doing.
import { h } from "../dom";
import * as format from "../format";
import type { Connection, IslandStatus, LiveRun, Status } from "../live";

interface Column {
  title: string;
  about: string;
  show: (island: IslandStatus, status: Status) => string;
  text?: boolean;
}

const columns: Column[] = [
  { title: "Sites", about: "of the island", text: true, show: (island) => island.sites.join(" and ") },
  { title: "State", about: "what the island does", text: true, show: (island) => island.state },
  {
    title: "Step",
    about: "inner steps done, of all",
    show: (island, status) => `${format.count(island.step)} of ${format.count(status.steps)}`,
  },
  { title: "Loss", about: "of the last step", show: (island) => format.fixed(island.loss, 4) },
  {
    title: "Tokens/s",
    about: "of the last steps",
    show: (island) => (island.step > 0 ? format.count(Math.round(island.tokens_per_second)) : "–"),
  },
  {
    title: "Line",
    about: "what goes to the server and comes from it",
    show: (island) => (island.line_bytes_per_second > 0 ? format.bits(island.line_bytes_per_second) : "–"),
  },
  {
    title: "Last in a version",
    about: "since a version was made that the island has a part in",
    show: (island) => (island.last_sync_seconds === null ? "–" : `${format.seconds(island.last_sync_seconds)} ago`),
  },
  {
    title: "Behind",
    about: "versions since then that it has no part in",
    show: (island) => format.count(island.behind_rounds),
  },
  { title: "Restarts", about: "how often it was started again", show: (island) => format.count(island.incarnation) },
];

function ending(status: Status | null): string {
  const mine = status?.islands.filter((island) => island.here) ?? [];
  if (mine.length > 0 && mine.every((island) => island.state === "done"))
    return "The run is over: all its steps are done.";
  return "The run has ended before all its steps were done.";
}

const say: Record<Connection, (status: Status | null) => string> = {
  connecting: () => "Asking the run …",
  live: () => "Live: this page follows the run.",
  lost: () => "The run does not answer. Trying again …",
  refused: () => "The run turns this page away. Was it started again, with another token, or do too many look at it?",
  over: ending,
};

export function nowSection(live: LiveRun, name: string): HTMLElement {
  const state = h("p", { class: "connection", role: "status" });
  const body = h("tbody");
  const server = h("p", { class: "note" });
  let cells: HTMLElement[][] = [];

  /** Only texts change, so that what is read or selected stays. */
  const set = (element: HTMLElement, text: string): void => {
    if (element.textContent !== text) element.textContent = text;
  };
  const show = (): void => {
    const { status, connection } = live;
    set(state, say[connection](status));
    state.dataset["connection"] = connection;
    if (!status) return;
    const islands = status.islands.filter((island) => island.here);
    if (cells.length !== islands.length) {
      cells = islands.map(() => columns.map((column) => h("td", { class: column.text ? "text" : "figure" })));
      body.replaceChildren(
        ...islands.map((island, i) => h("tr", {}, h("th", { scope: "row" }, String(island.island)), ...cells[i]!)),
      );
    }
    islands.forEach((island, i) => columns.forEach((column, c) => set(cells[i]![c]!, column.show(island, status))));
    set(
      server,
      status.server
        ? `Server at ${status.server.primary}${status.server.backup ? `, backup at ${status.server.backup}` : ""}; ` +
            `${format.plural(status.outer_steps, "version")} made in this run.`
        : "One island trains alone, without a server.",
    );
  };
  live.onChange(show);
  show();
  return h(
    "section",
    { id: "now", "aria-labelledby": "now-title" },
    h("h2", { id: "now-title" }, "Now"),
    state,
    h(
      "div",
      { class: "table", tabindex: 0, role: "region", "aria-label": `islands of ${name} now` },
      h(
        "table",
        { class: "now" },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", { scope: "col" }, "Island"),
            ...columns.map((column) =>
              h("th", { scope: "col", class: column.text ? "text" : "figure", title: column.about }, column.title),
            ),
          ),
        ),
        body,
      ),
    ),
    server,
  );
}
