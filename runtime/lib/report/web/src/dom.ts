// Elements are made here and nowhere else. Text is only ever set as text, so
// that no name in a plan can become an element or a script.

type Child = Node | string | number | null | undefined | false;
type Attributes = Record<string, string | number | boolean | null | undefined | ((event: never) => void)>;

function fill<E extends Element>(element: E, attributes: Attributes, children: Child[]): E {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value as EventListener);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, ...children);
  return element;
}

export function append(element: Element, ...children: Child[]): void {
  for (const child of children)
    if (child !== null && child !== undefined && child !== false)
      element.append(typeof child === "number" ? String(child) : child);
}

export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  return fill(document.createElement(tag), attributes, children);
}

export function svg<K extends keyof SVGElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): SVGElementTagNameMap[K] {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

/** The text, cut in the middle to `length` characters. */
export function shorten(text: string, length: number): string {
  const characters = [...text];
  if (characters.length <= length) return text;
  const head = Math.ceil((length - 1) / 2);
  return characters.slice(0, head).join("") + "…" + characters.slice(characters.length - (length - 1 - head)).join("");
}

let lastId = 0;
export const newId = (prefix: string): string => `${prefix}-${++lastId}`;

/** The box that is told about what the pointer or the focus is at. */
const tip = h("div", { id: "tip", role: "tooltip", hidden: true });

export type Rows = [string, string][];

export function showTip(title: string, rows: Rows, x: number, y: number): void {
  if (!tip.isConnected) document.body.append(tip);
  tip.replaceChildren(
    h("strong", {}, shorten(title, 120)),
    h("dl", {}, ...rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, shorten(value, 600))])),
  );
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = x + 14 + box.width > innerWidth - 8 ? x - 14 - box.width : x + 14;
  const top = y + 14 + box.height > innerHeight - 8 ? y - 14 - box.height : y + 14;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${Math.max(8, top)}px`;
}

export function hideTip(): void {
  tip.hidden = true;
}

/** Tells about an element while the pointer or the focus is on it. */
export function tell(element: Element, title: string, rows: Rows): void {
  element.addEventListener("pointermove", (event) =>
    showTip(title, rows, (event as PointerEvent).clientX, (event as PointerEvent).clientY),
  );
  element.addEventListener("pointerleave", hideTip);
  element.addEventListener("focus", () => {
    const box = element.getBoundingClientRect();
    showTip(title, rows, box.left + Math.min(box.width, 240), box.top + box.height);
  });
  element.addEventListener("blur", hideTip);
}

/** One stop for the tab key; arrow keys go from item to item. */
export function rove(items: (HTMLElement | SVGElement)[], previous: string[], next: string[]): void {
  items.forEach((item, i) => {
    item.setAttribute("tabindex", i === 0 ? "0" : "-1");
    item.addEventListener("keydown", (event) => {
      const key = (event as KeyboardEvent).key;
      const to = previous.includes(key)
        ? i - 1
        : next.includes(key)
          ? i + 1
          : key === "Home"
            ? 0
            : key === "End"
              ? items.length - 1
              : undefined;
      const target = to === undefined ? undefined : items[to];
      if (to === undefined) return;
      event.preventDefault();
      if (!target) return;
      item.setAttribute("tabindex", "-1");
      target.setAttribute("tabindex", "0");
      target.focus();
    });
  });
}
