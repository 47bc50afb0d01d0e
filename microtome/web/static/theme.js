// Runs before the first paint, so that a chosen theme does not flash.
(function () {
  const chosen = localStorage.getItem("microtome-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
