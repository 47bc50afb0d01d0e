// A long list of which only the visible rows are drawn and fetched, a page of rows at a time.
import { get } from "../lib/api.js";
import { html, useEffect, useRef, useState } from "../lib/dom.js";

const PAGE = 100;
const MARGIN = 12;

/**
 * @template Row
 * @param {{
 *   source: (offset: number, limit: number) => string, rowHeight: number, label: string,
 *   row: (row: Row) => any, onAnswer: (answer: any) => void, onProblem: (error: any) => void, turn?: number,
 * }} props `source` is the address of a page; another address means another list, whose rows replace the old ones when they come.
 *   `onProblem` hears of a list whose first rows failed; a page that fails later says so in its rows. Another `turn` asks again for what failed.
 */
export function VirtualList({ source, rowHeight, label, row, onAnswer, onProblem, turn = 0 }) {
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  const list = useRef({ key: "", pages: /** @type {Map<number, readonly Row[]>} */ (new Map()), asked: /** @type {Set<number>} */ (new Set()), failed: /** @type {Set<number>} */ (new Set()), stale: true, total: 0 });
  const [view, setView] = useState({ top: 0, height: 800 });
  const [, redraw] = useState(0);
  const [tries, setTries] = useState(0);
  const key = source(0, PAGE);
  const total = list.current.total;
  const first = Math.max(0, Math.floor(view.top / rowHeight) - MARGIN);
  const last = Math.min(total, Math.ceil((view.top + view.height) / rowHeight) + MARGIN);

  useEffect(() => {
    const measure = () => {
      if (!box.current) return;
      const top = Math.max(0, -box.current.getBoundingClientRect().top);
      setView((before) => (Math.abs(before.top - top) < rowHeight && before.height === innerHeight ? before : { top, height: innerHeight }));
    };
    measure();
    addEventListener("scroll", measure, { passive: true });
    addEventListener("resize", measure);
    return () => {
      removeEventListener("scroll", measure);
      removeEventListener("resize", measure);
    };
  }, [rowHeight]);

  useEffect(() => {
    const isNew = list.current.key !== key;
    if (isNew) list.current = { key, pages: list.current.pages, asked: new Set(), failed: new Set(), stale: true, total: list.current.total };
    const now = list.current;
    const begin = now.stale ? 0 : Math.floor(first / PAGE);
    for (let page = begin; page === begin || page * PAGE < last; page++) {
      if (now.asked.has(page)) continue;
      now.asked.add(page);
      get(source(page * PAGE, PAGE)).then(
        (answer) => {
          if (list.current !== now) return;
          if (now.stale) now.pages = new Map();
          now.stale = false;
          now.failed.delete(page);
          now.pages.set(page, answer.rows);
          now.total = answer.total;
          onAnswer(answer);
          redraw((n) => n + 1);
        },
        (error) => {
          if (list.current !== now) return;
          now.asked.delete(page);
          if (now.stale) return onProblem(error);
          now.failed.add(page);
          redraw((n) => n + 1);
        },
      );
      if (now.stale) break;
    }
  }, [key, first, last, list.current.stale, turn, tries]);

  const rows = [];
  for (let i = first; i < last; i++) {
    const page = Math.floor(i / PAGE);
    const found = list.current.pages.get(page)?.[i % PAGE];
    const waiting = list.current.failed.has(page) ? html`<span class="quiet">not loaded <button class="plain" onClick=${() => setTries((n) => n + 1)}>Try again</button></span>` : html`<span class="quiet">…</span>`;
    rows.push(html`<div key=${i} class="row-slot" role="row" aria-rowindex=${i + 2} style=${{ top: `${i * rowHeight}px`, height: `${rowHeight}px` }}>${found ? row(found) : waiting}</div>`);
  }
  return html`<div class="virtual" ref=${box} role="rowgroup" aria-label=${label} style=${{ height: `${total * rowHeight}px` }}>${rows}</div>`;
}
