import { readReport, type Entry } from "./data";
import { h, shorten } from "./dom";
import { themeSwitch } from "./theme";
import { alternativesView } from "./views/alternatives";
import { islandsView } from "./views/islands";
import { mapView } from "./views/map";
import { memoryView } from "./views/memory";
import { roundView } from "./views/round";
import { runView } from "./views/run";
import { section, type View } from "./views/section";
import { summary } from "./views/summary";
import { timeView } from "./views/time";
import { timelineSection } from "./views/timeline";

/** Short, and no two alike. */
function namesOf(entries: Entry[]): string[] {
  const seen = new Map<string, number>();
  return entries.map((entry) => {
    const times = (seen.get(entry.name) ?? 0) + 1;
    seen.set(entry.name, times);
    return shorten(entry.name, 60) + (times > 1 ? ` (${times})` : "");
  });
}

function draw(): void {
  const report = readReport();
  const names = namesOf(report.plans);
  const title = report.title || names.join(" and ");
  document.title = `${shorten(title, 80)} – Tombolo report`;
  const views: View[] = [
    mapView,
    islandsView,
    timelineSection(report.plans, names),
    timeView,
    memoryView,
    roundView,
    alternativesView,
    runView,
  ];
  const page = document.getElementById("page");
  page?.replaceChildren(
    h(
      "header",
      {},
      h("h1", { title: title.length > 100 && title }, shorten(title, 100)),
      h(
        "nav",
        { "aria-label": "views" },
        ...views.map((view) => h("a", { href: `#${view.id}`, title: view.title }, view.short)),
      ),
      themeSwitch(),
    ),
    h("main", {}, summary(report.plans, names), ...views.map((view) => section(view, report.plans, names))),
  );
  document.documentElement.dataset["drawn"] = "yes";
}

draw();
