// A field whose text takes effect a moment after the last keystroke.
import { useEffect, useLayoutEffect, useRef, useState } from "./dom.js";

/** @param {string} value what is in effect @param {(text: string) => void} apply
 * @returns {[string, (text: string) => void]} the text in the field and what to call on input */
export function useDebounced(value, apply, wait = 180) {
  const [text, setText] = useState(value);
  const timer = useRef(0);
  const sent = useRef(value);
  useLayoutEffect(() => {
    if (value !== sent.current) setText(value);
    sent.current = value;
  }, [value]);
  useEffect(() => () => clearTimeout(timer.current), []);
  return [
    text,
    (next) => {
      setText(next);
      clearTimeout(timer.current);
      timer.current = setTimeout(() => {
        sent.current = next;
        apply(next);
      }, wait);
    },
  ];
}
