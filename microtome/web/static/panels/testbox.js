// Type any text, or several prompts, and see what the feature does on them: the model runs here, on this machine.
import { ModelWait } from "./modelwait.js";
import { PromptTable } from "./prompttable.js";
import { ReproduceFold } from "./reproduce.js";
import { ErrorPanel } from "./states.js";
import { fits, TextBox, TooLong } from "./textbox.js";
import { Tokens, tokenTip } from "./tokens.js";
import { PAUSE, useAnswer } from "../lib/api.js";
import { html, useLayoutEffect, useState } from "../lib/dom.js";
import { count, num, percent } from "../lib/format.js";
import { address, at, place, prompts, setQuery } from "../lib/place.js";

/** @param {{ index: string, feature: number }} props */
export function TestBox({ index, feature }) {
  const { query } = place.value;
  const asked = query.get("test") ?? "";
  const isWhole = query.get("whole") === "1";
  const lines = prompts(asked);
  const many = lines.length > 1 && !isWhole;
  const [text, setText] = useState(asked);
  useLayoutEffect(() => setText(asked), [asked]);
  const url = `/api${at(index)}/f/${feature}/${many ? "tests" : "test"}`;
  const { value, error, loading, again } = useAnswer(asked ? url : null, many ? { texts: lines } : { text: asked }, PAUSE);
  const answer = /** @type {((TextTest | TextTests) & { reproduce: any }) | null} */ (asked && value && /** @type {TextTest} */ (value).feature === feature ? value : null);
  const isReady = text.trim() !== "" && fits(text);
  const run = () => (text === asked && asked ? again() : setQuery({ test: text }));
  /** @param {KeyboardEvent} event */
  const press = (event) => {
    if (event.key !== "Enter" || event.shiftKey) return;
    event.preventDefault();
    if (isReady || !text) run();
  };
  const json = many ? address(url, { text: lines }) : address(url, { text: asked });
  return html`<section class="panel testbox" id="test">
    <div class="entry">
      <${TextBox} id="test-text" label="text to test" rows=${Math.min(8, Math.max(2, text.split("\n").length))} hint="Test any text: type it here, press Enter (t brings you here). Shift+Enter begins another prompt." text=${text} set=${setText} press=${press} />
      <button class="main" disabled=${!isReady} onClick=${run}>Run</button>
    </div>
    <${TooLong} text=${text} />
    ${prompts(text).length > 1 && html`<label class="tick"><input type="checkbox" checked=${!isWhole} onChange=${() => setQuery({ whole: isWhole ? null : 1 })} /> each line is a prompt of its own</label>`}
    ${loading && asked && html`<${ModelWait} index=${index} />`}
    ${error && html`<${ErrorPanel} error=${error} again=${again} />`}
    ${answer && ("tests" in answer ? html`<${PromptTable} answer=${answer} />` : html`<${Answer} answer=${answer} />`)}
    ${answer && html`<${ReproduceFold} recipe=${answer.reproduce} json=${json} />`}
  </section>`;
}

/** @param {{ answer: TextTest }} props */
function Answer({ answer }) {
  const fires = answer.max > 0;
  const rank = answer.ranks[answer.peak];
  return html`<div class="answer" aria-live="polite">
    <p class="strip-line"><${Tokens} pieces=${answer.pieces} activations=${answer.shares_of_max} peak=${answer.peak} kept=${answer.kept} breaks=${true}
      tip=${(/** @type {number} */ i) => (answer.activations[i] > 0 ? tokenTip(answer.pieces[i], answer.activations[i], answer.shares_of_max[i], answer.percentiles[i]) : undefined)} /></p>
    ${fires
      ? html`<p class="verdict"><b>${num(answer.max)}</b> at its strongest, <b>${percent(answer.shares_of_max[answer.peak])}</b> of its maximum, stronger than <b>${percent(answer.percentiles[answer.peak])}</b> of its firings (rank ${count(rank)}).</p>`
      : html`<p class="verdict">It does not fire on this text.</p>`}
    ${answer.above_store && html`<p class="flag">Above 100 %: stronger than anything in the corpus. Its examples are too narrow.</p>`}
    ${answer.kept.some((kept) => !kept) && html`<p class="note">Dotted tokens take no part in the corpus statistics (attention sinks or template).</p>`}
  </div>`;
}
