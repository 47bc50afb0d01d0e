// The room that an element has for a picture; it follows the window.
import { useLayoutEffect, useState } from "./dom.js";

/** @param {{ current: HTMLElement | null }} box @returns {number} */
export function useWidth(box) {
  const [width, setWidth] = useState(820);
  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return;
    const measure = () => setWidth(Math.max(280, Math.floor(element.clientWidth - 32)));
    measure();
    const watch = new ResizeObserver(measure);
    watch.observe(element);
    return () => watch.disconnect();
  }, []);
  return width;
}
