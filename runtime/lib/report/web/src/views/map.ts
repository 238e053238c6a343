import type { Entry, Line, Site } from "../data";
import { responsive } from "../charts/responsive";
import { h, rove, shorten, svg, tell, type Rows } from "../dom";
import * as format from "../format";
import { sortableTable, type Column } from "../table";
import type { View } from "./section";

const mostSites = 12,
  poolHeight = 40,
  headHeight = 30;

interface Place {
  site: Site;
  x: number;
  y: number;
  width: number;
  height: number;
}

/** One in the middle, two side by side, more round an ellipse. */
function layout(sites: Site[], width: number): { places: Place[]; height: number } {
  const boxWidth = sites.length > 6 ? 170 : 210;
  const heightOf = (site: Site): number => headHeight + site.pools.length * poolHeight + 8;
  const tallest = Math.max(...sites.map(heightOf));
  if (sites.length <= 2) {
    const middle = tallest / 2 + 10;
    const gap = width - 2 * boxWidth - 20;
    return {
      height: tallest + 20,
      places: sites.map((site, i) => ({
        site,
        width: boxWidth,
        height: heightOf(site),
        x: 10 + boxWidth / 2 + i * (boxWidth + gap),
        y: middle,
      })),
    };
  }
  const rx = (width - boxWidth) / 2 - 10;
  const ry = Math.max(tallest + 95, (sites.length * tallest) / 4);
  return {
    height: 2 * ry + tallest + 20,
    places: sites.map((site, i) => {
      const angle =
        (i / sites.length) * 2 * Math.PI - (sites.length % 2 ? Math.PI / 2 : Math.PI / 2 + Math.PI / sites.length);
      return {
        site,
        width: boxWidth,
        height: heightOf(site),
        x: width / 2 + rx * Math.cos(angle),
        y: ry + tallest / 2 + 10 + ry * Math.sin(angle),
      };
    }),
  };
}

interface Use {
  used: number;
  computing: number | null;
}

function useOf(entry: Entry, site: string, pool: string): Use {
  const used = entry.plan.islands
    .flatMap((island) => island.stages.flatMap((stage) => stage.groups))
    .filter((group) => group.site === site && group.pool === pool)
    .reduce((sum, group) => sum + group.replicas * group.tensor_parallel, 0);
  const known = entry.simulation?.simulated.pools.find((one) => one.pool === `${site}/${pool}`);
  return { used, computing: known && known.used > 0 ? known.utilisation : null };
}

interface LineRow {
  line: Line;
  first: string;
  second: string;
  forth: number | null;
  back: number | null;
  bytes: number | null;
}

function lineRows(entry: Entry): LineRow[] {
  const { sites, lines } = entry.plan.topology!;
  return lines.map((line) => {
    const first = sites[line.first]?.name ?? "?",
      second = sites[line.second]?.name ?? "?";
    const way = (from: string, to: string) =>
      entry.simulation?.simulated.lines.find((one) => one.from === from && one.to === to);
    const forth = way(first, second),
      back = way(second, first);
    return {
      line,
      first,
      second,
      forth: forth?.utilisation ?? null,
      back: back?.utilisation ?? null,
      bytes: forth && back ? forth.bytes + back.bytes : null,
    };
  });
}

