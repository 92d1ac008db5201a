// Volumes of LV, RV and myocardium over the cycle, with the frame that is shown.
import { el, svg } from "./dom.js";

const WIDTH = 360, HEIGHT = 190, LEFT = 38, RIGHT = 8, TOP = 8, BOTTOM = 26;

export class Curves {
  constructor(onFrame) {
    this.onFrame = onFrame;
    this.root = el("figure", { class: "card" });
    this.root.style.margin = "0";
  }

  show(volumes, frameTimeMs) {
    const names = Object.keys(volumes), frames = volumes[names[0]].length;
    const top = Math.max(10, ...names.flatMap((name) => volumes[name])) * 1.05;
    this.x = (t) => LEFT + (WIDTH - LEFT - RIGHT) * (frames > 1 ? t / (frames - 1) : 0.5);
    const y = (ml) => HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * ml / top;
    const chart = svg("svg", { class: "curves", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": "Volumes over the cycle" });
    const step = [10, 20, 50, 100, 200].find((size) => top / size <= 5) ?? 500;
    for (let ml = 0; ml <= top; ml += step) {
      chart.append(svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(ml), y2: y(ml), stroke: "currentColor", "stroke-opacity": 0.15 }));
      const text = svg("text", { x: LEFT - 5, y: y(ml) + 4, "text-anchor": "end" });
      text.textContent = ml;
      chart.append(text);
    }
    const unit = svg("text", { x: WIDTH - RIGHT, y: HEIGHT - 6, "text-anchor": "end" });
    unit.textContent = frameTimeMs ? `mL over ${Math.round(frameTimeMs * frames)} ms` : "mL over the frames";
    chart.append(unit);
    for (const name of names) {
      const points = volumes[name].map((ml, t) => `${this.x(t).toFixed(1)},${y(ml).toFixed(1)}`).join(" ");
      chart.append(svg("polyline", { class: `curve-${name}`, points, fill: "none", "stroke-width": 2 }));
    }
    this.cursor = svg("line", { y1: TOP, y2: HEIGHT - BOTTOM, stroke: "currentColor", "stroke-width": 1.5 });
    chart.append(this.cursor);
    const pick = (event) => {
      const box = chart.getBoundingClientRect(), place = (event.clientX - box.left) * WIDTH / box.width;
      const t = Math.round((place - LEFT) / (WIDTH - LEFT - RIGHT) * (frames - 1));
      this.onFrame(Math.min(frames - 1, Math.max(0, t)));
    };
    chart.addEventListener("pointerdown", (event) => { chart.setPointerCapture(event.pointerId); pick(event); });
    chart.addEventListener("pointermove", (event) => { if (event.buttons) pick(event); });
    this.values = el("figcaption", { class: "row" });
    this.volumes = volumes;
    this.root.replaceChildren(el("h2", {}, "Volumes"), chart, this.values);
    this.frame(0);
  }

  frame(t) {
    if (!this.cursor) return;
    this.cursor.setAttribute("x1", this.x(t));
    this.cursor.setAttribute("x2", this.x(t));
    this.values.replaceChildren(...Object.entries(this.volumes).map(([name, row]) =>
      el("span", { class: `key-${name}` }, el("strong", {}, name), ` ${row[Math.min(t, row.length - 1)].toFixed(0)} mL`)));
  }
}
