// Lines over one axis, a point for each value.
import { html } from "../lib/dom.js";
import { num } from "../lib/format.js";

const [WIDE, HIGH, LEFT, FOOT, LABELS] = [420, 170, 46, 30, 11];

/** @typedef {{ name: string, tone: string, values: readonly number[] }} Line */

/** @param {{ at: readonly number[], over: string, lines: readonly Line[], label: string, fromZero?: boolean }} props
 * `over` names what runs along the axis; without `fromZero` the scale has the values alone */
export function Curve({ at, over, lines, label, fromZero = true }) {
  const all = lines.flatMap((line) => line.values);
  const [low, high] = fromZero ? [Math.min(0, ...all), Math.max(...all, 1e-9)] : [Math.min(...all), Math.max(...all)];
  const x = (/** @type {number} */ place) => LEFT + ((place - at[0]) / (at[at.length - 1] - at[0] || 1)) * (WIDE - LEFT - 12);
  const y = (/** @type {number} */ value) => HIGH - FOOT - ((value - low) / (high - low || 1)) * (HIGH - FOOT - 14);
  return html`<figure><svg class="curve" viewBox=${`0 0 ${WIDE} ${HIGH}`} role="img" aria-label=${label}>
      ${low <= 0 && high >= 0 && html`<line class="axis" x1=${LEFT} x2=${WIDE - 8} y1=${y(0)} y2=${y(0)} />`}
      <text x=${LEFT - 6} y=${y(high) + 4} text-anchor="end">${num(high)}</text><text x=${LEFT - 6} y=${y(low) + 4} text-anchor="end">${num(low)}</text>
      ${at.map((place, i) => i % Math.ceil(at.length / LABELS) === 0 && html`<text x=${x(place)} y=${HIGH - 10} text-anchor="middle">${num(place)}</text>`)}
      ${lines.map((line) => html`<g class=${line.tone}><polyline points=${line.values.map((value, i) => `${x(at[i])},${y(value)}`).join(" ")} />${line.values.map((value, i) => html`<circle cx=${x(at[i])} cy=${y(value)} r=${at.length > 2 * LABELS ? 1.5 : 3.5} data-tip=${`${line.name}\n${over} ${num(at[i])}: ${num(value)}`} />`)}</g>`)}
    </svg><figcaption>${label}${lines.length > 1 && html` · ${lines.map((line) => html`<span class=${`key ${line.tone}`}>${line.name}</span> `)}`}</figcaption></figure>`;
}
