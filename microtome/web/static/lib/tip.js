// One tooltip for the whole page: any element with `data-tip` shows that text while the pointer or the focus is on it.
const box = document.createElement("div");
box.className = "tip";
box.hidden = true;
box.setAttribute("role", "tooltip");

/** @param {EventTarget | null} target */
function show(target) {
  const owner = target instanceof Element ? target.closest("[data-tip]") : null;
  if (!owner) {
    box.hidden = true;
    return;
  }
  box.textContent = owner.getAttribute("data-tip");
  box.hidden = false;
  const rect = owner.getClientRects()[0] ?? owner.getBoundingClientRect();
  const left = Math.min(Math.max(8, rect.left + rect.width / 2 - box.offsetWidth / 2), innerWidth - box.offsetWidth - 8);
  const above = rect.top - box.offsetHeight - 6;
  box.style.left = `${left}px`;
  box.style.top = `${above > 4 ? above : rect.bottom + 6}px`;
}

export function startTips() {
  document.body.append(box);
  document.addEventListener("pointerover", (event) => show(event.target));
  document.addEventListener("focusin", (event) => show(event.target));
  document.addEventListener("scroll", () => (box.hidden = true), { capture: true, passive: true });
}
