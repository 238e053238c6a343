// Light and dark: what the system prefers until a person chooses.
import { h } from "./dom";

export type Theme = "system" | "light" | "dark";
const listeners: (() => void)[] = [];
const dark = matchMedia("(prefers-color-scheme: dark)");

/**
 * Called whenever colours have changed; what is drawn on a canvas is then
 * drawn again.
 */
export function onTheme(listener: () => void): void {
  listeners.push(listener);
}

const changed = (): void => listeners.forEach((listener) => listener());

function apply(theme: Theme): void {
  const isDark = theme === "dark" || (theme === "system" && dark.matches);
  document.documentElement.dataset["theme"] = isDark ? "dark" : "light";
  changed();
}

/** The value of a colour of style.css at this moment. */
export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

export function themeSwitch(): HTMLElement {
  let theme: Theme = "system";
  const select = h(
    "select",
    {
      id: "theme",
      change: () => {
        theme = select.value as Theme;
        apply(theme);
      },
    },
    h("option", { value: "system" }, "as the system"),
    h("option", { value: "light" }, "light"),
    h("option", { value: "dark" }, "dark"),
  );
  dark.addEventListener("change", () => apply(theme));
  // Paper is white.
  addEventListener("beforeprint", () => apply("light"));
  addEventListener("afterprint", () => apply(theme));
  apply(theme);
  return h("label", { class: "theme" }, "Theme ", select);
}
