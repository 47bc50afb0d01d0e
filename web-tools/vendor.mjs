// Copies the libraries that the pages need from node_modules into microtome/web/static/vendor, with their licences, and writes
// vendor.json: package, version, licence, sha256 of the original file and of ours; a one-line .d.ts points the type check at the
// package's own types. `--check` compares instead of writing.
//
// The pages have no build step and no import map (the content policy forbids inline scripts), so bare names such as "preact" are
// rewritten to relative ones and the pointers to source maps are dropped. Nothing else is changed.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, "../microtome/web/static/vendor");
const modules = join(here, "node_modules");

const files = [
  { name: "preact", package: "preact", file: "dist/preact.mjs" },
  { name: "hooks", package: "preact", file: "hooks/dist/hooks.mjs", types: "preact/hooks" },
  { name: "signals-core", package: "@preact/signals-core", file: "dist/signals-core.mjs" },
  { name: "signals", package: "@preact/signals", file: "dist/signals.mjs" },
  { name: "htm", package: "htm", file: "dist/htm.mjs" },
];
const relative = { preact: "./preact.js", "preact/hooks": "./hooks.js", "@preact/signals-core": "./signals-core.js" };

const sha256 = (/** @type {string} */ text) => createHash("sha256").update(text).digest("hex");

function rewritten(/** @type {string} */ source) {
  return source
    .replace(/\bfrom\s*"([^".][^"]*)"/g, (whole, name) => {
      const target = relative[name];
      if (target === undefined) throw new Error(`no vendored file for "${name}"`);
      return `from"${target}"`;
    })
    .replace(/\n?\/\/# sourceMappingURL=.*\s*$/, "\n");
}

/** @type {Map<string, string>} */
const wanted = new Map();
const record = [];
for (const entry of files) {
  const folder = join(modules, entry.package);
  const about = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const original = readFileSync(join(folder, entry.file), "utf8");
  const ours = rewritten(original);
  const licence = `LICENSE.${entry.package.replace("@", "").replace("/", "-")}`;
  wanted.set(`${entry.name}.js`, ours);
  wanted.set(`${entry.name}.d.ts`, `export * from "${entry.types ?? entry.package}";${entry.name === "htm" ? ' export { default } from "htm";' : ""}\n`);
  wanted.set(licence, readFileSync(join(folder, "LICENSE"), "utf8"));
  record.push({
    file: `${entry.name}.js`, package: entry.package, version: about.version, licence: about.license, licence_file: licence,
    original: entry.file, original_sha256: sha256(original), sha256: sha256(ours),
  });
}
wanted.set("vendor.json", JSON.stringify(record, null, 1) + "\n");

const check = process.argv.includes("--check");
const stale = [...wanted].filter(([name, text]) => !existsSync(join(out, name)) || readFileSync(join(out, name), "utf8") !== text);
if (check) {
  for (const [name] of stale) console.error(`${name} differs from the locked package; run: npm run vendor`);
  process.exit(stale.length ? 1 : 0);
}
mkdirSync(out, { recursive: true });
for (const [name, text] of wanted) writeFileSync(join(out, name), text);
console.log(`${wanted.size} files, ${stale.length} changed`);
