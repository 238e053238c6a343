// Names in plans and files can be anything; files can be of something else.
import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { at, demoPlan, example, largePlan, launch, makeReport, open, report, screenshot, tool } from "./support.mjs";
import { renamed, without } from "./planfile.mjs";

const length = 64;
const fill = (text) => text + "_".repeat(length - Buffer.byteLength(text));
const hostile = {
  chip: fill("</script><script>window.pwned=1</script>"),
  first: fill("<img src=x onerror=window.pwned=2>"),
  second: fill("\"'`${window.pwned=3}\u2028\u202e<!--<script>]]>"),
  pool: fill("</svg><svg onload=window.pwned=4>&lt;b&gt;"),
};
const plain = {
  chip: "c".repeat(length),
  first: "f".repeat(length),
  second: "s".repeat(length),
  pool: "p".repeat(length),
};

let browser;
before(async () => {
  demoPlan();
  largePlan();
  writeFileSync(
    at("plain.yaml"),
    `
chips:
  - {name: ${plain.chip}, tflops: {f32: 0.08}, memory_gib: 2, memory_gbytes_per_second: 10, efficiency: {matmul: 0.7, memory: 0.6}}
sites:
  - name: ${plain.first}
    pools: [{name: ${plain.pool}, chip: ${plain.chip}, nodes: 1, chips_per_node: 2, nics_per_node: 1, intra_node: {gbits_per_second: 8, latency_us: 30}}]
  - name: ${plain.second}
    pools: [{name: ${plain.pool}, chip: ${plain.chip}, nodes: 1, chips_per_node: 1, nics_per_node: 1}]
links:
  - {sites: [${plain.first}, ${plain.second}], gbits_per_second: 1, rtt_ms: 20}
`,
  );
  tool(
    "tombolo-plan",
    "gpt.onnx",
    "--topology",
    "plain.yaml",
    "--global-batch",
    "24",
    "-o",
    "plain.plan",
    "--json",
    "plain.json",
  );
  browser = await launch();
});
after(() => browser?.close());

test("no name becomes a script or an element", async () => {
  const names = Object.keys(plain).map((key) => [plain[key], hostile[key]]);
  writeFileSync(at("hostile.plan"), renamed(readFileSync(at("plain.plan")), names));
  let json = readFileSync(at("plain.json"), "utf8");
  for (const [from, to] of names) json = json.replaceAll(from, JSON.stringify(to).slice(1, -1));
  writeFileSync(at("hostile.json"), json);
  writeFileSync(
    at("hostile.jsonl"),
    [
      { step: 0, island: 0, loss: 1, seconds: 1, tokens: 1 },
      { step: 1, island: 0, loss: null, seconds: 1, tokens: 1 },
      { step: 2, island: 0, loss: 1e308, seconds: 1, tokens: 1 },
      { step: 3, island: 0, loss: -1e308, seconds: 0, tokens: 0 },
      {
        event: "</script><script>window.pwned=5</script>",
        island: 1,
        message: "\u0007<img src=x onerror=window.pwned=6>" + "x".repeat(5000),
      },
      { event: "constructor", site: "__proto__", part: "</title><script>window.pwned=7</script>" },
    ]
      .map((line) => JSON.stringify(line) + "\n")
      .join(""),
  );
  const file = "<svg onload=window.pwned=8>.plan";
  writeFileSync(at(file), readFileSync(at("hostile.plan")));
  makeReport(
    "hostile.plan",
    file,
    "--json",
    "hostile.json",
    "--metrics",
    "hostile.jsonl",
    "--title",
    "</title></script><script>window.pwned=9</script>",
    "-o",
    "hostile.html",
  );
  const { page, close } = await open(browser, at("hostile.html"));
  await screenshot(page, "hostile");
  await page.locator("#alternatives circle.dot").first().focus();
  await page.locator("#map g[role=img]").first().focus();
  assert.equal(await page.evaluate(() => window.pwned), undefined);
  assert.deepEqual(
    await page.evaluate(() => ({
      scripts: document.scripts.length,
      images: document.images.length,
      handlers: document.querySelectorAll("[onload], [onerror]").length,
    })),
    { scripts: 2, images: 0, handlers: 0 },
  );
  // The names are there, as text.
  assert.ok(
    (await page.locator("#islands tbody").first().textContent()).includes("<img src=x onerror=window.pwned=2>"),
  );
  // Nothing turns the direction of what stands behind it.
  assert.doesNotMatch(
    await page.evaluate(() => document.body.innerText + document.getElementById("data").textContent),
    /[\u0000-\u0008\u200e\u200f\u2028-\u202e\u2066-\u2069]/,
  );
  assert.match(await page.title(), /^<\/title><\/script><script>window\.pwned=9/);
  assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 1400);
  // Were there a script, the browser would not run it.
  assert.equal(
    await page.evaluate(() => {
      const script = document.createElement("script");
      script.textContent = "window.pwned = 10";
      document.body.append(script);
      return window.pwned;
    }),
    undefined,
  );
  await assert.rejects(close(), /Content Security Policy/); // which it says
});

