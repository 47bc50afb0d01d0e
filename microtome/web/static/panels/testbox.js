// Type any text and see what the feature does on it: the model runs here, on this machine.
import { ModelWait } from "./modelwait.js";
import { ReproduceFold } from "./reproduce.js";
import { ErrorPanel } from "./states.js";
import { Tokens, tokenTip } from "./tokens.js";
import { PAUSE, useAnswer } from "../lib/api.js";
import { html, useLayoutEffect, useState } from "../lib/dom.js";
import { num, percent } from "../lib/format.js";
import { address, at, place, setQuery } from "../lib/place.js";

/** @param {{ index: string, feature: number }} props */
export function TestBox({ index, feature }) {
  const asked = place.value.query.get("test") ?? "";
  const [text, setText] = useState(asked);
  useLayoutEffect(() => setText(asked), [asked]);
  const { value, error, loading, again } = useAnswer(asked ? `/api${at(index)}/f/${feature}/test` : null, { text: asked }, PAUSE);
  const answer = /** @type {(TextTest & { reproduce: any }) | null} */ (asked && value && /** @type {TextTest} */ (value).feature === feature ? value : null);
  const run = () => (text === asked && asked ? again() : setQuery({ test: text }));
  /** @param {KeyboardEvent} event */
  const press = (event) => {
    if (event.key !== "Enter" || event.shiftKey) return;
    event.preventDefault();
    run();
  };
  return html`<section class="panel testbox" id="test">
    <div class="entry">
      <textarea id="test-text" rows="2" maxlength="2000" aria-label="text to test" placeholder="Test any text: type it here, press Enter (t brings you here)" value=${text}
        onInput=${(/** @type {any} */ event) => setText(event.currentTarget.value)} onKeyDown=${press}></textarea>
      <button class="main" disabled=${!text} onClick=${run}>Run</button>
    </div>
    ${loading && asked && html`<${ModelWait} index=${index} />`}
    ${error && html`<${ErrorPanel} error=${error} again=${again} />`}
    ${answer && html`<${Answer} answer=${answer} /><${ReproduceFold} recipe=${answer.reproduce} json=${address(`/api${at(index)}/f/${feature}/test`, { text: answer.text })} />`}
  </section>`;
}

/** @param {{ answer: TextTest }} props */
function Answer({ answer }) {
  const fires = answer.max > 0;
  return html`<div class="answer" aria-live="polite">
    <p class="strip-line"><${Tokens} pieces=${answer.pieces} activations=${answer.shares_of_max} peak=${answer.peak} kept=${answer.kept} breaks=${true}
      tip=${(/** @type {number} */ i) => (answer.activations[i] > 0 ? tokenTip(answer.pieces[i], answer.activations[i], answer.shares_of_max[i], answer.percentiles[i]) : undefined)} /></p>
    ${fires
      ? html`<p class="verdict"><b>${num(answer.max)}</b> at its strongest, <b>${percent(answer.shares_of_max[answer.peak])}</b> of its maximum, stronger than <b>${percent(answer.percentiles[answer.peak])}</b> of its firings.</p>`
      : html`<p class="verdict">It does not fire on this text.</p>`}
    ${answer.above_store && html`<p class="flag">Above 100 %: stronger than anything in the corpus. Its examples are too narrow.</p>`}
    ${answer.kept.some((kept) => !kept) && html`<p class="note">Dotted tokens take no part in the corpus statistics (attention sinks or template).</p>`}
  </div>`;
}
