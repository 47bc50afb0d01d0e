// Runs the reader of circuit-tracer's own pages on a folder, as if it were a hub repository: node circuit_tracer_.mjs ASSETS FEATURES LAYER NUMBER…
// Stood in for: the browser's fetch (from the folder, with inclusive byte ranges), pako (Node's zlib), the parts of d3 that only draw.
import fs from "node:fs";
import path from "node:path";
import vm from "node:vm";
import zlib from "node:zlib";

const [assets, features, layer, ...numbers] = process.argv.slice(2);

async function fromFolder(url, options = {}) {
  const file = path.join(features, url.split("/features/")[1]);
  if (!fs.existsSync(file)) return { ok: false, status: 404 };
  let bytes = fs.readFileSync(file);
  const range = /bytes=(\d+)-(\d+)/.exec(options.headers?.Range ?? "");
  if (range) bytes = bytes.subarray(Number(range[1]), Number(range[2]) + 1);
  return { ok: true, status: 200, arrayBuffer: async () => Uint8Array.from(bytes).buffer };
}
const pako = { inflate: (bytes, { to }) => zlib.unzipSync(Buffer.from(bytes)).toString(to === "string" ? "utf8" : to) };
const chain = new Proxy(function () {}, { get: () => chain, apply: () => chain });
const window = { location: { hostname: "example.org", href: "http://example.org/" }, initFeatureExamplesLogits() {}, initFeatureExamplesList() {} };
const context = vm.createContext({ window, fetch: fromFolder, pako, d3: chain, console, TextDecoder, TextEncoder, Uint8Array, URL });
vm.runInContext("Object.defineProperty(globalThis, 'util', { get: () => window.util })", context);
for (const name of ["util.js", "feature_examples/init-feature-examples.js", "feature_examples/init-feature-examples-list.js"]) {
  vm.runInContext(fs.readFileSync(path.join(assets, name), "utf8"), context);
}

// the merging of escaped bytes, which its list of examples keeps to itself
const list = fs.readFileSync(path.join(assets, "feature_examples/init-feature-examples-list.js"), "utf8");
const inner = /function maybeHexEscapedToBytes[\s\S]*?\n  function mergeConsecutive/.exec(list)[0].replace(/function mergeConsecutive$/, "");
const merge = vm.runInContext(`(() => { ${inner}; return mergeHexEscapedMax })()`, context);

const { loadFeature } = window.initFeatureExamples({ containerSel: chain });
const found = {};
for (const number of numbers.map(Number)) {
  const sum = Number(layer) + number;
  const feature = await loadFeature("org/repo//set@main", (sum * (sum + 1)) / 2 + number);
  if (feature.index !== number) throw new Error(`asked for ${number}, got ${feature.index}`);
  const examples = feature.examples_quantiles.flatMap((quantile) => quantile.examples);
  found[number] = { texts: examples.map((one) => merge(one.tokens, one.tokens_acts_list).map((each) => each.token).join("")), top_logits: feature.top_logits };
}
console.log(JSON.stringify(found));
