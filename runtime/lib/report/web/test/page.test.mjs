import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { at, coloursOf, demoPlan, frame, largePlan, launch, open, report, screenshot } from "./support.mjs";

let browser;
before(async () => {
  demoPlan();
  largePlan();
  assert.equal(report("demo.plan", "--json", "demo.json", "-o", "demo.html").status, 0);
  assert.equal(report("large.plan", "--json", "large.json", "-o", "large.html").status, 0);
  browser = await launch();
});
after(() => browser?.close());

/** Clicks a heading of the first table and tells its column's cells. */
async function sortBy(page, title) {
  await page.getByRole("columnheader", { name: title, exact: true }).first().getByRole("button").click();
  return page.evaluate((name) => {
    const table = document.querySelector("#islands table");
    const heads = [...table.querySelectorAll("th")];
    const column = heads.findIndex((head) => head.textContent.trim() === name);
    return {
      sort: heads[column].getAttribute("aria-sort"),
      cells: [...table.querySelectorAll("tbody tr")].map((row) => row.cells[column].textContent),
    };
  }, title);
}

test("the table of stages sorts both ways", async () => {
  const { page, close } = await open(browser, at("large.html"));
  const up = await sortBy(page, "Waiting");
  assert.equal(up.sort, "ascending");
  assert.equal(up.cells.length, 64);
  const figures = up.cells.map(parseFloat);
  assert.deepEqual(
    figures,
    [...figures].sort((a, b) => a - b),
  );
  const down = await sortBy(page, "Waiting");
  assert.equal(down.sort, "descending");
  assert.equal(down.cells[0], up.cells.at(-1));
  assert.notEqual(down.cells[0], down.cells.at(-1));
  // By keyboard.
  await page.getByRole("columnheader", { name: "Stage", exact: true }).getByRole("button").focus();
  await page.keyboard.press("Enter");
  assert.equal(await page.locator("#islands tbody tr").first().locator("td").nth(1).textContent(), "0");
  await close();
});

test("the timeline shows every kind of work, zooms, and tells what is under the pointer", async () => {
  const { page, close } = await open(browser, at("large.html"));
  const bars = page.locator("#timeline .bars");
  await bars.scrollIntoViewIfNeeded();
  await frame(page);
  assert.ok((await coloursOf(page, "#timeline .bars")) > 5);
  assert.ok((await coloursOf(page, "#timeline .overview")) > 4);
  await screenshot(page, "timeline-large", "timeline");

  const range = page.locator("#timeline output.range");
  const whole = await range.textContent();
  await page.getByRole("button", { name: "zoom in", exact: true }).click();
  const closer = await range.textContent();
  assert.notEqual(closer, whole);
  await page.getByRole("button", { name: "whole step" }).click();
  assert.equal(await range.textContent(), whole);

  const box = await bars.boundingBox();
  await page.mouse.move(box.x + 800, box.y + 70);
  await page.keyboard.down("Control");
  await page.mouse.wheel(0, -400);
  await page.keyboard.up("Control");
  assert.notEqual(await range.textContent(), whole);
  await bars.dblclick({ position: { x: 900, y: 70 } });
  await frame(page);
  await screenshot(page, "timeline-large-zoomed", "timeline");
  const before = await range.textContent();
  await page.mouse.move(box.x + 600, box.y + 70);
  await page.mouse.down();
  await page.mouse.move(box.x + 700, box.y + 70, { steps: 4 });
  await page.mouse.up();
  assert.notEqual(await range.textContent(), before);
  // A window drawn on the strip of all ranks.
  await page.getByRole("button", { name: "whole step" }).click();
  const strip = await page.locator("#timeline .overview").boundingBox();
  await page.mouse.move(strip.x + 300, strip.y + 20);
  await page.mouse.down();
  await page.mouse.move(strip.x + 500, strip.y + 20, { steps: 4 });
  await page.mouse.up();
  assert.notEqual(await range.textContent(), whole);

  await page.getByRole("button", { name: "whole step" }).click();
  await page.mouse.move(box.x + 260, box.y + 74);
  const tip = page.locator("#tip");
  await tip.waitFor({ state: "visible" });
  assert.match(await tip.textContent(), /forward, microbatch \d+.*stage 1.*rank 16 and 15 like it/s);
  await close();
});

test("the timeline is walked by keys alone", async () => {
  const { page, close } = await open(browser, at("large.html"));
  const timeline = page.getByRole("application", { name: /timeline of/ });
  const status = page.locator("#timeline .status");
  await timeline.focus();
  await page.keyboard.press("ArrowRight");
  const first = await status.textContent();
  await page.keyboard.press("ArrowRight");
  const second = await status.textContent();
  assert.match(second, /microbatch \d+: where island 0, stage 0/);
  assert.notEqual(first, second);
  await page.keyboard.press("ArrowDown");
  assert.match(await status.textContent(), /stage 1/);
  const range = page.locator("#timeline output.range");
  const whole = await range.textContent();
  await page.keyboard.press("+");
  assert.notEqual(await range.textContent(), whole);
  await page.keyboard.press("0");
  assert.equal(await range.textContent(), whole);
  await close();
});
