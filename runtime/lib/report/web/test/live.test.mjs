// The page of a run that goes on, in a browser: real runs of tombolo-run local.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { after, before, test } from "node:test";
import {
  at,
  demoPlan,
  eventually,
  example,
  follow,
  frame,
  launch,
  processes,
  screenshot,
  startRun,
  tool,
} from "./support.mjs";
import { renamed } from "./planfile.mjs";
import { seriousViolations } from "./axe.mjs";

let browser;
const runs = [];
before(async () => {
  demoPlan();
  browser = await launch();
});
after(async () => {
  runs.forEach((run) => run.end()); // where a test has failed
  await browser?.close();
});
async function start(...args) {
  const run = await startRun(...args);
  runs.push(run);
  return run;
}

const connection = (page) => page.locator("#now .connection");
/** What the table says of an island, by column. */
const now = (page, island) =>
  page.evaluate((i) => {
    const heads = [...document.querySelectorAll("#now thead th")].map((head) => head.textContent);
    const cells = [...(document.querySelectorAll("#now tbody tr")[i]?.cells ?? [])].map((cell) => cell.textContent);
    return Object.fromEntries(heads.map((head, k) => [head, cells[k]]));
  }, island);
const stepsOf = async (page, island) => Number.parseInt((await now(page, island)).Step ?? "0", 10);
const lastLine = (name) => readFileSync(at(name), "utf8").trim().split("\n").map(JSON.parse);

test("a page follows a run to its end, and is accessible meanwhile", async () => {
  const run = await start("demo.plan", "south", "--steps", "60", "--metrics", "live.jsonl");
  const { page, close } = await follow(browser, run);
  await connection(page).getByText("Live: this page follows the run.").waitFor();
  const table = page.getByRole("region", { name: /now$/ });
  await table.waitFor();
  assert.deepEqual(await seriousViolations(page), []);
  await page.emulateMedia({ colorScheme: "dark" });
  await frame(page);
  run.go();
  await eventually(async () => (await stepsOf(page, 0)) >= 10, "step 10");
  // However long the page is looked at, steps are left.
  run.halt();
  assert.deepEqual(await seriousViolations(page), []);
  await screenshot(page, "live-dark");
  // A zoom stays while the run goes on.
  const loss = page.getByRole("application", { name: /^Loss of each island/ });
  const ticks = () => page.locator("#run figure").first().locator(".tick").allTextContents();
  await loss.focus();
  await page.keyboard.press("Home");
  await page.keyboard.press("+");
  await page.keyboard.press("+");
  const zoomed = (await ticks()).at(-1);
  const steps = await stepsOf(page, 0);
  run.go();
  await eventually(async () => (await stepsOf(page, 0)) >= steps + 5, "five steps more");
  assert.equal((await ticks()).at(-1), zoomed);
  await page.keyboard.press("0");
  await connection(page).getByText("The run is over: all its steps are done.").waitFor();
  const { status, stderr } = await run.ended;
  assert.equal(status, 0, stderr);
  for (const island of [0, 1]) {
    const told = await now(page, island);
    assert.equal(told.Step, "60 of 60");
    assert.equal(told.State, "done");
    assert.equal(told.Behind, "0");
    const last = lastLine("live.jsonl").findLast((line) => line.island === island && line.step === 59);
    assert.equal(told.Loss, last.loss.toFixed(4));
  }
  await page.getByRole("radio", { name: "by step" }).check();
  await loss.focus();
  await page.keyboard.press("End");
  const last = lastLine("live.jsonl").findLast((line) => line.island === 0 && line.step === 59);
  assert.match(await page.locator("#tip").textContent(), new RegExp(`^step 59island 0 .*${last.loss.toFixed(4)}`));
  assert.equal(await page.locator("#run path.curve").count(), 6);
  // What the plan says is there as in a report.
  assert.equal(await page.locator("#islands tbody tr").count(), 2);
  assert.match(await page.locator("#alternatives .missing").textContent(), /a run does not know it/);
  await page.emulateMedia({ colorScheme: "light" });
  await frame(page);
  assert.deepEqual(await seriousViolations(page), []);
  await screenshot(page, "live-end");
  await close();
});

