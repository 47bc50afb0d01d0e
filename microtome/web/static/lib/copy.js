// The server's part in a copy on a plain web host: its answers stand in files beside the pages (see microtome/web/copy.py).
import { select } from "./filter.js";

/** @typedef {import("./api.js").FourParts} FourParts */
/** @typedef {{ value: any } | { parts: FourParts }} Answer */

const ABOUT = document.querySelector('meta[name="microtome-copy"]');
const BASE = ABOUT?.getAttribute("content") ?? "";

/** Whether these pages are such a copy. */
export const isCopy = BASE !== "";

/** Those of its pages that another copy may lack. */
const PAGES = ABOUT?.getAttribute("data-pages")?.split(" ") ?? [];

/** Whether a page of an index can be shown here: in a copy, only if it was written. @param {string} name */
export const isThere = (name) => !isCopy || PAGES.includes(name);

const KEPT = 96;
const LISTED = 60;
/** @type {Map<string, Promise<any>>} */
const files = new Map();

/** A file of the copy, unpacked; the last ones are kept. @param {string} name @returns {Promise<any>} */
function file(name) {
  const known = files.get(name);
  if (known) return known;
  const coming = load(name);
  files.set(name, coming);
  coming.catch(() => files.delete(name));
  for (const old of files.keys()) {
    if (files.size <= KEPT) break;
    if (!old.startsWith("table/") && old !== "site") files.delete(old);
  }
  return coming;
}

/** @param {string} name */
async function load(name) {
  const response = await fetch(`${BASE}${name}.json.gz`).catch(() => null);
  if (!response?.ok) throw new Gone(`data/${name}.json.gz`, response ? `status ${response.status}` : "no connection");
  const bytes = new Uint8Array(await response.arrayBuffer());
  const isPacked = bytes[0] === 0x1f && bytes[1] === 0x8b; // some hosts unpack by themselves
  if (!isPacked) return JSON.parse(new TextDecoder().decode(bytes));
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(unpacked).text());
}

/** A file that the host does not give. */
class Gone extends Error {
  /** @param {string} name @param {string} got */
  constructor(name, got) {
    super(name);
    /** @type {FourParts} */
    this.parts = { error: "FileMissing", what: `the host does not give ${name}.`, got, wanted: "a file of this copy", do: "Put the whole folder on the host again." };
  }
}

/** @param {string} what @returns {FourParts} */
const notHere = (what) => ({
  error: "NotInThisCopy",
  what: `${what} is not in this copy.`,
  got: null,
  wanted: null,
  do: "Open the index itself with `microtome serve`, or export it again with more in it: `microtome export --to static --help`.",
});

/** What is said of questions that only the server can answer. @param {string} url @returns {FourParts} */
export const needsServer = (url) => notHere(/test|search|steer/.test(url) ? "the model" : "what this asks for");

/** The answer to a question of the pages. @param {string} url as they ask the server @returns {Promise<Answer>} */
export async function answer(url) {
  const [path, query] = url.replace("#", "").split("?");
  const parts = path.split("/").slice(4).map(decodeURIComponent);
  const asked = new URLSearchParams(query ?? "");
  try {
    if (path === "/api") return { value: await file("home") };
    const name = decodeURIComponent(path.split("/")[3] ?? "");
    const site = await file("site");
    if (!path.startsWith("/api/s/") || name !== site.index) return { parts: notHere(`"${name}"`) };
    if (parts.length === 0) return { value: await file("overview") };
    if (parts[0] === "features") return await table(site, asked);
    if (parts[0] === "documents") return { value: listing(site, asked) };
    if (parts[0] === "f" && parts.length === 2) return await card(site, Number(parts[1]));
    if (parts[0] === "f" && parts.length === 3) return await relation(site, Number(parts[1]), [parts[2], asked.get("rank")].filter(Boolean).join(" "));
    if (parts[0] === "select") return await selected(site, asked);
    if (parts.length === 1 && isThere(parts[0])) return { value: await file(parts[0]) };
    if (parts.join("/") === "odd/ablation" && isThere("ablation")) return { value: await file("ablation") };
    if (parts[0] === "d" && parts.length === 2) return await page(site, Number(parts[1]), asked);
    if (parts[0] === "d" && parts[2] === "t") return await token(site, Number(parts[1]), Number(parts[3]));
  } catch (error) {
    if (error instanceof Gone) return { parts: error.parts };
    throw error;
  }
  return { parts: needsServer(url) };
}

