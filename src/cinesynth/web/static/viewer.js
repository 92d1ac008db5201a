// A beating heart with its masks: frame and slice without asking the server, and everything by keyboard too.
import { fileOf, get, zipOf } from "./api.js";
import { Curves } from "./curves.js";
import { el, number, unique } from "./dom.js";
import { asArrays, fetchVolume, range, readVolume } from "./nifti.js";
import { PlanesView, SliceView, hasWebGL2 } from "./views.js";

const KEYS = "Space: play, ← →: frame, ↑ ↓: slice, O: outlines, P: planes";
const ROWS = [["EDV", "lv_edv_ml", "mL"], ["ESV", "lv_esv_ml", "mL"], ["EF", "ef_percent", "%"], ["slices", "slices", ""],
  ["RV EDV", "rv_edv_ml", "mL"], ["RV ESV", "rv_esv_ml", "mL"], ["mass", "myo_mass_g", "g"]];
const PLAIN = "WebGL 2 is not available: only the short axis is shown.";

function slider(label, settings, onInput) {
  const id = unique("range"), output = el("output", { for: id });
  const input = el("input", { type: "range", id, ...settings });
  input.addEventListener("input", () => onInput(Number(input.value)));
  return { root: el("label", { for: id }, el("span", {}, label), input, output), input, say: (text) => { output.textContent = text; } };
}

export class Viewer extends EventTarget {
  constructor() {
    super();
    this.canvases = ["short axis", "three planes"].map((planes, i) => el("canvas", { tabindex: "0", hidden: i > 0, "aria-label": `Heart, ${planes}. ${KEYS}` }));
    this.where = el("span", { class: "where" });
    this.play = el("button", { type: "button", onclick: () => this.toggle() }, "Play");
    this.frames = slider("Frame", { min: 0, max: 0, value: 0 }, (t) => { this.pause(); this.setFrame(t); });
    this.slices = slider("Slice", { min: 0, max: 0, value: 0 }, (z) => this.setSlice(z));
    this.opacity = slider("Opacity", { min: 0, max: 1, step: 0.05, value: 1 }, () => this.drawOverlay());
    this.dark = slider("Window min", { min: 0, max: 1 }, () => this.drawWindow());
    this.bright = slider("Window max", { min: 0, max: 1 }, () => this.drawWindow());
    this.mode = el("select", { "aria-label": "Masks", onchange: () => this.drawOverlay() },
      el("option", { value: "outline" }, "outlines"), el("option", { value: "fill" }, "filled"), el("option", { value: "none" }, "no masks"));
    this.plane = el("select", { "aria-label": "Planes", onchange: () => this.choosePlanes() },
      el("option", { value: "short" }, "short axis"), el("option", { value: "planes" }, "three planes"));
    this.curves = new Curves((t) => { this.pause(); this.setFrame(t); });
    this.facts = el("div", { class: "card scroll" });
    this.links = el("div", { class: "links" });
    const flat = !hasWebGL2();
    this.root = el("div", { class: "viewer", hidden: true },
      el("div", { class: "picture" }, ...this.canvases, this.where),
      el("div", { class: "row" }, this.play, this.mode, flat ? null : this.plane, el("small", {}, flat ? PLAIN : KEYS)),
      el("div", { class: "tools" }, this.frames.root, this.slices.root, this.opacity.root, this.dark.root, this.bright.root),
      el("div", { class: "beside" }, this.curves.root, this.facts), this.links);
    const moved = (mm, height) => this.moved(mm, height);
    this.views = [new SliceView(this.canvases[0], moved), flat ? null : new PlanesView(this.canvases[1], moved)];
    this.view = this.views[0];
    this.root.querySelector(".picture").addEventListener("keydown", (event) => this.key(event), { capture: true });
  }

  async show(name) {
    this.pause();
    const result = await get(`/api/results/${name}`), files = new Set(result.files);
    const imageName = files.has("image.nii.gz") ? "image.nii.gz" : "image.nii";
    const buffers = await Promise.all([fetchVolume(fileOf(name, imageName)), fetchVolume(fileOf(name, "label.nii.gz"))]);
    this.root.hidden = false;
    if (result.kind === "generate") buffers.forEach(asArrays);
    const [volume, labels] = buffers.map(readVolume), window = range(volume);
    Object.assign(this, { result, volume, t: 0, z: 0, content: { buffers, volume, labels, window }, loaded: new Set() });
    await this.load(this.view);
    this.frames.input.max = volume.frames - 1;
    this.slices.input.max = volume.size[2] - 1;
    for (const each of [this.dark, this.bright]) Object.assign(each.input, { min: window.low, max: window.high, step: (window.high - window.low) / 200 });
    this.dark.input.value = window.dark;
    this.bright.input.value = window.bright;
    this.drawWindow();
    this.curves.show(result.record.volumes_ml, result.record.frame_time_ms);
    this.tell();
    this.setSlice(Math.floor(volume.size[2] / 2));
    this.setFrame(result.record.ed_index ?? 0);
    this.drawOverlay();
    this.frameMs = Math.max(20, result.record.frame_time_ms || 40);
    if (volume.frames > 1 && !matchMedia("(prefers-reduced-motion: reduce)").matches) this.start();
    this.dispatchEvent(new Event("shown"));
  }

  async load(view) {
    if (this.loaded.has(view)) return;
    await view.load(this.content);
    this.loaded.add(view);
  }