test("a page shows that a site was killed and has come back", async () => {
  const run = await start(
    "demo.plan",
    "south",
    ...["--steps", "60", "--metrics", "killed.jsonl"],
    ...["--restarts", "1", "--checkpoint-dir", "saved", "--checkpoint-every", "5"],
  );
  const { page, close } = await follow(browser, run);
  await connection(page).getByText("Live").waitFor();
  run.go();
  await eventually(async () => (await stepsOf(page, 1)) >= 8, "step 8");
  run.killAgent();
  const events = page.getByRole("region", { name: /^Events of/ });
  await events.getByText(/the agent of site south .* was killed/).waitFor();
  assert.ok((await page.locator("#run .mark-head.fault").count()) >= 3);
  await screenshot(page, "live-killed");
  await connection(page).getByText("The run is over: all its steps are done.").waitFor();
  const { status, stderr } = await run.ended;
  assert.equal(status, 0, stderr);
  for (const island of [0, 1]) {
    const told = await now(page, island);
    assert.deepEqual([told.Step, told.Restarts], ["60 of 60", String(island)]);
  }
  // Steps that were done again stand there once.
  await page.getByRole("radio", { name: "by step" }).check();
  const written = lastLine("killed.jsonl").filter((line) => line.island === 1 && !line.event);
  assert.deepEqual(
    written.map((line) => line.step),
    [...Array(60).keys()],
  );
  await screenshot(page, "live-killed-end");
  await close();
});

test("a page shows why a run has failed", async () => {
  const run = await start("demo.plan", "south", "--steps", "1000");
  const { page, close } = await follow(browser, run);
  await connection(page).getByText("Live").waitFor();
  run.killAgent();
  await connection(page).getByText("The run has ended before all its steps were done.").waitFor();
  const { status, stderr } = await run.ended;
  assert.equal(status, 3);
  const message = /the agent of site south \(pid \d+\) was killed by signal 9 \(Killed\)/;
  assert.match(stderr, message);
  await page
    .getByRole("row", { name: /run failed/ })
    .getByText(message)
    .waitFor();
  await close();
});

test("who has lost the run says so, and finds it again", async () => {
  const run = await start("demo.plan", "south", "--steps", "1000");
  const { page, close } = await follow(browser, run);
  await connection(page).getByText("Live").waitFor();
  run.end();
  await run.ended;
  await eventually(() => processes(run).length === 0, "the end of all that the run had started");
  await connection(page).getByText("The run does not answer. Trying again").waitFor();
  const port = new URL(run.url).port;
  const again = await start("demo.plan", "south", "--steps", "1000", "--dashboard", port);
  await connection(page).getByText("Live").waitFor();
  again.end();
  await again.ended;
  // That nobody answered stands on the console.
  await assert.rejects(close(), /ERR_(CONNECTION_REFUSED|INCOMPLETE_CHUNKED_ENCODING)/);
});

test("with a token, from elsewhere; without it not at all", async () => {
  const run = await start("demo.plan", "south", "--steps", "1000", "--dashboard-host", "0.0.0.0");
  const { page, close } = await follow(browser, run);
  await connection(page).getByText("Live").waitFor();
  await close();
  const context = await browser.newContext();
  const stranger = await context.newPage();
  const answer = await stranger.goto(run.url.replace(/\?.*/, ""));
  assert.equal(answer.status(), 403);
  assert.equal((await answer.text()).trim(), "expected ?token= as tombolo-run has printed it");
  await context.close();
  run.end();
  await run.ended;
});

test("names of a running plan become no elements", async () => {
  const plain = { first: "north".padEnd(40, "_"), second: "south".padEnd(40, "_") };
  const hostile = { first: "<img src=x onerror=window.pwned=1>", second: "</script><script>window.pwned=2</script>" };
  const topology = readFileSync(example("two-sites.yaml"), "utf8")
    .replaceAll(/\bnorth\b/g, plain.first)
    .replaceAll(/\bsouth\b/g, plain.second);
  writeFileSync(at("plain.yaml"), topology);
  tool("tombolo-plan", "gpt.onnx", "--topology", "plain.yaml", "--global-batch", "24", "-o", "plain.plan");
  const names = Object.keys(plain).map((key) => [plain[key], hostile[key].padEnd(40, "_")]);
  writeFileSync(at("hostile.plan"), renamed(readFileSync(at("plain.plan")), names));
  const run = await start("hostile.plan", names[1][1], "--steps", "6", "--metrics", "hostile.jsonl");
  const { page, close } = await follow(browser, run);
  await connection(page).getByText("Live").waitFor();
  run.go();
  await connection(page).getByText("The run is over").waitFor();
  assert.equal((await run.ended).status, 0);
  assert.equal((await now(page, 0)).Sites, names[0][1]);
  assert.equal(await page.evaluate(() => window.pwned), undefined);
  assert.equal(await page.locator("img").count(), 0);
  assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 1400);
  await close();
});
