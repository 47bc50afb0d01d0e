// Where we are: the address is the state of every page. `place` is a signal of it, `go` and `setQuery` change it.
import { signal } from "./dom.js";

/** @typedef {{ path: string, query: URLSearchParams }} Place */

/** @returns {Place} the path as it stands in the address, still encoded: see `plain` */
const read = () => ({ path: location.pathname, query: new URLSearchParams(location.search) });

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
  history[replace ? "replaceState" : "pushState"](null, "", href);
  const before = place.value.path;
  place.value = read();
  if (place.value.path !== before) scrollTo(0, 0);
}

/** Change parts of the query; null or "" takes a part away. Every keystroke would fill the history, so it replaces unless told.
 * @param {Record<string, string | number | null>} changes @param {{ push?: boolean }} [how] */
export function setQuery(changes, { push = false } = {}) {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === "") query.delete(name);
    else query.set(name, String(value));
  }
  const text = query.toString();
  go(location.pathname + (text ? `?${text}` : ""), { replace: !push });
}

/** An address with the given query parts; empty ones are left out.
 * @param {string} path @param {Record<string, string | number | boolean | null | undefined>} [parts] */
export function address(path, parts = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parts)) {
    if (value !== null && value !== undefined && value !== "" && value !== false) query.set(name, String(value));
  }
  const text = query.toString();
  return path + (text ? `?${text}` : "");
}

/** @param {string} index */
export const at = (index) => `/s/${encodeURIComponent(index)}`;

addEventListener("popstate", () => {
  place.value = read();
});

document.addEventListener("click", (event) => {
  const link = event.target instanceof Element ? event.target.closest("a") : null;
  if (!link || link.origin !== location.origin || link.target || link.hasAttribute("download")) return;
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  if (link.pathname.startsWith("/api") || link.pathname.startsWith("/static")) return;
  event.preventDefault();
  go(link.pathname + link.search);
});