  async choosePlanes() {
    const place = this.plane.value === "planes" ? 1 : 0, focused = this.canvases.includes(document.activeElement);
    this.canvases.forEach((canvas, i) => { canvas.hidden = i !== place; });
    if (focused) this.canvases[place].focus(); // before it is loaded: keys go on to count
    if (this.volume) await this.load(this.views[place]);
    if (this.canvases[place].hidden) return; // another was chosen meanwhile
    this.view = this.views[place];
    if (!this.volume) return;
    this.view.slice(this.z, this.volume.size[2]);
    this.drawOverlay();
    this.drawWindow();
    this.view.frame(this.t);
  }

  tell() {
    const { record } = this.result, asked = record.requested ?? {}, found = record.achieved ?? record;
    const rows = ROWS.filter(([, key]) => asked[key] != null || found[key] != null);
    const rules = record.rules ?? [...(record.provenance?.acceptance?.anatomy?.rules ?? []), ...(record.provenance?.acceptance?.motion?.rules ?? [])];
    const verdict = record.accepted === null ? "" : record.accepted ? "passes all anatomical rules" : "breaks an anatomical rule";
    this.facts.replaceChildren(
      el("h2", {}, record.achieved ? "Requested and achieved" : "Measured on the masks"),
      el("table", {}, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, ""), ...(record.achieved ? [el("th", { scope: "col" }, "requested")] : []), el("th", { scope: "col" }, "achieved"))),
        el("tbody", {}, ...rows.map(([label, key, unit]) => el("tr", {}, el("td", {}, `${label} ${unit}`),
          ...(record.achieved ? [el("td", {}, number(asked[key], key === "slices" ? 0 : 1))] : []), el("td", {}, number(found[key], key === "slices" ? 0 : 1)))))),
      el("p", { class: record.accepted ? "good" : "bad" }, verdict),
      record.unusual ? el("p", { class: "bad" }, record.unusual) : "",
      el("details", {}, el("summary", {}, `${rules.length} rules`), el("ul", { class: "rules" },
        ...rules.map((rule) => el("li", { class: rule.passed ? "good" : "bad" }, `${rule.passed ? "✓" : "✗"} ${rule.rule}`)))));
    const name = this.result.id, saves = [["NIfTI", zipOf(name, "files")]];
    if (this.result.kind === "generate") saves.push(["nnU-Net", zipOf(name, "nnunet")], ["DICOM", zipOf(name, "dicom")]);
    for (const [label, file] of [["GIF", "beat.gif"], ["sheet", "sheet.png"], ["JSON", "record.json"]]) if (this.result.files.includes(file)) saves.push([label, fileOf(name, file)]);
    this.links.replaceChildren(el("strong", {}, "Download"), ...saves.map(([label, href]) => el("a", { href, download: "" }, label)));
  }

  setFrame(t) {
    this.t = t;
    this.view.frame(t);
    this.frames.input.value = t;
    this.frames.say(`${t + 1} / ${this.volume.frames}`);
    this.curves.frame(t);
    this.dispatchEvent(new CustomEvent("frame", { detail: t }));
  }

  setSlice(z) {
    this.z = Math.min(this.volume.size[2] - 1, Math.max(0, z));
    this.view.slice(this.z, this.volume.size[2]);
    this.sliceShown();
  }

  sliceShown() {
    this.slices.input.value = this.z;
    this.slices.say(`${this.z + 1} / ${this.volume.size[2]}`);
  }

  moved(mm, height) {
    this.where.textContent = `${mm.map((value) => value.toFixed(0)).join(", ")} mm`;
    if (height === undefined || !this.volume) return;
    const z = Math.min(this.volume.size[2] - 1, Math.floor(height * this.volume.size[2]));
    if (z !== this.z) { this.z = z; this.sliceShown(); }
  }

  drawOverlay() { this.view.overlay(this.mode.value, Number(this.opacity.input.value)); this.opacity.say(Number(this.opacity.input.value).toFixed(2)); }

  drawWindow() {
    const low = Number(this.dark.input.value), high = Math.max(Number(this.bright.input.value), low + 1e-6);
    this.view.window(low, high);
    this.dark.say(low.toFixed(0));
    this.bright.say(high.toFixed(0));
  }

  key(event) {
    const frames = this.volume?.frames;
    const actions = {
      " ": () => this.toggle(),
      ArrowRight: () => { this.pause(); this.setFrame((this.t + 1) % frames); },
      ArrowLeft: () => { this.pause(); this.setFrame((this.t - 1 + frames) % frames); },
      ArrowUp: () => this.setSlice(this.z - 1),
      ArrowDown: () => this.setSlice(this.z + 1),
      o: () => { this.mode.value = { outline: "fill", fill: "none", none: "outline" }[this.mode.value]; this.drawOverlay(); },
      p: () => { if (this.views[1]) { this.plane.value = this.plane.value === "short" ? "planes" : "short"; this.choosePlanes(); } },
    };
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action || !frames || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    action();
  }

  toggle() { if (this.timer) this.pause(); else this.start(); }
  start() {
    this.pause();
    this.timer = setInterval(() => this.setFrame((this.t + 1) % this.volume.frames), this.frameMs);
    this.play.textContent = "Pause";
  }
  pause() { clearInterval(this.timer); this.timer = null; this.play.textContent = "Play"; }
}
