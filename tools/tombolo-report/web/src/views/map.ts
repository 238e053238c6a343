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
        x: sites.length === 1 ? width / 2 : 10 + boxWidth / 2 + i * (boxWidth + gap),
        y: middle,
      })),
    };
  }
  const rx = (width - boxWidth) / 2 - 10;
  const ry = Math.max(tallest * 0.8 + 30, (sites.length * tallest) / 5);
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

function drawLine(row: LineRow, from: Place, to: Place, index: number, count: number): SVGGElement {
  const thick = Math.max(1.5, Math.min(9, 1.5 * Math.log10(1 + row.line.bytes_per_second / 1e6)));
  const use = row.forth === null ? "" : ` ${format.percent(row.forth)} / ${format.percent(row.back)} used`;
  // Not in the middle, where lines cross.
  const part = count <= 2 ? 0.5 : index % 2 ? 0.62 : 0.38;
  const x = from.x + (to.x - from.x) * part,
    y = from.y + (to.y - from.y) * part;
  const rate = `${format.bits(row.line.bytes_per_second)}, ${format.seconds(row.line.rtt_seconds)}`;
  const wide = 7 * Math.max(rate.length, use.length) + 8;
  const group = svg(
    "g",
    { role: "img", "aria-label": `line ${row.first} to ${row.second}: ${rate}${use}` },
    svg("line", { class: "line", x1: from.x, y1: from.y, x2: to.x, y2: to.y, "stroke-width": thick }),
    svg("rect", { class: "line-back", x: x - wide / 2, y: y - 17, width: wide, height: use ? 34 : 19, rx: 3 }),
    svg("text", { class: "label", x, y: y - 7, "text-anchor": "middle" }, rate),
    use && svg("text", { class: "tick", x, y: y + 8, "text-anchor": "middle" }, use.trim()),
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
  return group;
}

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
  const lines = rows.flatMap((row, i) => {
    const from = places[row.line.first],
      to = places[row.line.second];
    return from && to ? [drawLine(row, from, to, i, topology.sites.length)] : [];
  });
  const sites = places.map((place) => drawSite(entry, place));
  rove([...sites, ...lines], ["ArrowLeft", "ArrowUp"], ["ArrowRight", "ArrowDown"]);
  chart.append(...lines, ...sites);
  return chart;
}

export const mapView: View = {
  id: "map",
  title: "Sites and lines",
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