test("a plan without a topology shows what it has", async () => {
  writeFileSync(at("nowhere.plan"), without(readFileSync(at("demo.plan")), 11));
  makeReport("nowhere.plan", "-o", "nowhere.html");
  const { page, close } = await open(browser, at("nowhere.html"));
  for (const view of ["map", "timeline", "time", "round", "alternatives", "run"])
    assert.match(await page.locator(`#${view} .missing`).textContent(), /^Not shown: /);
  assert.match(await page.locator("#timeline .missing").textContent(), /no topology/);
  assert.equal(await page.locator("#islands tbody tr").count(), 2);
  assert.equal(await page.locator("#memory svg .row").count(), 2);
  await close();
});

test("a round of very many steps is not simulated", async () => {
  writeFileSync(at("long.yaml"), "server: {inner_steps: 200000}\n");
  tool(
    "tombolo-plan",
    "gpt.onnx",
    "--topology",
    example("two-sites.yaml"),
    "--strategy",
    "long.yaml",
    "--global-batch",
    "24",
    "-o",
    "long.plan",
  );
  makeReport("long.plan", "-o", "long.html");
  const { page, close } = await open(browser, at("long.html"));
  for (const view of ["round", "time"])
    assert.match(await page.locator(`#${view} .missing`).textContent(), /200000 inner steps/);
  assert.equal(await page.locator("#timeline .scroller").count(), 1);
  await close();
});

