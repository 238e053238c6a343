// What the timeline says of a call: forward or forward again, and for which
// microbatch. A plan does not name them; the strategy does.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { before, test } from "node:test";
import { at, example, makeReport, tool } from "./support.mjs";

before(() => {
  tool(
    "tombolo-model",
    "gpt",
    "--layers",
    "6",
    "--hidden",
    "64",
    "--heads",
    "4",
    "--vocab",
    "100",
    "--seq",
    "32",
    "--no-weights",
    "-o",
    "m.onnx",
  );
});

const kinds = ["forward", "again", "input", "weight", "update"];

/** The calls of a class: [begin, end, kind, microbatch, name]. */
function callsOf(timeline, one) {
  const calls = [];
  let time = 0;
  for (let i = 0; i < one.calls.length; i += 5) {
    const [gap, ticks, kind, microbatch, name] = one.calls.slice(i, i + 5);
    calls.push({
      begin: time + gap,
      end: time + gap + ticks,
      kind: kinds[kind],
      microbatch,
      name: timeline.names[name],
    });
    time += gap + ticks;
  }
  return calls;
}

function check(name, islands, microbatches, again) {
  writeFileSync(at(`${name}.yaml`), islands);
  tool(
    "tombolo-plan",
    "m.onnx",
    "--topology",
    example("thousand-chips.yaml"),
    "--strategy",
    `${name}.yaml`,
    "--global-batch",
    "16",
    "-o",
    `${name}.plan`,
  );
  makeReport(`${name}.plan`, "-o", `${name}.html`);
  const html = readFileSync(at(`${name}.html`), "utf8");
  const { timeline } = JSON.parse(/id="data">(.*?)<\/script>/s.exec(html)[1]).plans[0];
  assert.equal(timeline.classes_left_out, 0);
  for (const one of timeline.classes) {
    const calls = callsOf(timeline, one);
    const spans = Object.fromEntries(kinds.map((kind) => [kind, new Map()]));
    let before = 0;
    for (const call of calls) {
      assert.ok(call.begin >= before);
      before = call.end;
      if (call.kind === "update") {
        assert.equal(call.microbatch, -1);
        assert.match(call.name, /^(zero|adamw)/);
        continue;
      }
      assert.match(
        call.name,
        new RegExp(
          { forward: "forward", again: "forward", input: "backward_input", weight: "backward_weight" }[call.kind],
        ),
      );
      const span = spans[call.kind].get(call.microbatch) ?? { first: call.begin, last: call.end, calls: 0 };
      spans[call.kind].set(call.microbatch, { first: span.first, last: call.end, calls: span.calls + 1 });
    }
    const where = `${name}, stage ${one.stage}`;
    const every = [...microbatches(one)].sort((a, b) => a - b);
    for (const kind of ["forward", "input", "weight"])
      assert.deepEqual(
        [...spans[kind].keys()].sort((a, b) => a - b),
        every,
        `${where}: ${kind}`,
      );
    assert.deepEqual(
      [...spans.again.keys()].sort((a, b) => a - b),
      again[one.stage] ? every : [],
      `${where}: again`,
    );
    for (const microbatch of every) {
      const of = (kind) => spans[kind].get(microbatch);
      // Equally many calls for each, and nothing before what it needs.
      for (const kind of ["forward", "again", "input", "weight"])
        assert.equal(of(kind)?.calls, spans[kind].get(every[0])?.calls, `${where}: ${kind} ${microbatch}`);
      assert.ok(of("forward").last <= of("input").last && of("input").first < of("weight").last, where);
      if (of("again")) {
        assert.ok(of("again").first >= of("forward").first && of("again").last <= of("weight").last, where);
        assert.ok(of("again").calls <= of("forward").calls);
      }
    }
  }
}

const stages = (tensorParallel, ...recompute) =>
  recompute
    .map(
      (what) =>
        `      - {pool: shanghai/a, data_parallel: 1, tensor_parallel: ${tensorParallel}, blocks: 4, recompute: ${what}}\n`,
    )
    .join("");
const all = () => Array(8).keys();

for (const schedule of ["gpipe", "1f1b", "zero-bubble", "interleaved"])
  for (const tensorParallel of [1, 2])
    for (const recompute of [
      ["none", "none"],
      ["full", "full"],
      ["none", "2"],
    ]) {
      const name = `${schedule}-${tensorParallel}-${recompute.join("-")}`;
      test(name, () =>
        check(
          name,
          `islands:
  - sites: [shanghai]
    batch: 16
    microbatch: 2
    schedule: ${schedule}
    chunks: ${schedule === "interleaved" ? 2 : 1}
    stages:
${stages(tensorParallel, ...recompute)}`,
          all,
          recompute.map((what) => what !== "none"),
        ),
      );
    }

test("replicas have the microbatches that are dealt to them", () =>
  check(
    "dealt",
    `islands:
  - sites: [shanghai]
    batch: 16
    microbatch: 2
    schedule: 1f1b
    stages:
      - blocks: 4
        recompute: none
        replicas: [{pool: shanghai/a, count: 1, tensor_parallel: 1, share: 3}, {pool: shanghai/a, count: 1, tensor_parallel: 1, share: 1}]
      - {pool: shanghai/a, data_parallel: 1, tensor_parallel: 1, blocks: 4, recompute: full}
`,
    (one) => (one.stage === 1 ? all() : one.rank === 0 ? [0, 1, 2, 4, 5, 6] : [3, 7]),
    [false, true],
  ));