/** Whether a feature's files are in this copy. @param {any} site @param {number} feature */
const holds = (site, feature) => Number.isInteger(feature) && feature >= 0 && feature < site.n_features && (site.features === null || site.features.includes(feature));

/** @param {any} site @param {number} feature @returns {Promise<Answer>} */
async function card(site, feature) {
  if (!holds(site, feature)) return { parts: notHere(`feature ${feature}`) };
  const found = (await file(`cards/${Math.floor(feature / site.cards)}`))[feature];
  return { value: { ...found, others: site.features } };
}

/** What a panel of a feature asks. @param {any} site @param {number} feature @param {string} what @returns {Promise<Answer>} */
async function relation(site, feature, what) {
  const value = site.relations && holds(site, feature) ? (await file(`relations/${Math.floor(feature / site.cards)}`))[feature][what] : null;
  return value ? { value } : { parts: notHere("this") };
}

/** The features that a filter and a search leave. @param {any} site @param {URLSearchParams} asked @returns {Promise<Answer>} */
async function selected(site, asked) {
  const found = await passing(site, asked);
  return "parts" in found ? found : { value: { features: found.rows.map((row) => row.feature), reproduce: site.reproduce.table } };
}

/** A page of the feature table: without a question only the files that it lies in are read. @param {any} site @param {URLSearchParams} asked @returns {Promise<Answer>} */
async function table(site, asked) {
  const [offset, limit] = [Number(asked.get("offset") ?? 0), Number(asked.get("limit") ?? 100)];
  const sort = asked.get("sort") ?? "feature";
  const descending = asked.get("descending") === "true";
  const [filter, search] = [asked.get("filter") ?? "", asked.get("search") ?? ""];
  const about = { n_features: site.n_rows, offset, limit, sort, descending, filter, search, reproduce: site.reproduce.table };
  const isPlain = sort === "feature" && !descending && !filter.trim() && !search.trim();
  if (isPlain) {
    const [from, to] = [offset, offset + limit - 1].map((row) => Math.floor(row / site.rows));
    const rows = await rowsOf(site, from, to);
    return { value: { ...about, rows: rows.slice(offset - from * site.rows, offset - from * site.rows + limit), total: site.n_rows } };
  }
  const found = await passing(site, asked);
  if ("parts" in found) return found;
  const { rows } = found;
  if (rows.length && !(sort in rows[0])) return { parts: { error: "QueryInvalid", what: `the feature table has no column "${sort}".`, got: sort, wanted: Object.keys(rows[0]).join(", "), do: "Sort by one of these." } };
  return { value: { ...about, rows: ordered(rows, sort, descending).slice(offset, offset + limit), total: rows.length } };
}

/** The rows in some files of the table, as far as there are any. @param {any} site @param {number} from @param {number} to @returns {Promise<any[]>} */
async function rowsOf(site, from, to) {
  const last = Math.min(to, Math.ceil(site.n_rows / site.rows) - 1);
  const parts = await Promise.all(Array.from({ length: Math.max(0, last - from + 1) }, (_, i) => file(`table/${from + i}`)));
  return parts.flat();
}

/** The rows of the table that a filter and a search leave. @param {any} site @param {URLSearchParams} asked @returns {Promise<{ rows: readonly any[] } | { parts: FourParts }>} */
async function passing(site, asked) {
  const found = select(await rowsOf(site, 0, Infinity), asked.get("filter") ?? "");
  if ("parts" in found) return found;
  const words = (asked.get("search") ?? "").toLowerCase().match(/[\p{L}\p{N}_]+/gu) ?? [];
  return { rows: found.rows.filter((row) => startsWords(row.label, words)) };
}

/** Whether a word of the text begins with each of these. @param {string} text @param {readonly string[]} words */
function startsWords(text, words) {
  if (words.length === 0) return true;
  const there = text.toLowerCase().match(/[\p{L}\p{N}_]+/gu) ?? [];
  return words.every((word) => there.some((one) => one.startsWith(word)));
}

