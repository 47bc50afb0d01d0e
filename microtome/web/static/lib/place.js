// Where we are: the address is the state of every page. `place` is a signal of it, `go` and `setQuery` change it.
import { isCopy } from "./copy.js";
import { signal } from "./dom.js";

/** @typedef {{ path: string, query: URLSearchParams }} Place */

/** In a copy on a plain web host every address is one file, so it stands behind a `#`. */
const mark = isCopy ? "#" : "";

/** @returns {Place} the path as it stands in the address, still encoded: see `plain` */
function read() {
  if (!isCopy) return { path: location.pathname, query: new URLSearchParams(location.search) };
  const [path, ...query] = location.hash.slice(1).split("?");
  return { path: path || "/", query: new URLSearchParams(query.join("?")) };
}

/** A part of a path as a person wrote it. @param {string} part */
export function plain(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // a stray % in a typed address: nothing has that name, so it is shown as it is
  }
}

export const place = signal(read());

/** @param {string} href @param {{ replace?: boolean }} [how] */
export function go(href, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", href.startsWith("#") ? href : mark + href);
  const before = place.value.path;
  place.value = read();
  if (place.value.path !== before) scrollTo(0, 0);
}

/** Change parts of the query; null or "" takes a part away. Every keystroke would fill the history, so it replaces unless told.
 * @param {Record<string, string | number | null>} changes @param {{ push?: boolean }} [how] */
export function setQuery(changes, { push = false } = {}) {
  const { path, query } = read();
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === "") query.delete(name);
    else query.set(name, String(value));
  }
  const text = query.toString();
  go(path + (text ? `?${text}` : ""), { replace: !push });
}

/** The prompts of a text box: its lines, empty ones left out. @param {string} text */
export const prompts = (text) => text.split("\n").map((line) => line.trimEnd()).filter(Boolean);

/** An address with the given query parts; empty ones are left out, of a list each is a part of its own.
 * @param {string} path @param {Record<string, string | number | boolean | readonly string[] | null | undefined>} [parts] */
export function address(path, parts = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parts)) {
    if (Array.isArray(value)) for (const one of value) query.append(name, one);
    else if (value !== null && value !== undefined && value !== "" && value !== false) query.set(name, String(value));
  }
  const text = query.toString();
  return path + (text ? `?${text}` : "");
}

/** @param {string} index */
export const at = (index) => `${mark}/s/${encodeURIComponent(index)}`;

/** @param {string} name */
export const directionAt = (name) => `/directions/${encodeURIComponent(name)}`;

/** The first page. */
export const home = `${mark}/`;

addEventListener("popstate", () => {
  place.value = read();
});

document.addEventListener("click", (event) => {
  const link = event.target instanceof Element ? event.target.closest("a") : null;
  if (!link || link.origin !== location.origin || link.target || link.hasAttribute("download")) return;
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  if (isCopy) {
    if (!link.hash.startsWith("#/")) return;
    event.preventDefault();
    go(link.hash);
    return;
  }
  if (link.hash && link.pathname === location.pathname && link.search === location.search) return; // a place on this page
  if (link.pathname.startsWith("/api") || link.pathname.startsWith("/static")) return;
  event.preventDefault();
  go(link.pathname + link.search);
});
