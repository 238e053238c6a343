// A view: its heading, and for each plan what it draws or why there is nothing.
import { h } from "../dom";
import type { Entry } from "../data";

export interface View {
  id: string;
  title: string;
  /** In the list of views. */
  short: string;
  about: string;
  /** Null: this plan has nothing to show here, and `missing` says why. */
  draw: (entry: Entry, index: number) => HTMLElement | null;
  missing: (entry: Entry) => string;
  /** Below each other instead of side by side. */
  stacked?: boolean;
  legend?: () => HTMLElement;
}

export function nothing(reason: string): HTMLElement {
  return h("p", { class: "missing" }, h("strong", {}, "Not shown: "), reason, ".");
}

export function section(view: View, entries: Entry[], names: string[]): HTMLElement {
  const cells = entries.map((entry, i) =>
    h(
      "div",
      { class: "plan" },
      entries.length > 1 && h("h3", {}, names[i]!),
      view.draw(entry, i) ?? nothing(view.missing(entry)),
    ),
  );
  return h(
    "section",
    { id: view.id, "aria-labelledby": `${view.id}-title` },
    h("h2", { id: `${view.id}-title` }, view.title),
    h("p", { class: "about" }, view.about),
    view.legend?.(),
    h("div", { class: view.stacked ? "plans stacked" : "plans" }, ...cells),
  );
}

export function legend(items: [string, string][]): HTMLElement {
  return h(
    "ul",
    { class: "legend" },
    ...items.map(([name, title]) =>
      h(
        "li",
        {},
        h("span", {
          class: "swatch",
          style: `background:var(--${name})`,
          "aria-hidden": "true",
        }),
        title,
      ),
    ),
  );
}
