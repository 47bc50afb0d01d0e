// A text as its tokens, tinted by activation. It reads as text: no boxes, no gaps; the strongest token is underlined, not only coloured.
import { html } from "../lib/dom.js";
import { num, percent, tokenText } from "../lib/format.js";

/** How deep the tint is, in steps of 1/16, so that few classes do. @param {number} strength 0 to 1 */
const depth = (strength) => Math.min(16, Math.max(1, Math.ceil(strength * 16)));

/**
 * @param {{
 *   pieces: readonly string[], activations?: readonly number[], max?: number, peak?: number, kept?: readonly boolean[],
 *   breaks?: boolean, selected?: number | null, onPick?: (i: number) => void, tip?: (i: number) => string,
 *   hues?: readonly number[], from?: number, to?: number, trim?: boolean,
 * }} props `max` is the activation at full tint; `hues` gives each token a colour number (-1 for none); `from`/`to` cut the strip, `trim` drops the space before it
 */
export function Tokens({ pieces, activations, max = 1, peak, kept, breaks, selected, onPick, tip, hues, from = 0, to = pieces.length, trim = false }) {
  const spans = [];
  for (let i = from; i < to; i++) {
    const value = activations?.[i] ?? 0;
    let name = "tk";
    if (value > 0) name += ` a${depth(value / max)}${hues && hues[i] >= 0 ? ` hue${hues[i]}` : ""}`;
    if (i === peak && value > 0) name += " peak";
    if (kept && !kept[i]) name += " unkept";
    if (i === selected) name += " picked";
    const hint = tip ? tip(i) : value > 0 ? `${tokenText(pieces[i])}   ${num(value)}` : undefined;
    spans.push(html`<span class=${name} data-i=${i} data-tip=${hint}>${shown(trim && i === from ? pieces[i].trimStart() : pieces[i], breaks === true, value)}</span>`);
  }
  /** @param {Event} event */
  const pick = (event) => {
    const span = event.target instanceof Element ? event.target.closest("[data-i]") : null;
    if (span && onPick) onPick(Number(span.getAttribute("data-i")));
  };
  return html`<span class=${`strip${breaks ? " breaks" : ""}${onPick ? " pickable" : ""}`} dir="auto" onClick=${onPick && pick}>${spans}</span>`;
}

/** The piece itself, so that what is copied is the text; marks are drawn by the style sheet. @param {string} piece @param {boolean} breaks @param {number} value */
function shown(piece, breaks, value) {
  if (piece === "") return value > 0 ? html`<i class="glyph part"></i>` : "";
  if (!piece.includes("\n")) return piece;
  return piece.split(/(\n)/).map((part) => (part === "\n" ? html`<i class=${`glyph line${breaks ? "" : " flat"}`}>${part}</i>` : part));
}

/** The hover line of a token under a feature. @param {string} piece @param {number} value @param {number} shareOfMax @param {number} [percentile] */
export function tokenTip(piece, value, shareOfMax, percentile) {
  const rank = percentile === undefined ? "" : `   stronger than ${percent(percentile)} of its firings`;
  return `${tokenText(piece)}   ${num(value)}   ${percent(shareOfMax)} of max${rank}`;
}
