// The page: tabs, theme, the state of the model, and the workflows.
import { get } from "./api.js";
import { startAnimate, startAnnotate } from "./patients.js";
import { startCohort, startCompare, startGenerate, startReport } from "./hearts.js";

const tabs = [...document.querySelectorAll("[role=tab]")];

function open(tab, focus = false) {
  for (const each of tabs) {
    const chosen = each === tab;
    each.setAttribute("aria-selected", chosen);
    each.tabIndex = chosen ? 0 : -1;
    document.getElementById(each.getAttribute("aria-controls")).hidden = !chosen;
  }
  if (focus) tab.focus();
  history.replaceState(null, "", `#${tab.getAttribute("aria-controls")}`);
  document.dispatchEvent(new CustomEvent("opened", { detail: tab.getAttribute("aria-controls") }));
}

tabs.forEach((tab, i) => {
  tab.addEventListener("click", () => open(tab));
  tab.addEventListener("keydown", (event) => {
    const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to !== undefined) { event.preventDefault(); open(tabs[(to + tabs.length) % tabs.length], true); }
  });
});

const root = document.documentElement;
const stored = (() => { try { return localStorage.getItem("theme"); } catch { return null; } })();
root.dataset.theme = stored ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
document.getElementById("theme").addEventListener("click", () => {
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  try { localStorage.setItem("theme", root.dataset.theme); } catch { /* a private window */ }
});

const starters = { generate: startGenerate, compare: startCompare, animate: startAnimate, annotate: startAnnotate, cohort: startCohort, report: startReport };
const pages = Object.entries(starters).map(([name, start]) => start(document.getElementById(name)));

async function watchModel() {
  const said = document.getElementById("model");
  for (;;) {
    let model;
    try { model = await get("/api/model"); } catch (error) { said.textContent = error.message; await new Promise((r) => setTimeout(r, 3000)); continue; }
    if (model.state === "ready") {
      said.textContent = `weights ${model.weights}, ${model.licence}; cinesynth ${model.version}`;
      pages.forEach((page) => page?.ready?.(model));
      return;
    }
    said.textContent = model.state === "failed" ? `the weights could not be loaded: ${model.error}` : "loading the weights";
    if (model.state === "failed") return;
    await new Promise((resolve) => setTimeout(resolve, 700));
  }
}

open(tabs.find((tab) => `#${tab.getAttribute("aria-controls")}` === location.hash) ?? tabs[0]);
watchModel();
