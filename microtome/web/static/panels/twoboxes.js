// Two boxes of prompts, a line each: with something and without it. What they hold is the address' `plus` and `minus`.
import { fits, TextBox, TooLong } from "./textbox.js";
import { html, useLayoutEffect, useState } from "../lib/dom.js";
import { place, prompts, setQuery } from "../lib/place.js";

/** What the address asks for. */
export function askedPrompts() {
  const { query } = place.value;
  return { positive: prompts(query.get("plus") ?? ""), negative: prompts(query.get("minus") ?? "") };
}

/** @param {{ names: readonly [string, string], hints: readonly [string, string], least: readonly [number, number], needs: string, again: () => void, children?: any }} props `least` is how many prompts each box needs, `needs` says so */
export function TwoBoxes({ names, hints, least, needs, again, children }) {
  const { query } = place.value;
  const asked = [query.get("plus") ?? "", query.get("minus") ?? ""];
  const [plus, setPlus] = useState(asked[0]);
  const [minus, setMinus] = useState(asked[1]);
  useLayoutEffect(() => setPlus(asked[0]), [asked[0]]);
  useLayoutEffect(() => setMinus(asked[1]), [asked[1]]);
  const isEnough = prompts(plus).length >= least[0] && prompts(minus).length >= least[1];
  const isReady = isEnough && fits(plus) && fits(minus);
  const run = () => {
    if (!isReady) return;
    if (plus === asked[0] && minus === asked[1]) again();
    else setQuery({ plus, minus }, { push: true });
  };
  /** @param {KeyboardEvent} event */
  const press = (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    run();
  };
  /** @param {0 | 1} which @param {string} text @param {(text: string) => void} set */
  const box = (which, text, set) => html`<label><span>${names[which]} <small>${prompts(text).length || ""}</small></span>
    <${TextBox} id=${which === 0 ? "test-text" : "minus-text"} rows=${Math.min(12, Math.max(4, text.split("\n").length))} hint=${hints[which]} text=${text} set=${set} press=${press} /></label>`;
  return html`<section class="panel testbox">
    <div class="two-boxes">${box(0, plus, setPlus)}${box(1, minus, setMinus)}</div>
    <${TooLong} text=${plus} /><${TooLong} text=${minus} />
    <div class="entry"><span class="note">A line is a prompt. Ctrl+Enter runs the model on them.${!isEnough && html` <b>${needs}</b>`}</span><button class="main" disabled=${!isReady} onClick=${run}>Run</button></div>
    ${children}
  </section>`;
}
