// Puts src/ together as page.html: one file, with a place for the data of a report.
import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { build } from "esbuild";

// What Page.cpp fills in.
const place = "@TOMBOLO_REPORT_DATA@";
const connect = "@TOMBOLO_REPORT_CONNECT@";
const bundle = async (entry) => {
  const result = await build({
    entryPoints: [entry],
    bundle: true,
    write: false,
    minify: true,
    format: "iife",
    target: "es2022",
    charset: "utf8",
    legalComments: "none",
    logLevel: "warning",
  });
  return result.outputFiles[0].text.trim();
};
const script = await bundle("src/main.ts");
const style = await bundle("src/style.css");
for (const [name, text, end] of [
  ["script", script, "</script"],
  ["style", style, "</style"],
])
  if (text.toLowerCase().includes(end) || text.includes("@TOMBOLO_REPORT"))
    throw new Error(`the ${name} contains '${end}' or a place to be filled in, which would break the page`);

// The browser runs this one script and nothing else, whatever stands in the data.
const hash = createHash("sha256").update(script).digest("base64");
const policy =
  `default-src 'none'; script-src 'sha256-${hash}'; style-src 'unsafe-inline'; ` +
  `img-src data:; ${connect}base-uri 'none'; form-action 'none'`;
// Licences of what is in the bundle.
const licences = [];
const { dependencies } = JSON.parse(await readFile("package.json", "utf8"));
const seen = new Set();
const visit = async (name) => {
  if (seen.has(name)) return;
  seen.add(name);
  const folder = `node_modules/${name}`;
  const about = JSON.parse(await readFile(`${folder}/package.json`, "utf8"));
  const text = await readFile(`${folder}/LICENSE`, "utf8");
  const owner = text.split("\n").find((line) => line.startsWith("Copyright")) ?? "";
  licences.push(`${name} ${about.version}, ${about.license}. ${owner}`);
  for (const next of Object.keys(about.dependencies ?? {})) await visit(next);
};
for (const name of Object.keys(dependencies)) await visit(name);
if (licences.some((text) => text.includes("--"))) throw new Error("a licence would end its comment");

await writeFile(
  "page.html",
  `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Tombolo report</title>
<!-- With the packages, under their own licences:
${licences.sort().join("\n")}
-->
<style>${style}</style>
</head>
<body>
<noscript>This page draws its figures with JavaScript, which is switched off.</noscript>
<div id="page"></div>
<script type="application/json" id="data">${place}</script>
<script>${script}</script>
</body>
</html>
`,
);
