// Prompts that were dreamt up to drive a feature: what no other beats in activation and fluency, beside the same of the corpus' own text.
import { Asking } from "./asking.js";
import { html, useEffect } from "../lib/dom.js";
import { count, num, tokenText } from "../lib/format.js";
import { at } from "../lib/place.js";

const WIDTH = 380;
const HEIGHT = 230;
const EDGE = { left: 44, right: 12, top: 12, bottom: 34 };
const AGAIN = 4000;

/** @param {{ card: Card }} props */
export function DreamsPanel({ card }) {
  const url = `/api${at(card.index)}/f/${card.feature}/dreams`;
  /** @param {{ dreams: readonly KeptDream[], command: string }} answer @param {() => void} again */
  const show = ({ dreams, command }, again) => html`
    ${dreams.map((one) => html`<${Dreamt} kept=${one} />`)}
    ${dreams.some((one) => !one.is_finished) && html`<${Watching} again=${again} />`}
    ${dreams.length === 0 && html`<p class="quiet">Nothing was dreamt of it yet. Prompts evolve towards a large activation and a small cross-entropy; it takes a minute or more of the model's time, so it is run from a terminal. Begun there, it shows here as it goes; Ctrl-C stops it, and the same line resumes.</p>`}
    <pre><code>${command}</code></pre>`;
  return html`<${Asking} id="dreams" title="Dreamt prompts" url=${url} show=${show} />`;
}

/** Asks again while a run is on its way. @param {{ again: () => void }} props */
function Watching({ again }) {
  useEffect(() => {
    const timer = setInterval(again, AGAIN);
    return () => clearInterval(timer);
  }, []);
  return null;
}

/** @param {{ kept: KeptDream }} props */
function Dreamt({ kept }) {
  const { dream } = kept;
  const area = dream.hypervolumes[dream.hypervolumes.length - 1] ?? 0;
  return html`<div class="dream"><h3>${dream.name} <span class="quiet">${kept.is_finished ? "" : "not finished: "}${count(dream.iterations)} of ${count(dream.planned)} rounds, ${count(dream.prompts)} prompts, ${count(dream.tokens_run)} tokens run</span></h3>
    <div class="dream-body"><div><${Front} dream=${dream} />
      <p class="note"><span class="dreamt-key">dreamt, area ${num(area)}</span> <span class="corpus-key">the corpus' own ${count(dream.corpus_texts)} strongest texts of ${dream.length} tokens, area ${num(dream.corpus_hypervolume)}</span>: ${area > dream.corpus_hypervolume ? "the dream is ahead" : area < dream.corpus_hypervolume ? "the corpus is ahead" : "neither is ahead"}</p></div>
      <table class="plain-table"><thead><tr><th>prompt</th><th class="n" data-tip=${`100 % is ${num(dream.store_max)}, the largest in the corpus`}>of max</th><th class="n" data-tip="mean cross-entropy of its tokens, nats">nats</th><th class="n" data-tip="the corpus' best at this cross-entropy or less">corpus</th></tr></thead>
      <tbody>${dream.front.map((one) => html`<tr><td><span class="prompt">${one.pieces.map(tokenText).join("").replaceAll("␣", " ")}</span></td><td class="n">${whole(one.share)}</td><td class="n">${one.cross_entropy.toFixed(2)}</td><td class="n">${one.corpus_share === null ? "none" : whole(one.corpus_share)}</td></tr>`)}</tbody></table></div></div>`;
}

/** @param {number} part */
const whole = (part) => `${Math.round(100 * part)} %`;

/** Activation against cross-entropy: better is up and left. @param {{ dream: Dream }} props */
function Front({ dream }) {
  const all = [...dream.front, ...dream.corpus_front];
  if (all.length === 0) return html`<p class="quiet">No prompt yet.</p>`;
  const most = Math.max(1, ...all.map((one) => one.share)) * 1.08;
  const low = Math.min(...all.map((one) => one.cross_entropy));
  const span = Math.max(...all.map((one) => one.cross_entropy)) - low || 1;
  const x = (/** @type {Dreamed} */ one) => EDGE.left + ((one.cross_entropy - low + 0.04 * span) / (1.08 * span)) * (WIDTH - EDGE.left - EDGE.right);
  const y = (/** @type {number} */ part) => HEIGHT - EDGE.bottom - (Math.max(0, part) / most) * (HEIGHT - EDGE.top - EDGE.bottom);
  /** @param {readonly Dreamed[]} front */
  const steps = (front) => [...front].reverse().map((one, i, line) => (i === 0 ? `M${x(one)},${y(one.share)}` : `L${x(one)},${y(line[i - 1].share)}L${x(one)},${y(one.share)}`)).join("");
  /** @param {readonly Dreamed[]} front @param {string} name */
  const drawn = (front, name) => html`<g class=${name}><path d=${steps(front)} />${front.map((one) => html`<circle cx=${x(one)} cy=${y(one.share)} r="3.5" data-tip=${`${one.pieces.join("")}\n${whole(one.share)} of the maximum, ${one.cross_entropy.toFixed(2)} nats`}></circle>`)}</g>`;
  return html`<svg class="front" viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label="activation against cross-entropy">
    <line class="axis" x1=${EDGE.left} x2=${EDGE.left} y1=${EDGE.top} y2=${HEIGHT - EDGE.bottom} /><line class="axis" x1=${EDGE.left} x2=${WIDTH - EDGE.right} y1=${HEIGHT - EDGE.bottom} y2=${HEIGHT - EDGE.bottom} />
    <line class="bar100" x1=${EDGE.left} x2=${WIDTH - EDGE.right} y1=${y(1)} y2=${y(1)} /><text x=${EDGE.left - 6} y=${y(1) + 4} text-anchor="end">100 %</text><text x=${EDGE.left - 6} y=${HEIGHT - EDGE.bottom + 4} text-anchor="end">0</text>
    <text x=${EDGE.left} y=${HEIGHT - 14}>${low.toFixed(1)}</text><text x=${WIDTH - EDGE.right} y=${HEIGHT - 14} text-anchor="end">${(low + span).toFixed(1)} nats</text><text x=${(WIDTH + EDGE.left) / 2} y=${HEIGHT - 14} text-anchor="middle">cross-entropy</text>
    ${drawn(dream.corpus_front, "corpus")}${drawn(dream.front, "dreamt")}</svg>`;
}
