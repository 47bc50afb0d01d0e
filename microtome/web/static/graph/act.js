// An intervention: what the graph says that a change of nodes does to a target, and what it does in the model.
import { Outcome } from "./outcome.js";
import { twin, useRun } from "./run.js";
import { change, readState } from "./state.js";
import { title, where } from "./view.js";
import { ModelWait } from "../panels/modelwait.js";
import { ErrorPanel } from "../panels/states.js";
import { html, useLayoutEffect, useState } from "../lib/dom.js";
import { num } from "../lib/format.js";
import { place } from "../lib/place.js";

/** @typedef {import("./view.js").View} View */
/** @typedef {import("./state.js").State} State */
/** @typedef {{ key: string, text: string, ids: readonly string[] }} Choice what can be changed together */

const FEATURE = /^L\d+\.f\d+@\d+$/;
const FACTORS = { min: -10, max: 10, step: 0.5 };

/** @param {{ view: View, links: import("./links.js").Links, at: number, state: State }} props */
export function ActPanel({ view, links, at, state }) {
  const choices = choicesOf(view, at, state);
  const { busy, error, value, run } = useRun(`${twin(view.name)}/intervene`);
  const chosen = choices.find((one) => one.key === state.act.on) ?? choices[0];
  const targets = view.nodes.filter((node) => node.kind === "target");
  if (!chosen) return html`<section class="panel" id="act"><h2>Intervene</h2><p class="quiet">Select a feature, pin some, or gather a supernode: its features can then be changed in the model, and what follows is shown beside what the graph predicts.</p></section>`;
  const aim = targets.some((node) => node.id === state.act.aim) ? state.act.aim : (targets[0]?.id ?? "");
  /** The address says what is asked: Enter in a field changes it and asks at once. @param {Event} event */
  const submit = (event) => {
    event.preventDefault();
    const { act } = readState(place.value.query);
    run({ nodes: chosen.ids, operation: act.do, value: act.by, target: aim || null, attention: act.hold, end_layer: act.end, new_tokens: act.more, temperature: act.heat });
  };
  return html`<section class="panel" id="act">
    <h2>Intervene</h2>
    <form class="act" onSubmit=${submit}>
      <label>change <select id="act-on" value=${chosen.key} onChange=${(/** @type {any} */ event) => change({ on: event.currentTarget.value })}>
        ${choices.map((one) => html`<option value=${one.key}>${one.text}</option>`)}</select></label>
      <${Operation} state=${state} activation=${chosen.ids.length === 1 ? view.nodes[links.byId.get(chosen.ids[0]) ?? -1]?.activation : undefined} />
      <label>and watch <select id="act-aim" value=${aim} onChange=${(/** @type {any} */ event) => change({ aim: event.currentTarget.value })}>
        ${targets.map((node) => html`<option value=${node.id}>${title(view, node)} at ${where(view, node).replace("output · ", "")}</option>`)}</select></label>
      <${Held} view=${view} state=${state} ids=${chosen.ids} />
      <label data-tip="the prompt is continued without and with the change, with the same random numbers">then continue by <input id="act-more" type="number" min="0" max="200" value=${state.act.more} onChange=${(/** @type {any} */ event) => change({ more: event.currentTarget.value })} /> tokens
        at temperature <input id="act-heat" type="number" min="0" max="10" step="0.1" value=${state.act.heat} onChange=${(/** @type {any} */ event) => change({ heat: event.currentTarget.value })} /></label>
      <button class="main" id="act-run" disabled=${busy}>Run in the model</button>
    </form>
    ${busy && html`<${ModelWait} url=${`${twin(view.name)}/model`} />`}
    ${error && html`<${ErrorPanel} error=${error} />`}
    ${!busy && !error && value && html`<${Outcome} found=${/** @type {any} */ (value)} view=${view} json=${`${twin(view.name)}/intervene`} />`}
  </section>`;
}

