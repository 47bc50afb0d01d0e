// Numbers as a person reads them. Nothing is computed here but rounding.
const whole = new Intl.NumberFormat("en-US");

/** @param {number} n */
export const count = (n) => whole.format(n);

/** Three significant digits. @param {number} x */
export function num(x) {
  if (x === 0) return "0";
  const size = Math.abs(x);
  if (size >= 10000) return whole.format(Math.round(x));
  if (size < 0.001) return x.toExponential(1).replaceAll("-", "−");
  return String(Number(x.toPrecision(3))).replace("-", "−");
}

/** A share as percent. @param {number} x */
export function percent(x) {
  const value = x * 100;
  if (value === 0) return "0 %";
  if (Math.abs(value) < 0.001) return "< 0.001 %";
  return `${Number(value.toPrecision(value >= 99.95 ? 4 : value >= 10 ? 3 : 2))} %`;
}

/** A factor, "×3.2". @param {number} x */
export const times = (x) => `×${num(x)}`;

/** Fixed decimals for a column of shares such as F1. @param {number} x */
export const share = (x) => x.toFixed(2);

/** White space and empty pieces made visible, for single tokens in lists. @param {string} piece */
export function tokenText(piece) {
  if (piece === "") return "(part of a character)";
  return piece
    .replace(/\n/g, "↵")
    .replace(/\t/g, "⇥")
    .replace(/^ +| +$/g, (spaces) => "␣".repeat(spaces.length))
    .replace(/[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]/g, "⍽")
    .replace(/[\p{Cc}\p{Cf}]/gu, (mark) => `\\u${(mark.codePointAt(0) ?? 0).toString(16).padStart(4, "0")}`);
}
