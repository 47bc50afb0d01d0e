// The state of a graph page: all of it is in the address, and each deliberate change can be taken back.
import { signal } from "../lib/dom.js";
import { go, place, setQuery } from "../lib/place.js";

/** @typedef {{ readonly name: string, readonly ids: readonly string[] }} Group a supernode */
/**
 * @typedef {object} State
 * @property {string} node share of influence that kept nodes reach; "" is the server's default
 * @property {string} edge the same of edges
 * @property {string} density features that fire on a larger share of tokens are left out; "" leaves out none
 * @property {number} links how many of the strongest edges are drawn
 * @property {string} at id of the selected node, "" where there is none
 * @property {readonly string[]} pins ids of the nodes of the subgraph
 * @property {readonly Group[]} groups
 * @property {string} find
 * @property {string} against name of another graph that this one is compared with, "" for none
 * @property {Act} act
 */
/** @typedef {{ on: string, do: "multiply" | "set" | "add", by: number, aim: string, hold: "frozen" | "live", end: number | null, more: number, heat: number }} Act the intervention that the form says */

export const LINKS = 200;
const past = signal(/** @type {readonly string[]} */ ([]));
const future = signal(/** @type {readonly string[]} */ ([]));

/** @param {URLSearchParams} query @returns {State} */
export function readState(query) {
  const links = Number(query.get("links") ?? LINKS);
  return {
    node: query.get("node") ?? "",
    edge: query.get("edge") ?? "",
    density: query.get("density") ?? "",
    links: Number.isFinite(links) ? Math.max(0, links) : LINKS,
    at: query.get("at") ?? "",
    pins: split(query.get("pins"), ","),
    groups: (query.get("groups") ?? "").split(";").filter(Boolean).map(group),
    find: query.get("find") ?? "",
    against: query.get("against") ?? "",
    act: readAct(query),
  };
}

/** @param {URLSearchParams} query @returns {Act} */
function readAct(query) {
  const operation = query.get("do");
  /** @param {string} name @param {number} otherwise */
  const number = (name, otherwise) => (query.get(name) !== null && Number.isFinite(Number(query.get(name))) ? Number(query.get(name)) : otherwise);
  return {
    on: query.get("on") ?? "",
    do: operation === "set" || operation === "add" ? operation : "multiply",
    by: number("by", 0),
    aim: query.get("aim") ?? "",
    hold: query.get("hold") === "live" ? "live" : "frozen",
    end: query.get("end") === null ? null : number("end", 0),
    more: number("more", 24),
    heat: number("heat", 0),
  };
}

/** Ids may hold any text of a token, so each is encoded by itself before they are joined. @param {readonly string[]} ids */
export const join = (ids) => ids.map(code).join(",");

/** @param {readonly Group[]} groups */
export const joinGroups = (groups) => groups.filter((one) => one.ids.length > 0).map((one) => `${code(one.name)}:${join(one.ids)}`).join(";");

/** @param {string} text */
const code = (text) => text.replace(/[%,;:]/g, (mark) => `%${mark.charCodeAt(0).toString(16)}`);

/** @param {string} text */
const plain = (text) => text.replace(/%(25|2c|3b|3a)/g, (_, hex) => String.fromCharCode(parseInt(hex, 16)));

/** @param {string | null} text @param {string} mark */
const split = (text, mark) => (text ? text.split(mark).map(plain) : []);

/** @param {string} text @returns {Group} */
function group(text) {
  const [name, ids = ""] = text.split(":");
  return { name: plain(name), ids: split(ids, ",") };
}

const now = () => place.value.query.toString();

/** Change the address in a way that `undo` takes back. @param {Record<string, string | number | null>} changes */
export function change(changes) {
  const before = now();
  setQuery(changes);
  if (now() === before) return;
  past.value = [...past.value.slice(-99), before];
  future.value = [];
}

/** @param {{ value: readonly string[] }} from @param {{ value: readonly string[] }} to */
function step(from, to) {
  const target = from.value.at(-1);
  if (target === undefined) return;
  from.value = from.value.slice(0, -1);
  to.value = [...to.value, now()];
  go(place.value.path + (target && `?${target}`), { replace: true });
}

export const undo = () => step(past, future);
export const redo = () => step(future, past);
export const canUndo = () => past.value.length > 0;
export const canRedo = () => future.value.length > 0;

/** Another graph has another past. */
export function forget() {
  past.value = [];
  future.value = [];
}

/** @param {string} id */
export const select = (id) => setQuery({ at: id === place.value.query.get("at") ? null : id });

/** @param {State} state @param {readonly string[]} ids all are pinned, or unpinned when all are already */
export function togglePins(state, ids) {
  const all = ids.every((id) => state.pins.includes(id));
  const pins = all ? state.pins.filter((id) => !ids.includes(id)) : [...state.pins, ...ids.filter((id) => !state.pins.includes(id))];
  change({ pins: join(pins) });
}

/** Make or rename a supernode of nodes; they leave the ones they were in, and are pinned. @param {State} state @param {Group} made */
export function gather(state, made) {
  const others = state.groups.filter((one) => one.name !== made.name).map((one) => ({ name: one.name, ids: one.ids.filter((id) => !made.ids.includes(id)) }));
  const pins = [...state.pins, ...made.ids.filter((id) => !state.pins.includes(id))];
  change({ groups: joinGroups([...others, made]), pins: join(pins) });
}

/** The supernode that a node is in, by number; -1 for none. @param {State} state @param {string} id */
export const groupOf = (state, id) => state.groups.findIndex((one) => one.ids.includes(id));
