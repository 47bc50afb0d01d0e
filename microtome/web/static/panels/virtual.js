// A long list of which only the visible rows are drawn and fetched, a page of rows at a time.
import { get } from "../lib/api.js";
import { html, useEffect, useRef, useState } from "../lib/dom.js";

const PAGE = 100;
const MARGIN = 12;

/**
 * @template Row
 * @param {{
 *   source: (offset: number, limit: number) => string, rowHeight: number, label: string,
 *   row: (row: Row) => any, onAnswer: (answer: any) => void, onProblem: (error: any) => void,
 * }} props `source` is the address of a page; another address means another list, whose rows replace the old ones when they come
 */
export function VirtualList({ source, rowHeight, label, row, onAnswer, onProblem }) {
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  const list = useRef({ key: "", pages: /** @type {Map<number, readonly Row[]>} */ (new Map()), asked: /** @type {Set<number>} */ (new Set()), total: 0 });
  const [view, setView] = useState({ top: 0, height: 800 });
  const [, redraw] = useState(0);
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
    if (isNew) list.current = { key, pages: list.current.pages, asked: new Set(), total: list.current.total };
    const now = list.current;
    let stale = isNew;
    const begin = isNew ? 0 : Math.floor(first / PAGE);
    for (let page = begin; page === begin || page * PAGE < last; page++) {
      if (now.asked.has(page)) continue;
      now.asked.add(page);
      get(source(page * PAGE, PAGE)).then(
        (answer) => {
          if (list.current !== now) return;
          if (stale) now.pages = new Map();
          stale = false;
          now.pages.set(page, answer.rows);
          now.total = answer.total;
          onAnswer(answer);
          redraw((n) => n + 1);
        },
        (error) => {
          if (list.current === now) onProblem(error);
        },
      );
      if (isNew) break;
    }
  }, [key, first, last]);

  const rows = [];
  for (let i = first; i < last; i++) {
    const found = list.current.pages.get(Math.floor(i / PAGE))?.[i % PAGE];
    rows.push(html`<div key=${i} class="row-slot" role="row" aria-rowindex=${i + 2} style=${{ top: `${i * rowHeight}px`, height: `${rowHeight}px` }}>${found ? row(found) : html`<span class="quiet">…</span>`}</div>`);
  }
  return html`<div class="virtual" ref=${box} role="rowgroup" aria-label=${label} style=${{ height: `${total * rowHeight}px` }}>${rows}</div>`;
}
