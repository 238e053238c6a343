import { format } from "d3-format";

type Maybe = number | null | undefined;
const none = "–";
const isNumber = (value: Maybe): value is number => typeof value === "number" && Number.isFinite(value);
const digits = format(".3~r"),
  rounded = format(",.3~r"),
  grouped = format(",");

/** Three figures that count, and a unit of time. */
export function seconds(value: Maybe): string {
  if (!isNumber(value)) return none;
  if (value === 0) return "0 s";
  for (const [unit, size] of [
    ["µs", 1e-6],
    ["ms", 1e-3],
    ["s", 1],
  ] as const)
    if (Math.abs(value) < 999.5 * size || (unit === "s" && Math.abs(value) < 999.5))
      return `${digits(value / size)} ${unit}`;
  if (value < 1e4) return `${grouped(Math.round(value))} s`;
  return value < 36e4 ? `${digits(value / 3600)} h` : `${rounded(value / 86400)} d`;
}

export function bytes(value: Maybe): string {
  if (!isNumber(value)) return none;
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (Math.abs(value) >= 1000 && unit + 1 < units.length) {
    value /= 1024;
    ++unit;
  }
  return `${digits(value)} ${units[unit]}`;
}

/** Of bytes per second. */
export function bits(value: Maybe): string {
  if (!isNumber(value)) return none;
  const units = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"];
  let unit = 0,
    rate = value * 8;
  while (rate >= 999.5 && unit + 1 < units.length) {
    rate /= 1000;
    ++unit;
  }
  return `${digits(rate)} ${units[unit]}`;
}

export function percent(value: Maybe): string {
  if (!isNumber(value)) return none;
  const part = 100 * value;
  const size = Math.abs(part);
  return `${size === 0 ? "0" : size < 0.1 ? format(".2~r")(part) : size < 9.95 ? format(".1f")(part) : format(".0f")(part)} %`;
}

export function count(value: Maybe): string {
  return isNumber(value) ? grouped(value) : none;
}

/** 98.3 billion, 4.2 million. */
export function amount(value: Maybe): string {
  if (!isNumber(value)) return none;
  for (const [size, name] of [
    [1e12, "trillion"],
    [1e9, "billion"],
    [1e6, "million"],
  ] as const)
    if (value >= size) return `${digits(value / size)} ${name}`;
  return grouped(value);
}

export function figure(value: Maybe): string {
  return isNumber(value) ? rounded(value) : none;
}

export function fixed(value: Maybe, places: number): string {
  return isNumber(value) ? value.toFixed(places) : none;
}

export const words = (name: string): string => name.replaceAll("_", " ");

/** "1 rank", "16 ranks". */
export function plural(value: number, one: string, many = `${one}s`): string {
  return `${grouped(value)} ${value === 1 ? one : many}`;
}

/** Texts of an axis: one unit, and as many places as tell its ticks apart. */
function ticksIn(units: readonly (readonly [name: string, size: number])[]): (ticks: number[]) => string[] {
  return (ticks) => {
    const most = Math.max(...ticks.map(Math.abs));
    const [name, size] = units.find(([, one]) => most >= one * 0.9995) ?? units.at(-1)!;
    const step = ticks.length > 1 ? Math.abs(ticks[1]! - ticks[0]!) / size : 1;
    const places = step > 0 ? Math.max(0, Math.min(9, -Math.floor(Math.log10(step) + 1e-9))) : 0;
    return ticks.map((tick) => `${format(`,.${places}f`)(tick / size)} ${name}`.trim());
  };
}

export const secondsTicks = ticksIn([
  ["s", 1],
  ["ms", 1e-3],
  ["µs", 1e-6],
]);
export const percentTicks = ticksIn([["%", 0.01]]);
export const plainTicks = ticksIn([["", 1]]);