/** Set to 0, multiply, set or add; a number for all but the first. @param {{ state: State, activation: number | undefined }} props */
function Operation({ state, activation }) {
  const { do: operation, by } = state.act;
  const [now, setNow] = useState(by);
  useLayoutEffect(() => setNow(by), [by, operation]);
  const isZero = operation === "multiply" && by === 0;
  /** @param {string} name @param {boolean} on @param {Record<string, any>} changes */
  const choice = (name, on, changes) => html`<button type="button" aria-pressed=${on} onClick=${() => change(changes)}>${name}</button>`;
  const set = (/** @type {any} */ event) => event.currentTarget.value !== "" && change({ by: event.currentTarget.value });
  return html`<div class="operation"><span class="choice" role="group" aria-label="operation">
      ${choice("ablate", isZero, { do: null, by: null })}${choice("multiply", operation === "multiply" && !isZero, { do: null, by: 2 })}${choice("set", operation === "set", { do: "set", by: num2(activation) })}${choice("add", operation === "add", { do: "add", by: num2(activation) })}</span>
    ${operation === "multiply" && !isZero && html`<label>by <b>${num(now)}</b> <input id="act-factor" type="range" ...${FACTORS} value=${now} aria-label="factor" onInput=${(/** @type {any} */ event) => setNow(Number(event.currentTarget.value))} onChange=${set} /></label>`}
    ${operation !== "multiply" && html`<label>${operation === "set" ? "to" : ""} <input id="act-by" type="number" step="any" value=${by} aria-label="activation" onChange=${set} /> <span class="quiet">${activation === undefined ? "in units of the activation" : `it is ${num(activation)}`}</span></label>`}</div>`;
}

/** @param {number | undefined} activation */
const num2 = (activation) => (activation === undefined ? 1 : Number(activation.toPrecision(2)));

/** What does not answer to the change. @param {{ view: View, state: State, ids: readonly string[] }} props */
function Held({ view, state, ids }) {
  const first = Math.max(...ids.map((id) => Number(/^L(\d+)/.exec(id)?.[1] ?? 0)));
  const last = Math.max(...view.nodes.filter((node) => node.kind === "target").map((node) => node.layer)) - 1;
  const ends = Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => first + i);
  const set = (/** @type {any} */ event) => change({ hold: event.currentTarget.checked ? null : "live" });
  return html`<label data-tip="MLPs that are held write what they wrote before, and the change; with all of them held the norms are too, and what is measured is the direct effect">MLPs <select id="act-end" value=${String(state.act.end ?? "")} onChange=${(/** @type {any} */ event) => change({ end: event.currentTarget.value })}>
      <option value="">all respond</option>${ends.map((end) => html`<option value=${String(end)}>${end === last ? "all held" : `held up to layer ${end}`}</option>`)}</select></label>
    <label class="tick" data-tip="as in the graph"><input id="act-hold" type="checkbox" checked=${state.act.hold === "frozen"} onChange=${set} /> hold the attention patterns</label>`;
}

/** The selected feature, the pinned ones together, and each supernode. @param {View} view @param {number} at @param {State} state @returns {Choice[]} */
function choicesOf(view, at, state) {
  const pins = state.pins.filter((id) => FEATURE.test(id));
  const node = at >= 0 && view.nodes[at].kind === "feature" ? view.nodes[at] : null;
  const groups = state.groups.map((group) => ({ key: `group ${group.name}`, text: group.name, ids: group.ids.filter((id) => FEATURE.test(id)) }));
  return [
    ...(node ? [{ key: "", text: `${title(view, node)} (${node.id})`, ids: [node.id] }] : []),
    ...groups.filter((group) => group.ids.length > 0).map((group) => ({ ...group, text: `supernode ${group.text}, ${group.ids.length} ${group.ids.length === 1 ? "feature" : "features"}` })),
    ...(pins.length > 0 ? [{ key: "pins", text: `all ${pins.length} pinned features`, ids: pins }] : []),
  ];
}
