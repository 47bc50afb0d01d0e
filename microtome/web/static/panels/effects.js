// What a feature does to the next token, measured: ablated and doubled on its own examples, beside another feature's direction as long.
import { Asking } from "./asking.js";
import { ModelWait } from "./modelwait.js";
import { ErrorPanel } from "./states.js";
import { post } from "../lib/api.js";
import { html, useEffect, useState } from "../lib/dom.js";
import { num, percent, tokenText } from "../lib/format.js";
import { at } from "../lib/place.js";

/** @param {{ card: Card }} props */
export function EffectsPanel({ card }) {
  const url = `/api${at(card.index)}/f/${card.feature}/effects`;
  /** @param {{ effects: Effects | null, command: string }} answer @param {() => void} again */
  const show = ({ effects, command }, again) => (effects ? html`<${Measured} effects=${effects} />` : html`<${Measure} card=${card} url=${url} command=${command} done=${again} />`);
  return html`<${Asking} id="effects" title="Measured effect on the next token" url=${url} show=${show} />`;
}

/** @param {{ card: Card, url: string, command: string, done: () => void }} props */
function Measure({ card, url, command, done }) {
  const [state, setState] = useState(/** @type {any} */ ({ busy: false, error: null }));
  useEffect(() => setState({ busy: false, error: null }), [card.feature]);
  if (card.statistics.count === 0) return html`<p class="quiet">It never fires, so there is nothing to measure it on.</p>`;
  const run = () => {
    setState({ busy: true, error: null });
    post(url, {}).then(done, (error) => setState({ busy: false, error }));
  };
  return html`<p class="quiet">Not measured yet. The model runs on its strongest examples with the feature removed and doubled; the answer is kept.</p>
    <p><button class="main" id="measure" disabled=${state.busy} onClick=${run}>Measure now</button></p>
    ${state.busy && html`<${ModelWait} index=${card.index} />`}
    ${state.error && html`<${ErrorPanel} error=${state.error} again=${run} />`}
    <p class="note">Many at once: <code>${command}</code></p>`;
}

/** @param {{ effects: Effects }} props */
function Measured({ effects }) {
  if (effects.changes.length === 0) return html`<p class="quiet">It never fires, so there was nothing to measure it on.</p>`;
  const widest = Math.max(...effects.changes.flatMap((change) => [change.kl_high, change.control_high]), 1e-12);
  return html`${effects.changes.map((change) => html`<div class="change">
      <h3>${change.factor === 0 ? "ablated" : `times ${change.factor}`}</h3>
      <dl class="spread">
        <${Spread} name="this feature" mean=${change.kl} low=${change.kl_low} high=${change.kl_high} widest=${widest} />
        <${Spread} name="another, as long" mean=${change.control} low=${change.control_low} high=${change.control_high} widest=${widest} />
      </dl>
      <p class="quiet">Changes more than the control in ${change.larger} of ${effects.n} examples${change.loss === null ? "" : `; loss of the token that follows ${change.loss >= 0 ? "+" : ""}${num(change.loss)} nats`}.</p>
      <div class="pair">${[["likelier", change.promoted], ["unlikelier", change.suppressed]].map(([name, shifts]) => html`<div><h3>${name}</h3>
        <ol class="list">${/** @type {readonly TokenShift[]} */ (shifts).slice(0, 8).map((shift) => html`<li data-tip=${`token ${shift.token} · ${percent(shift.before)} before`}>
          <span class="piece">${tokenText(shift.piece)}</span><span class="value">${shift.change > 0 ? "+" : "−"}${percent(Math.abs(shift.change))}</span></li>`)}</ol></div>`)}</div>
    </div>`)}
    <p class="note">KL divergence of the next token in nats after ${effects.n} of its strongest examples, mean and 95 % interval; ${effects.model}. The dictionary's error stays in the stream.</p>`;
}

/** A mean with its interval on a common scale. @param {{ name: string, mean: number, low: number, high: number, widest: number }} props */
function Spread({ name, mean, low, high, widest }) {
  const part = (/** @type {number} */ x) => `${Math.min(100, (100 * x) / widest)}%`;
  return html`<dt>${name}</dt><dd data-tip=${`${num(mean)} nats, 95 % interval ${num(low)} to ${num(high)}`}>
    <span class="range"><i style=${{ left: part(low), width: `${Math.max(1, (100 * (high - low)) / widest)}%` }}></i><b style=${{ left: part(mean) }}></b></span><span class="value">${num(mean)}</span></dd>`;
}
