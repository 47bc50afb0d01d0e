// What the columns of a list of features found are.
import { html } from "../lib/dom.js";

/** @param {{ value: string }} props */
export const HitHeads = ({ value }) => html`<p class="hit-heads"><span>feature</span><span class="wide">strongest on</span><span>of its maximum</span><span class="value">${value}</span><span class="value wide">density</span></p>`;
