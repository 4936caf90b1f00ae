// Reads the output of `npm pack --dry-run --json`. Fails if the package lacks a file that users
// need or that `exports` in package.json names, or if it contains a file that no user needs.

import { readFileSync } from "node:fs";

const manifest = JSON.parse(readFileSync("package.json", "utf8"));
const text = readFileSync(0, "utf8");
const [packed] = JSON.parse(text.slice(text.indexOf("[")));
const files = new Set(packed.files.map(({ path }) => path));

/** Returns the files to which an entry of `exports` refers. */
function targets(entry) {
  return typeof entry === "string" ? [entry] : Object.values(entry).flatMap(targets);
}

const needed = [
  "README.md",
  "CHANGELOG.md",
  "LICENSE",
  "WEB.md",
  "assets/devices/session-devices.js",
  ...Object.values(manifest.exports).flatMap(targets),
].map((path) => path.replace(/^\.\//, ""));
const missing = needed.filter((path) => !files.has(path));
const known = /^(assets\/|dist\/|[A-Z]+\.md$|LICENSE$|package\.json$)/;
const foreign = [...files].filter((path) => !known.test(path));

for (const path of missing) console.error(`the package lacks ${path}`);
for (const path of foreign) console.error(`the package holds ${path}`);
if (missing.length + foreign.length > 0) process.exit(1);
