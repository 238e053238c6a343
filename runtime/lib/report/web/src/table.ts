// Tables that sort by any column.
import { h } from "./dom";

export interface Column<Row> {
  title: string;
  /** What it is sorted by, and shown without `show`. */
  value: (row: Row) => number | string | null;
  show?: (row: Row) => string;
  /** A part of 1 that is shown as a bar behind the figure. */
  part?: (row: Row) => number | null;
  about?: string;
  /** Even where there are no rows to see it by. */
  text?: boolean;
  /** Long text, on several lines. */
  wide?: boolean;
}

type Direction = "ascending" | "descending";

export interface Table<Row> {
  element: HTMLElement;
  /** Other rows, in the order that was chosen. */
  show: (rows: Row[]) => void;
}

export function sortableTable<Row>(caption: string, columns: Column<Row>[], rows: Row[]): HTMLElement {
  return growingTable(caption, columns, rows).element;
}

export function growingTable<Row>(caption: string, columns: Column<Row>[], rows: Row[]): Table<Row> {
  const isText = columns.map(
    (column) => column.text || column.wide || rows.some((row) => typeof column.value(row) === "string"),
  );
  const body = h("tbody");
  const heads = columns.map((column, c) => {
    const button = h(
      "button",
      { type: "button", title: column.about, click: () => chooseOrder(c) },
      column.title,
      h("span", { class: "arrow", "aria-hidden": "true" }),
    );
    return h("th", { scope: "col", class: isText[c] ? "text" : "figure" }, button);
  });
  const lineOf = (row: Row): HTMLElement =>
    h(
      "tr",
      {},
      ...columns.map((column, c) => {
        const value = column.value(row);
        const shown = column.show ? column.show(row) : value === null ? "–" : String(value);
        const part = column.part?.(row) ?? null;
        const cell = h(
          "td",
          { class: column.wide ? "text wide" : isText[c] ? "text" : "figure" },
          h("span", { class: "cell", title: shown.length > 40 && shown }, shown),
        );
        if (part !== null) {
          cell.classList.add("part");
          cell.style.setProperty("--part", `${Math.max(0, Math.min(1, part)) * 100}%`);
        }
        return cell;
      }),
    );
  let shown = rows;
  let lines = rows.map(lineOf);
  let sorted: { by: number; sign: number } | null = null;
  const compare = (a: number | string | null, b: number | string | null): number =>
    a === null
      ? b === null
        ? 0
        : 1
      : b === null
        ? -1
        : typeof a === "number" && typeof b === "number"
          ? a - b
          : String(a).localeCompare(String(b), "en", { numeric: true });

  function arrange(): void {
    const order = shown.map((_, i) => i);
    if (sorted) {
      const { by, sign } = sorted;
      const value = columns[by]!.value;
      order.sort((i, j) => sign * compare(value(shown[i]!), value(shown[j]!)) || i - j);
    }
    body.replaceChildren(...order.map((i) => lines[i]!));
  }
  function chooseOrder(by: number): void {
    const head = heads[by]!;
    const direction: Direction = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", direction);
    sorted = { by, sign: direction === "ascending" ? 1 : -1 };
    arrange();
  }
  arrange();
  const element = h(
    "div",
    { class: "table", tabindex: 0, role: "region", "aria-label": caption },
    h("table", {}, h("caption", { class: "hidden" }, caption), h("thead", {}, h("tr", {}, ...heads)), body),
  );
  return {
    element,
    show: (next) => {
      shown = next;
      lines = next.map(lineOf);
      arrange();
    },
  };
}
