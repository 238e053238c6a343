#!/usr/bin/env node
// Time to write the report of 100 B models on 1,024 chips, its size, and the time
// until Chromium has drawn every view of it, of which so much is work of the page's
// thread (the best and the worst of five):
//   utils/build && benchmarks/report_page.mjs
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const build = process.env.TOMBOLO_BUILD ?? join(root, "build/dev");
const { chromium } = createRequire(join(build, "runtime/lib/report/web/package.json"))("playwright-core");
const folder = mkdtempSync(join(tmpdir(), "report-"));
const run = (program, ...args) => execFileSync(join(build, "bin", program), args, { cwd: folder, stdio: "ignore" });
const seconds = (since) => (performance.now() - since) / 1000;

const browser = await chromium.launch({
  executablePath: process.env.TOMBOLO_CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-dev-shm-usage"],
});
for (const [preset, strategy] of [
  ["gpt-100b", "thousand-chips-strategy"],
  ["llama-100b", "llama-100b-strategy"],
]) {
  run("tombolo-model", preset, "--no-weights", "-o", "m.onnx");
  run("tombolo-plan", "m.onnx", "--topology", join(root, "examples/thousand-chips.yaml"), "--strategy",
    join(root, `examples/${strategy}.yaml`), "--global-batch", "1024", "--precision", "bf16", "-o", "p.plan", "--json", "p.json");
  const written = performance.now();
  run("tombolo-report", "p.plan", "--json", "p.json", "-o", "report.html");
  const write = seconds(written);
  const file = join(folder, "report.html");
  const opened = [], worked = [];
  for (let i = 0; i < 5; ++i) {
    const context = await browser.newContext({ viewport: { width: 1400, height: 900 } });
    const page = await context.newPage();
    const session = await context.newCDPSession(page);
    await session.send("Performance.enable", { timeDomain: "threadTicks" });
    const begin = performance.now();
    await page.goto(pathToFileURL(file).href);
    await page.waitForFunction(() => document.documentElement.dataset.drawn === "yes");
    opened.push(seconds(begin));
    const { metrics } = await session.send("Performance.getMetrics");
    worked.push(metrics.find(({ name }) => name === "TaskDuration").value);
    await context.close();
  }
  const size = (statSync(file).size / 2 ** 20).toFixed(1);
  const range = (values) => `${Math.min(...values).toFixed(2)} to ${Math.max(...values).toFixed(2)} s`;
  console.log(`${preset}: written in ${write.toFixed(2)} s, ${size} MiB, drawn in ${range(opened)}, ${range(worked)} of one core`);
}
await browser.close();
rmSync(folder, { recursive: true });
