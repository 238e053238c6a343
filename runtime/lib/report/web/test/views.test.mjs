// Every view of the page, with the demo's plan and run and with 1,024 chips.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { after, before, test } from "node:test";
import {
  at,
  coloursOf,
  demoPlan,
  demoRun,
  frame,
  largePlan,
  launch,
  makeReport,
  open,
  screenshot,
} from "./support.mjs";

const views = ["summary", "map", "islands", "timeline", "time", "memory", "round", "alternatives", "run"];
let browser;
before(async () => {
  demoPlan();
  largePlan();
  demoRun();
  // The same run with a fault that is told of, whatever the timing of a real one.
  const lines = [];
  for (let step = 0; step < 60; ++step) {
    for (const island of [0, 1])
      if (island === 0 || step < 20 || step >= 40)
        lines.push({ step, island, loss: 5 - step / 20, seconds: 0.1, tokens: 768 });
    if (step === 20) lines.push({ event: "rank_failed", island: 1, rank: 0, message: "rank 0 was killed by signal 9" });
    if (step % 10 === 9)
      lines.push({
        event: "outer_step",
        fragment: 0,
        round: (step - 9) / 10,
        version: (step + 1) / 10,
        islands: step > 20 && step < 40 ? [0] : [0, 1],
        tokens: 1,
        seconds: 0.1,
        hash: "00",
      });
  }
  lines.push({ event: "eval", step: 60, island: 0, loss: 2.5, samples: 10, tokens: 640 });
  writeFileSync(at("faults.jsonl"), lines.map((line) => JSON.stringify(line) + "\n").join(""));
  makeReport("demo.plan", "--json", "demo.json", "--metrics", "metrics.jsonl", "-o", "demo.html");
  makeReport("demo.plan", "--json", "demo.json", "--metrics", "faults.jsonl", "-o", "faults.html");
  makeReport("large.plan", "--json", "large.json", "-o", "large.html");
  makeReport(
    "demo.plan",
    "large.plan",
    "--json",
    "demo.json",
    "--json",
    "large.json",
    "--metrics",
    "metrics.jsonl",
    "-o",
    "both.html",
  );
  makeReport("demo.plan", "-o", "bare.html");
  browser = await launch();
});
after(() => browser?.close());

const texts = (page, selector) => page.locator(selector).allTextContents();

test("every view draws the demo's plan and its real run", async () => {
  const { page, close } = await open(browser, at("demo.html"));
  assert.deepEqual(await page.locator("main > section").evaluateAll((all) => all.map((one) => one.id)), views);
  assert.equal(await page.locator(".missing").count(), 0);
  const figures = (await texts(page, "#summary dd")).join(" ");
  assert.match(figures, /3 of 3/);
  assert.match(figures, /867,072/); // parameters of the model
  assert.deepEqual((await texts(page, "#map .site-name")).sort(), ["north", "south"]);
  assert.match((await texts(page, "#map .line-back + text")).join(), /1 Gbit\/s, 20 ms/);
  assert.equal(await page.locator("#islands tbody tr").count(), 2);
  for (const canvas of [".bars", ".overview"]) assert.ok((await coloursOf(page, `#timeline ${canvas}`)) > 4);
  for (const view of ["time", "memory"]) {
    assert.equal(await page.locator(`#${view} svg .row`).count(), 2);
    assert.ok((await page.locator(`#${view} svg .part`).count()) >= 8);
  }
  // The line is full while it carries the exchange.
  assert.equal(await page.locator("#round path.curve").count(), 2);
  assert.ok((await page.locator("#alternatives circle.dot").count()) >= 3);
  assert.equal(await page.locator("#alternatives circle.chosen").count(), 1);
  assert.equal(await page.locator("#run path.curve").count(), 6);
  for (const view of views) await screenshot(page, `demo-${view}`, view);
  await close();
});

test("every view draws 1,024 chips", async () => {
  const { page, close } = await open(browser, at("large.html"));
  assert.match((await texts(page, "#summary dd")).join(" "), /1,024 of 1,024.*98\.\d billion/);
  assert.equal(await page.locator("#islands tbody tr").count(), 64);
  assert.equal(await page.locator("#time svg .row").count(), 64);
  assert.ok((await page.locator("#memory svg .row").count()) > 10);
  assert.ok((await page.locator("#memory svg .row .limit").count()) > 10); // 80 GiB
  assert.match((await texts(page, "#round .missing")).join(), /one island trains alone/);
  for (const view of ["timeline", "time", "memory"]) await screenshot(page, `large-${view}`, view);
  await close();
});

test("curves tell their values by pointer and by keys, and zoom together", async () => {
  const { page, close } = await open(browser, at("faults.html"));
  const loss = page.getByRole("application", { name: /^Loss of each island/ });
  await loss.scrollIntoViewIfNeeded();
  const box = await loss.boundingBox();
  await page.mouse.move(box.x + box.width / 2, box.y + 100);
  const tip = page.locator("#tip");
  await tip.waitFor({ state: "visible" });
  assert.match(await tip.textContent(), /island 0 \(north\)\d\.\d{4}.*island 1 \(south\)/s);
  await page.mouse.move(5, 5);
  await loss.focus();
  await page.keyboard.press("End");
  assert.match(await tip.textContent(), /island 0 \(north\)2\.05/);
  // The fault is a mark on the axis of each curve, and a line of the table.
  assert.equal(await page.locator("#run .mark-head.fault").count(), 3);
  assert.match((await texts(page, "#run tbody tr")).join("|"), /rank failed.*killed by signal 9/);
  // Island 1 was away for two versions.
  const stale = page.getByRole("application", { name: /^Staleness/ });
  await stale.focus();
  const seen = new Set();
  for (let i = 0; i < 60; ++i) {
    await page.keyboard.press("ArrowRight");
    seen.add(/island 1 \(south\)(\d)/.exec(await tip.textContent())?.[1]);
  }
  assert.deepEqual([...seen].sort(), ["0", "1", "2"]);
  // A window drawn over one zooms all.
  const ticks = () => page.locator("#run figure").nth(1).locator(".tick").allTextContents();
  const whole = await ticks();
  await page.mouse.move(box.x + 300, box.y + 100);
  await page.mouse.down();
  await page.mouse.move(box.x + 500, box.y + 100, { steps: 4 });
  await page.mouse.up();
  assert.notDeepEqual(await ticks(), whole);
  await screenshot(page, "faults-run-zoomed", "run");
  await loss.dblclick();
  assert.deepEqual(await ticks(), whole);
  await page.getByRole("radio", { name: "by step" }).check();
  assert.match((await ticks()).join(), /step 20/);
  await screenshot(page, "faults-run", "run");
  await close();
});

