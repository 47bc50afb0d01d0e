// Supernodes: sets of nodes with a name of one's own.
import { html, useLayoutEffect, useRef, useState } from "../lib/dom.js";
import { change, gather, joinGroups, togglePins } from "./state.js";

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

/** @param {{ state: State, known: (id: string) => boolean }} props `known`: whether a node is shown */
export function GroupList({ state, known }) {
  if (state.groups.length === 0) return null;
  return html`<section class="panel" id="groups"><h2>Supernodes</h2>
    <ol class="list">${state.groups.map((group, i) => html`<${GroupLine} key=${group.name} group=${group} hue=${i % 6} state=${state} away=${group.ids.filter((id) => !known(id)).length} />`)}</ol></section>`;
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
