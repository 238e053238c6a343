// Plan files made wrong on purpose: the outermost level of a protobuf message, and
// the checksum behind it (docs/PlanFormat.md).
import { createHash } from "node:crypto";

function varint(bytes, at) {
  let value = 0n,
    shift = 0n;
  for (; ; shift += 7n) {
    const byte = bytes[at++];
    value |= BigInt(byte & 127) << shift;
    if (byte < 128) return [Number(value), at];
  }
}

/** [number, bytes with the tag] of each field. */
function fields(bytes) {
  const all = [];
  for (let at = 0; at < bytes.length;) {
    const begin = at;
    let [tag, next] = varint(bytes, at);
    const kind = tag & 7;
    if (kind === 0) [, next] = varint(bytes, next);
    else if (kind === 2) {
      const [length, from] = varint(bytes, next);
      next = from + length;
    } else next += kind === 1 ? 8 : 4;
    all.push([tag >> 3, bytes.subarray(begin, next)]);
    at = next;
  }
  return all;
}

const seal = (body) =>
  Buffer.concat([body, Buffer.from([0xc2, 0x3e, 0x20]), createHash("sha256").update(body).digest()]);

/** The plan without one of its fields. */
export const without = (plan, number) =>
  seal(
    Buffer.concat(
      fields(plan)
        .filter(([field]) => field !== number && field !== 1000)
        .map(([, bytes]) => bytes),
    ),
  );

/** The plan with other names, which have to be as long. */
export function renamed(plan, names) {
  const body = Buffer.from(plan.subarray(0, plan.length - 35));
  for (const [from, to] of names) {
    const [old, fresh] = [Buffer.from(from), Buffer.from(to)];
    if (old.length !== fresh.length) throw new Error(`'${from}' and '${to}' are not equally long`);
    let found = 0;
    for (let at = body.indexOf(old); at >= 0; at = body.indexOf(old, at + old.length), ++found) fresh.copy(body, at);
    if (!found) throw new Error(`'${from}' is not in the plan`);
  }
  return seal(body);
}