function drawSite(entry: Entry, place: Place): SVGGElement {
  const { site } = place;
  const left = place.x - place.width / 2,
    top = place.y - place.height / 2;
  const islands = entry.plan.islands.flatMap((island, i) => (island.sites.includes(site.name) ? [i] : []));
  const where = islands.length ? `island ${islands.join(", ")}` : "not used";
  const group = svg(
    "g",
    { role: "img" },
    svg("rect", {
      class: islands.length ? "site" : "site idle",
      x: left,
      y: top,
      width: place.width,
      height: place.height,
      rx: 6,
    }),
    svg("text", { class: "site-name", x: left + 10, y: top + 18 }, shorten(site.name, 16)),
    svg("text", { class: "tick", x: left + place.width - 10, y: top + 18, "text-anchor": "end" }, shorten(where, 14)),
  );
  const rows: Rows = [];
  site.pools.forEach((pool, p) => {
    const { used, computing } = useOf(entry, site.name, pool.name);
    const chips = pool.nodes * pool.chips_per_node;
    const y = top + headHeight + p * poolHeight;
    const bar = place.width - 20;
    group.append(
      svg(
        "text",
        { class: "label", x: left + 10, y: y + 9 },
        shorten(`${pool.name}: ${format.count(chips)} × ${pool.chip}`, Math.floor(bar / 7.2)),
      ),
      svg("rect", { class: "use-back", x: left + 10, y: y + 19, width: bar, height: 9, rx: 2 }),
      svg("rect", {
        class: "use",
        x: left + 10,
        y: y + 19,
        width: (bar * used) / Math.max(1, chips),
        height: 9,
        rx: 2,
      }),
    );
    if (computing !== null)
      group.append(
        svg("rect", {
          class: "computing",
          x: left + 10,
          y: y + 19,
          width: (bar * used * Math.min(1, computing)) / Math.max(1, chips),
          height: 9,
          rx: 2,
        }),
      );
    rows.push(
      [
        `pool ${pool.name}`,
        `${format.count(chips)} ${pool.chip} of ${format.bytes(pool.chip_memory_bytes)}, ${format.plural(pool.nodes, "node")} of ${pool.chips_per_node}`,
      ],
      [
        "used",
        `${format.count(used)}${computing === null ? "" : `, computing ${format.percent(computing)} of the time`}`,
      ],
      ["in a node", pool.intra_node ? format.bits(pool.intra_node.bytes_per_second) : "no wire"],
      [
        "between nodes",
        pool.inter_node
          ? `${format.bits(pool.inter_node.bytes_per_second)} for each of ${format.plural(pool.cards_per_node, "card")}`
          : "no wire",
      ],
    );
  });
  group.setAttribute(
    "aria-label",
    `site ${site.name}, ${where}: ${rows.map(([name, value]) => `${name} ${value}`).join(", ")}`,
  );
  tell(group, `${site.name}, ${where}`, rows);
  return group;
}

/** The part of the way to another place that the box of this one covers. */
function coveredBy(place: Place, other: Place): number {
  const across = place.width / 2 / Math.max(1e-9, Math.abs(other.x - place.x)),
    down = place.height / 2 / Math.max(1e-9, Math.abs(other.y - place.y));
  return Math.min(across, down, 0.5);
}

interface Box {
  left: number;
  top: number;
  width: number;
  height: number;
}

const overlap = (a: Box, b: Box): boolean =>
  a.left < b.left + b.width && b.left < a.left + a.width && a.top < b.top + b.height && b.top < a.top + a.height;

/** In the part of the line that no box covers; where nothing else is, if there is such a place. */
function placeLabel(from: Place, to: Place, width: number, height: number, taken: Box[]): { x: number; y: number } {
  const begin = coveredBy(from, to),
    end = 1 - coveredBy(to, from);
  let best = { x: 0, y: 0, hits: Infinity };
  for (const part of [0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8]) {
    const at = begin + (end - begin) * part;
    const x = from.x + (to.x - from.x) * at,
      y = from.y + (to.y - from.y) * at;
    const box = { left: x - width / 2 - 3, top: y - height / 2 - 3, width: width + 6, height: height + 6 };
    const hits = taken.filter((other) => overlap(box, other)).length;
    if (hits < best.hits) best = { x, y, hits };
  }
  taken.push({ left: best.x - width / 2, top: best.y - height / 2, width, height });
  return best;
}

