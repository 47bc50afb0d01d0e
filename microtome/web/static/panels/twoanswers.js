// Two continuations side by side; a token is tinted by how far apart the edited and the unedited model are there.
import { Tokens } from "./tokens.js";
import { html } from "../lib/dom.js";
import { count, num, percent, tokenText } from "../lib/format.js";

/** @param {{ answer: SideBySide }} props */
export function TwoAnswers({ answer }) {
  const { unedited, edited } = answer;
  const most = Math.max(...(unedited.kl ?? []), ...(edited.kl ?? []), 1e-9);
  const facts = [
    ["tokens changed", count(answer.tokens_edited), "", "tokens that at least one edit changed, prompt and continuation"],
    ["KL", answer.kl_mean === null ? "–" : num(answer.kl_mean), "nats a token", "KL(edited ‖ unedited) along the edited continuation"],
    ["coherence", num(answer.coherence), `unedited ${num(answer.coherence_unedited)}`, "cross-entropy of the text under the unedited model, nats a token: low is coherent"],
    ["repeats itself", repeated(answer.repetition), `unedited ${repeated(answer.repetition_unedited)}`, "groups of four tokens that stood in the text before; a text that repeats itself is cheap for the model, so coherence does not see it"],
  ];
  return html`<dl class="tiles">${facts.map(([name, value, more, tip]) => html`<div data-tip=${tip}><dt>${name}</dt><dd>${value}<small>${more}</small></dd></div>`)}</dl>
    <div class="columns even" id="answers" aria-live="polite">
      <${One} title="Unedited" side=${unedited} most=${most} />
      <${One} title="Edited" side=${edited} most=${most} surprise=${answer.cross_entropy} />
    </div>
    <p class="note">${edited.kl === null ? "Under edits of the cache no divergence is measured." : `Tinted by KL(edited ‖ unedited) of the distribution that each token was chosen from; full tint is ${num(most)} nats. On the left, where the edits would have turned the text.`}</p>`;
}

/** @param {{ title: string, side: Side, most: number, surprise?: readonly number[] }} props */
function One({ title, side, most, surprise }) {
  /** @param {number} i */
  const tip = (i) => `${tokenText(side.tokens[i])}   ${side.kl ? `KL ${num(side.kl[i])} nats   ` : ""}log-probability ${num(side.logprobs[i])}${surprise ? `, unedited ${num(-surprise[i])}` : ""}`;
  return html`<section class="panel"><h2>${title} <small>${side.ending === "length" ? "cut at its length" : `ended: ${side.ending}`}</small></h2>
    <p class="strip-line"><${Tokens} pieces=${side.tokens} activations=${side.kl ?? undefined} max=${most} breaks=${true} tip=${tip} /></p></section>`;
}

/** @param {number | null | undefined} share of a text that repeats itself; none of a short one */
export const repeated = (share) => (share === null || share === undefined ? "–" : percent(share));
