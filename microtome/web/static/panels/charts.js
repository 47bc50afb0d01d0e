// Small charts drawn with plain elements: histograms, bars in tables, barcodes of where a feature fires.
import { html, useLayoutEffect, useRef } from "../lib/dom.js";
import { count, num, percent } from "../lib/format.js";

/** @param {{ histogram: Histogram, what: string, unit?: string, height?: number }} props `what` names the things counted */
export function HistogramChart({ histogram, what, height = 96 }) {
  const { edges, counts, unit } = histogram;
  const top = Math.max(...counts, 1);
  if (counts.length === 0 || counts.every((n) => n === 0)) return html`<p class="quiet">Nothing to count.</p>`;
  const say = unit === "density" ? percent : num;
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((part) => Math.round(part * counts.length));
  return html`<figure class="histogram">
    <div class="bars" style=${{ height: `${height}px` }} role="img" aria-label=${`Histogram of ${what} by ${unit}, ${count(top)} in the fullest bin`}>
      ${counts.map((n, i) => html`<div class="slot" data-tip=${`${say(edges[i])} – ${say(edges[i + 1])}   ${count(n)} ${what}`}>
        <div class="bar" style=${{ height: n === 0 ? "0" : `max(2px, ${(100 * n) / top}%)` }}></div></div>`)}
      <span class="summit">${count(top)}</span>
    </div>
    <div class="ticks">${ticks.map((i, n) => html`<span style=${{ left: `${n * 25}%` }}>${say(edges[Math.min(i, edges.length - 1)])}</span>`)}</div>
    <figcaption>${unit}${histogram.log ? ", logarithmic" : ""}</figcaption>
  </figure>`;
}

/** A bar behind a value in a list. @param {{ part: number, tone?: string }} props part in [0, 1] */
export const Bar = ({ part, tone = "" }) =>
  html`<span class=${`meter ${tone}`}><span style=${{ width: `${Math.min(100, Math.max(0, part * 100))}%` }}></span></span>`;

/** Where along a text a feature fires, a line a firing.
 * @param {{ offsets: readonly number[], activations: readonly number[], start: number, length: number, max: number, color?: string }} props */
export function Barcode({ offsets, activations, start, length, max, color = "--activation" }) {
  const canvas = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  useLayoutEffect(() => {
    const element = canvas.current;
    const ink = element?.getContext("2d");
    if (!element || !ink) return;
    const scale = devicePixelRatio || 1;
    const width = (element.width = Math.max(1, Math.round(element.clientWidth * scale)));
    const height = (element.height = Math.max(1, Math.round(element.clientHeight * scale)));
    ink.fillStyle = getComputedStyle(element).getPropertyValue(color) || "#c2457b";
    offsets.forEach((offset, i) => {
      ink.globalAlpha = 0.25 + 0.75 * Math.min(1, activations[i] / max);
      ink.fillRect(((offset - start) / length) * width, 0, Math.max(scale * 1.5, width / length), height);
    });
  });
  return html`<canvas class="barcode" ref=${canvas} aria-hidden="true"></canvas>`;
}
