import { readReport, type Entry } from "./data";
import { h, shorten } from "./dom";
import { LiveRun } from "./live";
import { themeSwitch } from "./theme";
import { alternativesView } from "./views/alternatives";
import { islandsView } from "./views/islands";
import { mapView } from "./views/map";
import { memoryView } from "./views/memory";
import { nowSection } from "./views/now";
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
  const followed = report.live ? report.plans[0] : undefined;
  const live = followed && new LiveRun(followed.plan.islands.length);
  if (live) {
    followed.live = live;
    followed.run = live.run;
  }
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
  ];
  const show = (view: View): HTMLElement => section(view, report.plans, names);
  const link = (id: string, title: string, short: string): HTMLElement => h("a", { href: `#${id}`, title }, short);
  const links = (shown: View[]): HTMLElement[] => shown.map((view) => link(view.id, view.title, view.short));
  const page = document.getElementById("page");
  page?.replaceChildren(
    h(
      "header",
      {},
      h("h1", { title: title.length > 100 && title }, shorten(title, 100)),
      h(
        "nav",
        { "aria-label": "views" },
        ...(live
          ? [link("now", "How the run is doing", "Now"), ...links([runView, ...views])]
          : links([...views, runView])),
      ),
      themeSwitch(),
    ),
    h(
      "main",
      {},
      // What changes stands on top.
      ...(live ? [nowSection(live, names[0]!), show(runView)] : []),
      summary(report.plans, names),
      ...views.map(show),
      live ? null : show(runView),
    ),
  );
  document.documentElement.dataset["drawn"] = "yes";
  live?.start();
}

draw();
