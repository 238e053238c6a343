// What axe-core finds, light and dark, wide and narrow.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { seriousViolations } from "./axe.mjs";
import { at, demoPlan, launch, makeReport, open } from "./support.mjs";

let browser;
before(async () => {
  demoPlan();
  const lines = [];
  for (let step = 0; step < 20; ++step)
    for (const island of [0, 1]) lines.push({ step, island, loss: 5 - step / 20, seconds: 0.1, tokens: 768 });
  lines.push({ event: "rank_failed", island: 1, rank: 0, message: "rank 0 was killed by signal 9" });
  writeFileSync(at("metrics.jsonl"), lines.map((line) => JSON.stringify(line) + "\n").join(""));
  makeReport("demo.plan", "--json", "demo.json", "--metrics", "metrics.jsonl", "-o", "demo.html");
  makeReport("demo.plan", "demo.plan", "--json", "demo.json", "-o", "both.html");
  browser = await launch();
});
after(() => browser?.close());

for (const [file, options] of [
  ["demo.html", {}],
  ["demo.html", { colorScheme: "dark" }],
  ["both.html", {}],
  ["demo.html", { viewport: { width: 420, height: 900 } }],
])
  test(`no serious violation in ${file} ${JSON.stringify(options)}`, async () => {
    const { page, close } = await open(browser, at(file), options);
    assert.deepEqual(await seriousViolations(page), []);
    await close();
  });

test("the tab key reaches every view and leaves it again", async () => {
  const { page, close } = await open(browser, at("demo.html"));
  const reached = new Set();
  for (let i = 0; i < 90; ++i) {
    await page.keyboard.press("Tab");
    const view = await page.evaluate(() => document.activeElement?.closest("section")?.id ?? "");
    reached.add(view);
  }
  for (const view of ["map", "islands", "timeline", "time", "memory", "round", "alternatives", "run"])
    assert.ok(reached.has(view), view);
  await close();
});
