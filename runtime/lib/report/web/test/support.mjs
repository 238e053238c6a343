// Plans, reports and a browser for the tests of the page. Files and screenshots lie
// in TOMBOLO_REPORT_OUT (a folder of the build), and stay there.
import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const need = (name) => process.env[name] ?? assert.fail(`expected ${name} in the environment`);
export const source = need("TOMBOLO_SOURCE");
export const out = need("TOMBOLO_REPORT_OUT");
const bin = need("TOMBOLO_BIN");
// Nothing of an earlier build is taken for one of this.
rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });

export const at = (name) => join(out, name);
export const example = (name) => join(source, "examples", name);

/** Runs a program, which must end with status 0, in the folder of the tests. */
export function tool(name, ...args) {
  return execFileSync(join(bin, name), args, { cwd: out, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

/** Runs tombolo-report, however it ends. */
export function report(...args) {
  const { status, stderr } = spawnSync(join(bin, "tombolo-report"), args, { cwd: out, encoding: "utf8" });
  return { status, stderr };
}

/** A report, which must be written. */
export function makeReport(...args) {
  const { status, stderr } = report(...args);
  assert.equal(status, 0, stderr);
}

/** A file that is made once for all tests. */
function once(name, make) {
  if (!existsSync(at(name))) make();
  return at(name);
}

export const demoPlan = () =>
  once("demo.plan", () => {
    tool(
      "tombolo-model",
      "gpt",
      "--layers",
      "4",
      "--hidden",
      "128",
      "--heads",
      "4",
      "--vocab",
      "256",
      "--seq",
      "64",
      "--seed",
      "1",
      "-o",
      "gpt.onnx",
    );
    // Pages are looked at, not the search, which sees little between this and a pipeline.
    writeFileSync(
      at("demo.yaml"),
      "islands:\n" +
        "  - {sites: [north], stages: [{pool: north/a, data_parallel: 2, tensor_parallel: 1, blocks: 6}]}\n" +
        "  - {sites: [south], stages: [{pool: south/b, data_parallel: 1, tensor_parallel: 1, blocks: 6}]}\n",
    );
    tool(
      "tombolo-plan",
      "gpt.onnx",
      "--topology",
      example("two-sites.yaml"),
      "--strategy",
      "demo.yaml",
      "--global-batch",
      "24",
      "--lr",
      "1e-3",
      "-o",
      "demo.plan",
      "--json",
      "demo.json",
    );
  });

/** A GPT of 98 billion parameters on 1,024 chips. */
export const largePlan = () =>
  once("large.plan", () => {
    tool("tombolo-model", "gpt-100b", "--no-weights", "-o", "gpt-100b.onnx");
    tool(
      "tombolo-plan",
      "gpt-100b.onnx",
      "--topology",
      example("thousand-chips.yaml"),
      "--strategy",
      example("thousand-chips-strategy.yaml"),
      "--global-batch",
      "1024",
      "--precision",
      "bf16",
      "-o",
      "large.plan",
      "--json",
      "large.json",
    );
  });

const demoTokens = () =>
  once("tokens.bin", () => {
    const text = readFileSync(example("alice.txt"));
    const tokens = Buffer.alloc(2 * text.length);
    text.forEach((byte, i) => tokens.writeUInt8(byte, 2 * i));
    writeFileSync(at("tokens.bin"), tokens);
  });

/** A few real steps of the demo. */
export const demoRun = () =>
  once("metrics.jsonl", () => {
    demoPlan();
    demoTokens();
    tool(
      "tombolo-run",
      "local",
      "demo.plan",
      "--model",
      "gpt.onnx",
      "--data",
      "tokens.bin",
      "--steps",
      "30",
      "--metrics",
      "metrics.jsonl",
    );
  });

/** Gives what `find` finds, as soon as it finds something. */
export async function eventually(find, what) {
  const until = Date.now() + 120_000;
  for (;;) {
    const found = await find();
    if (found) return found;
    if (Date.now() > until) assert.fail(`${what} does not come`);
    await new Promise((done) => setTimeout(done, 20));
  }
}

/** Processes of the run whose command line has all of these words. */
export function processes(run, ...words) {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const line = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
        // Where a run started in this folder is told by its plan.
        return line.includes(run.plan) && words.every((word) => line.includes(word));
      } catch {
        return false; // it has just ended
      }
    })
    .map(Number);
}

