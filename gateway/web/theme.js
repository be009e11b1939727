// Runs before the first paint, so that nobody sees the other theme flash by: a plain script, not a module.
"use strict";

(() => {
  const root = document.documentElement;
  const prefersLight = window.matchMedia("(prefers-color-scheme: light)");
  let chosen = null;
  try {
    chosen = localStorage.getItem("teji.theme");
  } catch {
    chosen = null; // storage is switched off: the system decides
  }
  const apply = () => {
    root.dataset.theme = chosen ?? (prefersLight.matches ? "light" : "dark");
    root.dispatchEvent(new CustomEvent("themechange"));
  };
  prefersLight.addEventListener("change", apply);
  root.addEventListener("themechoice", (event) => {
    chosen = event.detail;
    try {
      localStorage.setItem("teji.theme", chosen);
    } catch {
      // storage is switched off: the choice holds until the page is left
    }
    apply();
  });
  apply();
})();