function drawLine(row: LineRow, from: Place, to: Place, taken: Box[]): SVGGElement {
  const thick = Math.max(1.5, Math.min(9, 1.5 * Math.log10(1 + row.line.bytes_per_second / 1e6)));
  const rate = `${format.bits(row.line.bytes_per_second)}, ${format.seconds(row.line.rtt_seconds)}`;
  const use = row.forth === null ? "" : `${format.percent(row.forth)} / ${format.percent(row.back)} used`;
  const wide = 6.6 * Math.max(rate.length, use.length) + 10,
    high = use ? 34 : 19;
  const { x, y } = placeLabel(from, to, wide, high, taken);
  const group = svg(
    "g",
    { role: "img", "aria-label": `line ${row.first} to ${row.second}: ${rate} ${use}` },
    svg("rect", { class: "line-back", x: x - wide / 2, y: y - high / 2, width: wide, height: high, rx: 3 }),
    svg("text", { class: "label", x, y: use ? y - 7 : y, "text-anchor": "middle" }, rate),
    use && svg("text", { class: "tick", x, y: y + 8, "text-anchor": "middle" }, use),
  );
  tell(group, `${row.first} – ${row.second}`, [
    ["rate", `${format.bits(row.line.bytes_per_second)} each way`],
    ["round trip", format.seconds(row.line.rtt_seconds)],
    ["loss", format.percent(row.line.loss)],
    [
      "used there, back",
      row.forth === null ? "not simulated" : `${format.percent(row.forth)}, ${format.percent(row.back)}`,
    ],
  ]);
  const stroke = svg("line", { class: "line", x1: from.x, y1: from.y, x2: to.x, y2: to.y, "stroke-width": thick });
  group.addEventListener("focus", () => stroke.classList.add("told"));
  group.addEventListener("blur", () => stroke.classList.remove("told"));
  strokes.set(group, stroke);
  return group;
}

/** The stroke of a label, which lies below the boxes. */
const strokes = new WeakMap<SVGGElement, SVGLineElement>();

function drawMap(
  entry: Entry,
  topology: NonNullable<Entry["plan"]["topology"]>,
  rows: LineRow[],
  wide: number,
): SVGSVGElement {
  const width = Math.max(560, Math.min(900, wide));
  const { places, height } = layout(topology.sites, width);
  const chart = svg("svg", {
    class: "chart map",
    viewBox: `0 0 ${width} ${height}`,
    width: Math.min(width, wide),
    role: "group",
    "aria-label": `map of ${entry.name}`,
  });
  const taken: Box[] = places.map((place) => ({
    left: place.x - place.width / 2,
    top: place.y - place.height / 2,
    width: place.width,
    height: place.height,
  }));
  const labels = rows.flatMap((row) => {
    const from = places[row.line.first],
      to = places[row.line.second];
    return from && to ? [drawLine(row, from, to, taken)] : [];
  });
  const sites = places.map((place) => drawSite(entry, place));
  rove([...sites, ...labels], ["ArrowLeft", "ArrowUp"], ["ArrowRight", "ArrowDown"]);
  chart.append(...labels.map((label) => strokes.get(label)!), ...sites, ...labels);
  return chart;
}

export const mapView: View = {
  id: "map",
  title: "Sites and lines",
  short: "Sites",
  about:
    "Bars: chips that the plan uses (light) and their time spent computing (dark). Lines: rate, round trip, and the part of " +
    "the rate that is used on average in each direction.",
  missing: (entry) => (entry.plan.topology ? "there is no site" : "the plan has no topology"),
  draw: (entry) => {
    const topology = entry.plan.topology;
    if (!topology || topology.sites.length === 0) return null;
    const rows = lineRows(entry);
    const holder = h("div", {});
    if (topology.sites.length <= mostSites) {
      holder.append(responsive((wide) => drawMap(entry, topology, rows, wide)));
    }
    const columns: Column<LineRow>[] = [
      { title: "Line", value: (row) => `${row.first} – ${row.second}` },
      {
        title: "Rate",
        value: (row) => row.line.bytes_per_second,
        show: (row) => format.bits(row.line.bytes_per_second),
      },
      {
        title: "Round trip",
        value: (row) => row.line.rtt_seconds,
        show: (row) => format.seconds(row.line.rtt_seconds),
      },
      { title: "Loss", value: (row) => row.line.loss, show: (row) => format.percent(row.line.loss) },
      {
        title: "There",
        value: (row) => row.forth,
        show: (row) => format.percent(row.forth),
        part: (row) => row.forth,
        about: "used on average from the first site to the second",
      },
      {
        title: "Back",
        value: (row) => row.back,
        show: (row) => format.percent(row.back),
        part: (row) => row.back,
        about: "used on average from the second site to the first",
      },
      {
        title: "Bytes",
        value: (row) => row.bytes,
        show: (row) => format.bytes(row.bytes),
        about: "both ways, over what was simulated",
      },
    ];
    if (rows.length > 0 && (rows.length > 1 || topology.sites.length > mostSites))
      holder.append(sortableTable(`Lines of ${entry.name}`, columns, rows));
    return holder;
  },
};