/**
 * A run of `tombolo-run local` with a dashboard, of which the first rank of `site` stands still until
 * `go`, so that nobody comes too late; `halt` makes all ranks stand still again. `ended` tells its status
 * and what it wrote to stderr.
 */
export async function startRun(plan, site, ...args) {
  demoTokens();
  const run = { plan: at(plan), url: "" };
  const dashboard = args.includes("--dashboard") ? [] : ["--dashboard", "0"];
  const child = spawn(
    join(bin, "tombolo-run"),
    [
      ...["local", run.plan, "--model", at("gpt.onnx"), "--data", at("tokens.bin")],
      ...["--stall-seconds", "600"], // those stand still on purpose
      ...dashboard,
      ...args,
    ],
    { cwd: out, stdio: ["ignore", "ignore", "pipe"] },
  );
  let stderr = "";
  child.stderr.on("data", (text) => (stderr += text));
  let status;
  run.ended = new Promise((done) => child.on("close", (code) => done({ status: (status = code), stderr })));
  run.url = await eventually(() => {
    assert.equal(status, undefined, stderr);
    return /dashboard at (\S+)/.exec(stderr)?.[1];
  }, "the dashboard");
  const agent = ["site", "--site", site];
  await eventually(() => processes(run, ...agent)[0], `the agent of ${site}`);
  const ranks = (...words) =>
    processes(run, ...words).flatMap((pid) =>
      readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").filter(Boolean).map(Number),
    );
  const [first] = await eventually(() => (ranks(...agent).length > 0 ? ranks(...agent) : null), `a rank of ${site}`);
  let still = [first];
  process.kill(first, "SIGSTOP");
  run.halt = () => {
    still = ranks("site");
    still.forEach((rank) => process.kill(rank, "SIGSTOP"));
  };
  run.go = () => still.forEach((rank) => process.kill(rank, "SIGCONT"));
  run.killAgent = () => process.kill(processes(run, ...agent)[0], "SIGKILL");
  run.end = () => child.kill("SIGKILL");
  return run;
}

export const launch = () =>
  chromium.launch({
    executablePath: need("TOMBOLO_CHROMIUM"),
    // Tests run as root in a container; the pages are our own.
    args: ["--no-sandbox", "--disable-dev-shm-usage"],
  });

/** Opens a report from disk; what it says on the console, and what it asks the network for, fails the test in `close`. */
export const open = (browser, file, options = {}) => visit(browser, pathToFileURL(file).href, /^(file|data):/, options);

/** The page of a run, which may ask for its events. */
export const follow = (browser, { url }, options = {}) =>
  visit(browser, url, { test: (asked) => asked === url || asked === url.replace(/\/(\?|$)/, "/events$1") }, options);

async function visit(browser, url, allowed, options) {
  const context = await browser.newContext({
    viewport: { width: 1400, height: 900 },
    colorScheme: "light",
    ...options,
  });
  const page = await context.newPage();
  // On a machine that does other things as well.
  page.setDefaultTimeout(120_000);
  const faults = [];
  page.on("console", (message) => {
    // The second is about tests that read what a canvas shows.
    if (["error", "warning"].includes(message.type()) && !message.text().includes("willReadFrequently"))
      faults.push(message.text());
  });
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("request", (request) => {
    if (!allowed.test(request.url())) faults.push(`asks for ${request.url()}`);
  });
  await page.goto(url);
  await page.waitForFunction(() => document.documentElement.dataset.drawn === "yes");
  return {
    page,
    close: async () => {
      await context.close();
      assert.deepEqual(faults, []);
    },
  };
}

/** Lets a frame be drawn. */
export const frame = (page) =>
  page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));

/** Of a section, or of the whole page. */
export async function screenshot(page, name, section) {
  // The header would stay where the page is scrolled to.
  await page.evaluate(() => {
    document.querySelector("header").style.position = "static";
  });
  await frame(page);
  const path = at(`${name}.png`);
  if (section) await page.locator(`#${section}`).screenshot({ path });
  else await page.screenshot({ path, fullPage: true });
}

/** How many different colours a canvas shows: 1 where nothing is drawn. */
export const coloursOf = (page, selector) =>
  page.evaluate((at) => {
    const canvas = document.querySelector(at);
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const seen = new Set();
    for (let i = 0; i < data.length; i += 4) seen.add((data[i] << 16) | (data[i + 1] << 8) | data[i + 2]);
    return seen.size;
  }, selector);