test("wrong files are refused with status 1 and leave nothing behind", () => {
  const demo = readFileSync(at("demo.plan"));
  writeFileSync(at("cut.plan"), demo.subarray(0, demo.length - 40));
  writeFileSync(at("text.plan"), "not a plan\n");
  writeFileSync(at("text.json"), '{"search": ');
  writeFileSync(
    at("wrong.json"),
    JSON.stringify({ ...JSON.parse(readFileSync(at("demo.json"), "utf8")), search: { candidates: "many" } }),
  );
  writeFileSync(at("list.jsonl"), '{"step":0,"island":0,"loss":1,"seconds":1,"tokens":1}\n[]\n');
  writeFileSync(at("far.jsonl"), '{"step":0,"island":7,"loss":1,"seconds":1,"tokens":1}\n');
  writeFileSync(at("typed.jsonl"), '{"step":0,"island":0,"loss":"low","seconds":1,"tokens":1}\n');
  writeFileSync(at("never.jsonl"), '{"step":0,"island":0,"loss":1,"seconds":1e308,"tokens":1}\n');
  writeFileSync(at("empty.jsonl"), "");
  tool("tombolo-sim", "demo.plan", "--json", "demo-sim.json");
  tool("tombolo-sim", "large.plan", "--json", "large-sim.json");
  tool("tombolo-sim", "demo.plan", "--steps", "1", "--trace", "demo-trace.json");
  writeFileSync(
    at("wrong-trace.json"),
    readFileSync(at("demo-trace.json"), "utf8").replaceAll("stage 0, rank 0", "stage 7, rank 0"),
  );
  for (const [args, message] of [
    [["demo.plan", "--trace", "demo.json"], /'demo\.json' is no trace of this plan: 'traceEvents' is missing/],
    [["demo.plan", "--trace", "text.json"], /'text\.json': expected a trace of tombolo-sim/],
    [
      ["demo.plan", "--trace", "wrong-trace.json"],
      /'wrong-trace\.json' is no trace of this plan: island 0 of the plan has no rank 0 in stage 7/,
    ],
    [["large.plan", "--trace", "demo-trace.json"], /'demo-trace\.json' is no trace of this plan/],
    [["none.plan"], /none\.plan/],
    [["text.plan"], /text\.plan/],
    [["cut.plan"], /cut\.plan.*checksum/],
    [["demo.plan", "--json", "none.json"], /none\.json/],
    [["demo.plan", "--json", "text.json"], /'text\.json': expected JSON/],
    [["demo.plan", "--json", "wrong.json"], /'wrong\.json': search\.candidates: expected a number, got string/],
    [["demo.plan", "--json", "large.json"], /'large\.json' is of another plan: it has 1 islands, the plan has 2/],
    [["demo.plan", "--json", "demo-sim.json"], /tombolo-sim: give them with --sim/],
    [["demo.plan", "--sim", "demo.json"], /tombolo-plan: give them with --json/],
    [["demo.plan", "--sim", "large-sim.json"], /'large-sim\.json' is of another plan/],
    [["demo.plan", "--metrics", "list.jsonl"], /'list\.jsonl:2': expected an object/],
    [["demo.plan", "--metrics", "far.jsonl"], /'far\.jsonl:1' is of another plan: it has island 7/],
    [["demo.plan", "--metrics", "typed.jsonl"], /'typed\.jsonl:1': loss: expected a number or null, got string/],
    [
      ["demo.plan", "--metrics", "never.jsonl"],
      /'never\.jsonl:1': seconds: expected a number from 0 to 1e18, got 1e\+308/,
    ],
    [["demo.plan", "--metrics", "empty.jsonl"], /'empty\.jsonl': expected the metrics of tombolo-run/],
  ]) {
    const { status, stderr } = report(...args, "-o", "refused.html");
    assert.equal(status, 1, `${args}: ${stderr}`);
    assert.match(stderr, /^tombolo-report: error: [^A-Z]/);
    assert.match(stderr, message);
    assert.ok(!existsSync(at("refused.html")), String(args));
  }
  const folder = report("demo.plan", "-o", "no/such/folder.html");
  assert.equal(folder.status, 1);
  assert.match(folder.stderr, /no\/such\/folder\.html/);
});

test("wrong usage has status 2", () => {
  for (const args of [
    [],
    ["demo.plan"],
    ["demo.plan", "-o"],
    ["demo.plan", "--json", "a", "--json", "b", "-o", "r.html"],
    ["-o", "r.html"],
  ])
    assert.equal(report(...args).status, 2, String(args));
  assert.equal(report("--help").status, 0);
});

test("figures of a longer simulation, with failures, take the place of its own", async () => {
  tool("tombolo-sim", "demo.plan", "--rounds", "300", "--fail", "south@5+10", "--json", "fail-sim.json");
  makeReport("demo.plan", "--sim", "fail-sim.json", "-o", "fail.html");
  const { page, close } = await open(browser, at("fail.html"));
  const goodput = await page.locator("#summary .details div", { hasText: "Goodput" }).locator("dd").textContent();
  assert.ok(parseFloat(goodput) < 100 && parseFloat(goodput) > 20, goodput);
  const { predicted } = JSON.parse(readFileSync(at("fail-sim.json"), "utf8"));
  assert.ok(Math.abs(parseFloat(goodput) / 100 - predicted.goodput) < 0.006);
  await close();
});

test("a trace takes the place of the simulated step", async () => {
  tool("tombolo-sim", "demo.plan", "--steps", "3", "--slow", "south/b=2", "--trace", "slow-trace.json");
  makeReport("demo.plan", "demo.plan", "--trace", "", "--trace", "slow-trace.json", "-o", "slow.html");
  const { page, close } = await open(browser, at("slow.html"));
  const [step, trace] = await page.evaluate(() =>
    JSON.parse(document.getElementById("data").textContent).plans.map(({ timeline }) => timeline),
  );
  // Three steps, one island at half its pace.
  assert.ok(trace.seconds > 5.5 * step.seconds && trace.seconds < 6.5 * step.seconds);
  assert.deepEqual(
    trace.classes.map(({ pool, ranks }) => `${pool} ${ranks}`),
    step.classes.map(({ pool, ranks }) => `${pool} ${ranks}`),
  );
  assert.match(await page.locator("#timeline").textContent(), /From a trace of tombolo-sim/);
  await close();
});