test("bars, dots and sites tell about themselves by pointer and by keys", async () => {
  const { page, close } = await open(browser, at("demo.html"));
  const tip = page.locator("#tip");
  await page.locator("#alternatives circle.dot").last().hover({ force: true });
  await tip.waitFor({ state: "visible" });
  assert.match(await tip.textContent(), /strategy.*microbatch.*blocks.*memory/s);
  await page.locator("#memory .row").first().focus();
  assert.match(await tip.textContent(), /island 0, stage 0.*parameters.*MiB/s);
  await page.keyboard.press("ArrowDown");
  assert.match(await tip.textContent(), /island 1, stage 0/);
  await page.locator("#map g[role=img]").last().focus();
  assert.match(await tip.textContent(), /used/);
  await close();
});

test("plans stand side by side, on the same seconds", async () => {
  const { page, close } = await open(browser, at("both.html"));
  const heads = await texts(page, "#summary thead th");
  assert.deepEqual(heads, ["demo.plan", "large.plan"]);
  assert.ok((await page.locator("#summary .good, #summary .worse").count()) >= 2);
  const [left, right] = await Promise.all([0, 1].map((i) => page.locator("#memory .plan").nth(i).boundingBox()));
  assert.ok(left.x + left.width <= right.x && Math.abs(left.y - right.y) < 2);
  assert.equal(await page.locator("#timeline .scroller").count(), 2);
  const range = page.locator("#timeline output.range");
  const whole = await range.textContent();
  await page.locator("#timeline .scroller").first().focus();
  await page.keyboard.press("+");
  assert.notEqual(await range.textContent(), whole);
  await screenshot(page, "both");
  // On a narrow screen below each other, and nothing is wider than the screen.
  await page.setViewportSize({ width: 420, height: 900 });
  await frame(page);
  const [above, below] = await Promise.all([0, 1].map((i) => page.locator("#memory .plan").nth(i).boundingBox()));
  assert.ok(above.y + above.height <= below.y);
  assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 420);
  await screenshot(page, "narrow");
  await close();
});

test("what is missing is said where it would stand", async () => {
  const { page, close } = await open(browser, at("bare.html"));
  assert.match(await page.locator("#run .missing").textContent(), /Not shown: .*tombolo-run --metrics/);
  assert.match(await page.locator("#alternatives .missing").textContent(), /tombolo-plan --json/);
  assert.equal(await page.locator(".missing").count(), 2);
  assert.equal(await page.locator("#islands tbody tr").count(), 2);
  await close();
});

test("light and dark: as the system, and by the switch", async () => {
  const { page, close } = await open(browser, at("demo.html"), { colorScheme: "dark" });
  const brightness = () =>
    page.evaluate(() => {
      const luma = (colour) =>
        colour
          .match(/\d+/g)
          .slice(0, 3)
          .reduce((sum, part) => sum + Number(part), 0) / 765;
      const canvas = document.querySelector("#timeline .bars");
      const [r, g, b] = canvas.getContext("2d").getImageData(canvas.width - 3, 3, 1, 1).data;
      return [luma(getComputedStyle(document.querySelector("section")).backgroundColor), (r + g + b) / 765];
    });
  await frame(page);
  for (const part of await brightness()) assert.ok(part < 0.3);
  await screenshot(page, "demo-dark");
  await page.getByLabel("Theme").selectOption("light");
  await frame(page);
  for (const part of await brightness()) assert.ok(part > 0.9);
  await page.getByLabel("Theme").selectOption("system");
  await page.emulateMedia({ colorScheme: "light" });
  await frame(page);
  for (const part of await brightness()) assert.ok(part > 0.9);
  await close();
});

test("on paper it is light, and no view is cut off", async () => {
  const { page, close } = await open(browser, at("large.html"), { colorScheme: "dark" });
  await page.emulateMedia({ media: "print" });
  const heights = await page.evaluate(() => {
    dispatchEvent(new Event("beforeprint"));
    const scroller = document.querySelector("#timeline .scroller");
    return {
      theme: document.documentElement.dataset.theme,
      seen: scroller.clientHeight,
      table: getComputedStyle(document.querySelector("#islands .table")).maxHeight,
    };
  });
  assert.equal(heights.theme, "light");
  assert.ok(heights.seen > 1000);
  assert.equal(heights.table, "none");
  await page.evaluate(() => dispatchEvent(new Event("afterprint")));
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "dark");
  await close();
  const small = await open(browser, at("demo.html"), { colorScheme: "dark" });
  await small.page.pdf({ path: at("demo.pdf"), format: "A4", printBackground: true });
  await small.close();
});
