// Supernodes: sets of nodes with a name of one's own.
import { html, useLayoutEffect, useRef, useState } from "../lib/dom.js";
import { ErrorPanel, Loading } from "../panels/states.js";
import { useAnswer } from "../lib/api.js";
import { address } from "../lib/place.js";
import { change, gather, joinGroups, togglePins } from "./state.js";
import { title } from "./view.js";

/** @typedef {import("./state.js").State} State */

/** What to do with nodes that were just lassoed. @param {{ ids: readonly string[], state: State, onDone: () => void }} props */
export function LassoBar({ ids, state, onDone }) {
  const [name, setName] = useState("");
  const field = useRef(/** @type {HTMLInputElement | null} */ (null));
  useLayoutEffect(() => field.current?.focus(), [ids]);
  /** @param {Event} event */
  const make = (event) => {
    event.preventDefault();
    if (!name.trim()) return;
    const known = state.groups.find((one) => one.name === name.trim());
    gather(state, { name: name.trim(), ids: [...new Set([...(known?.ids ?? []), ...ids])] });
    onDone();
  };
  const pin = () => {
    togglePins(state, ids);
    onDone();
  };
  return html`<form class="lasso" onSubmit=${make}><b>${ids.length} ${ids.length === 1 ? "node" : "nodes"}</b>
    <input id="group-name" ref=${field} value=${name} maxlength="80" placeholder="name of the supernode" aria-label="name of the supernode" onInput=${(/** @type {any} */ event) => setName(event.currentTarget.value)} />
    <button class="main" disabled=${!name.trim()}>Gather</button><button type="button" onClick=${pin}>Pin</button><button type="button" onClick=${onDone}>Cancel</button></form>`;
}

/** @param {{ view: import("./view.js").View, state: State, known: (id: string) => boolean }} props `known`: whether a node is shown */
export function GroupList({ view, state, known }) {
  return html`<section class="panel" id="groups"><h2>Supernodes</h2>
    <ol class="list">${state.groups.map((group, i) => html`<${GroupLine} key=${group.name} group=${group} hue=${i % 6} state=${state} away=${group.ids.filter((id) => !known(id)).length} />`)}</ol>
    <${Suggested} view=${view} state=${state} /></section>`;
}

/** Features that feed the same and fire together, found when asked for. @param {{ view: import("./view.js").View, state: State }} props */
function Suggested({ view, state }) {
  const [asked, setAsked] = useState(false);
  const url = address(`/api/graphs/${encodeURIComponent(view.name)}/suggest`, { node: state.node, edge: state.edge });
  const { value, error, loading } = useAnswer(asked ? url : null);
  const answer = /** @type {{ groups: readonly (readonly string[])[] } | null} */ (asked ? value : null);
  if (!asked) return html`<button id="suggest" onClick=${() => setAsked(true)} data-tip="features that feed the same and fire together">Suggest some</button>`;
  if (error) return html`<${ErrorPanel} error=${error} />`;
  if (loading || !answer) return html`<${Loading} lines=${3} />`;
  const left = answer.groups.filter((ids) => !ids.every((id) => state.groups.some((group) => group.ids.includes(id))));
  const nodes = new Map(view.nodes.map((node) => [node.id, node]));
  const name = (/** @type {string} */ id) => {
    const node = nodes.get(id);
    return node ? title(view, node) : id;
  };
  if (left.length === 0) return html`<p class="quiet">No other features look alike at these thresholds.</p>`;
  return html`<ol class="list" id="suggested">${left.slice(0, 12).map((ids) => html`<li><span class="label" data-tip=${ids.join("\n")}>${ids.map(name).join(" + ")}</span><span class="quiet">${ids.length}</span>
    <button class="plain" onClick=${() => gather(state, { name: unused(state, name(ids[0])), ids })}>gather</button></li>`)}</ol>`;
}

/** A name that no supernode has yet. @param {State} state @param {string} wanted */
function unused(state, wanted) {
  const taken = (/** @type {string} */ name) => state.groups.some((group) => group.name === name);
  if (!taken(wanted)) return wanted;
  let number = 2;
  while (taken(`${wanted} ${number}`)) number += 1;
  return `${wanted} ${number}`;
}

/** @param {{ group: import("./state.js").Group, hue: number, state: State, away: number }} props */
function GroupLine({ group, hue, state, away }) {
  const [name, setName] = useState(/** @type {string | null} */ (null));
  /** @param {Event} event */
  const rename = (event) => {
    event.preventDefault();
    const wanted = name?.trim();
    if (wanted && !state.groups.some((one) => one !== group && one.name === wanted)) change({ groups: joinGroups(state.groups.map((one) => (one === group ? { name: wanted, ids: group.ids } : one))) });
    setName(null);
  };
  if (name !== null) {
    return html`<li><form class="rename" onSubmit=${rename}><input autofocus value=${name} maxlength="80" aria-label="new name" onInput=${(/** @type {any} */ event) => setName(event.currentTarget.value)} /><button class="main">Save</button></form></li>`;
  }
  return html`<li><span class=${`swatch hue${hue}`}></span><span class="label">${group.name}</span>
    <span class="quiet">${group.ids.length}${away > 0 ? ` (${away} hidden)` : ""}</span>
    <button class="plain" onClick=${() => setName(group.name)}>rename</button>
    <button class="plain" onClick=${() => change({ groups: joinGroups(state.groups.filter((one) => one !== group)) })}>dissolve</button></li>`;
}
