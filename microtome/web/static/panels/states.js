// What a page shows when it has nothing to show yet, nothing at all, or an error.
import { html } from "../lib/dom.js";

/** @param {{ error: { parts: import("../lib/api.js").FourParts }, again?: () => void }} props */
export function ErrorPanel({ error, again }) {
  const { parts } = error;
  return html`<section class="error" role="alert">
    <h2>${sentence(parts.what)}</h2>
    <dl>
      ${parts.got !== null && html`<dt>got</dt><dd>${parts.got}</dd>`}
      ${parts.wanted !== null && html`<dt>wanted</dt><dd>${parts.wanted}</dd>`}
      <dt>do</dt><dd><b>${parts.do}</b></dd>
    </dl>
    <p class="quiet">${parts.error}</p>
    ${again && html`<button onClick=${again}>Try again</button>`}
  </section>`;
}

/** @param {{ lines?: number }} props */
export const Loading = ({ lines = 6 }) =>
  html`<div class="loading" role="status" aria-label="loading">${Array.from({ length: lines }, (_, i) => html`<div style=${{ width: `${94 - ((i * 37) % 45)}%` }}></div>`)}</div>`;

/** @param {{ title: string, children?: any }} props */
export const Empty = ({ title, children }) => html`<section class="empty"><h2>${title}</h2>${children}</section>`;

/** @param {string} text */
const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);
