// Opens pages in headless Chromium: light and dark, desktop and phone. For every page and look it
// runs axe, measures whether anything is wider than the window, counts requests, takes a picture.
// node report_check.mjs CHROMIUM FOLDER PAGE...   run in a folder with axe-core and puppeteer-core.
import fs from "node:fs";
import path from "node:path";
import { createRequire } from "node:module";

const [, , chromium, folder, ...files] = process.argv;
const require = createRequire(path.join(process.cwd(), "x.js"));
const puppeteer = require("puppeteer-core");
const axe = require("axe-core");
const RULES = { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] };
const LOOKS = [];
for (const [width, height] of [[1200, 900], [390, 844]]) {
  for (const scheme of ["light", "dark"]) LOOKS.push({ width, height, scheme });
}

const browser = await puppeteer.launch({ executablePath: chromium, args: ["--no-sandbox"] });
const found = [];
for (const file of files) {
  for (const look of LOOKS) {
    const page = await browser.newPage();
    const requests = [];
    page.on("request", (request) => requests.push(request.url()));
    await page.setBypassCSP(true); // axe is a script, and the page allows none
    await page.setViewport({ width: look.width, height: look.height });
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: look.scheme }]);
    await page.goto("file://" + path.resolve(file));
    await page.evaluate(() => document.querySelectorAll("details").forEach((d) => (d.open = true)));
    const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    await page.evaluate(axe.source);
    const result = await page.evaluate((rules) => axe.run(document, rules), RULES);
    await page.evaluate(() => document.querySelectorAll("details").forEach((d) => (d.open = false)));
    const name = path.basename(file, ".html");
    const picture = path.join(folder, `${name}-${look.width}-${look.scheme}.png`);
    await page.screenshot({ path: picture, fullPage: true });
    found.push({
      page: name, ...look, picture, wider,
      requests: requests.filter((url) => !url.startsWith("file:") && !url.startsWith("data:")),
      passes: result.passes.length,
      undecided: result.incomplete.flatMap((rule) => [
        ...new Set(rule.nodes.flatMap((n) => n.any.map((c) => `${rule.id}: ${c.data?.messageKey ?? c.message}`))),
      ]),
      violations: result.violations.map((rule) => ({
        id: rule.id, impact: rule.impact, help: rule.help, count: rule.nodes.length,
        example: rule.nodes[0].html.slice(0, 300), why: rule.nodes[0].failureSummary,
      })),
    });
    await page.close();
  }
}
const version = await browser.version();
await browser.close();
fs.writeSync(1, JSON.stringify({ axe: axe.version, browser: version, found }, null, 1));