/** Equal values by feature, whichever way. @param {readonly any[]} rows @param {string} sort @param {boolean} descending */
function ordered(rows, sort, descending) {
  const key = (/** @type {any} */ row) => (typeof row[sort] === "string" ? row[sort].toLowerCase() : row[sort]);
  const way = descending ? -1 : 1;
  return [...rows].sort((a, b) => (key(a) < key(b) ? -way : key(a) > key(b) ? way : a.feature - b.feature));
}

/** @param {any} site @param {URLSearchParams} asked */
function listing(site, asked) {
  const [offset, limit] = [Number(asked.get("offset") ?? 0), Number(asked.get("limit") ?? 100)];
  const words = (asked.get("search") ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  const found = site.documents.filter((/** @type {any} */ row) => words.every((word) => `${row.title} ${row.corpus_label}`.toLowerCase().includes(word)));
  const about = { n_documents: site.n_documents, offset, limit, search: asked.get("search") ?? "", reproduce: site.reproduce.documents };
  return { ...about, rows: found.slice(offset, offset + limit), total: found.length };
}

/** @param {any} site @param {number} doc @returns {Promise<any>} */
async function whole(site, doc) {
  return site.documents.some((/** @type {any} */ row) => row.doc === doc) ? file(`documents/${doc}`) : null;
}

/** By what the features of a document are ranked; `specific` is the order in which they stand. @type {Record<string, (one: any) => number>} */
const RANKS = { max: (one) => one.max, share: (one) => one.share_of_max, count: (one) => one.count };

/** @param {any} site @param {number} doc @param {URLSearchParams} asked @returns {Promise<Answer>} */
async function page(site, doc, asked) {
  const view = await whole(site, doc);
  if (!view) return { parts: notHere(`document ${doc}`) };
  const rank = asked.get("rank") ?? "specific";
  const score = RANKS[rank];
  const sorted = score ? [...view.features].sort((a, b) => score(b) - score(a) || a.feature - b.feature) : view.features;
  const pinned = Number(asked.get("feature") ?? -1);
  const features = sorted.filter((/** @type {any} */ one, /** @type {number} */ i) => i < LISTED || one.feature === pinned);
  return { value: { ...view, rank, features } };
}

/** The features on one token, from those of its document. @param {any} site @param {number} doc @param {number} offset @returns {Promise<Answer>} */
async function token(site, doc, offset) {
  const view = await whole(site, doc);
  const at = offset - (view?.offset ?? 0);
  if (!view || !(at in view.pieces)) return { parts: notHere(`token ${offset} of document ${doc}`) };
  const features = [];
  for (const one of view.features) {
    const i = one.offsets.indexOf(offset);
    if (i < 0) continue;
    const activation = one.activations[i];
    features.push({ feature: one.feature, label: one.label, activation, share_of_max: (activation / one.max) * one.share_of_max, percentile: null, density: one.density });
  }
  features.sort((a, b) => b.share_of_max - a.share_of_max || a.feature - b.feature);
  const role = view.turns.find((/** @type {any} */ turn) => turn.start <= offset && offset < turn.end)?.role ?? "text";
  return { value: { doc, offset, position: -1, token: -1, piece: view.pieces[at], kept: view.kept[at], role, features, reproduce: view.reproduce } };
}

/** Takes the address from links that lead to features and documents which are not in this copy, now and whenever the page changes. */
export async function markAbsent() {
  const site = await file("site");
  const features = site.features && new Set(site.features);
  const documents = new Set(site.documents.map((/** @type {any} */ row) => row.doc));
  /** @param {Element} link */
  const mark = (link) => {
    const found = /\/s\/[^/]+\/([fd])\/(\d+)/.exec(link.getAttribute("href") ?? "");
    if (!found) return;
    const isAbsent = found[1] === "f" ? features && !features.has(Number(found[2])) : !documents.has(Number(found[2]));
    if (isAbsent) link.removeAttribute("href");
    link.toggleAttribute("data-absent", isAbsent);
  };
  const markAll = () => document.querySelectorAll("a[href]").forEach(mark);
  markAll();
  new MutationObserver(markAll).observe(document.body, { subtree: true, childList: true, attributeFilter: ["href"] });
}
