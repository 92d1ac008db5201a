// Generate, Compare, Cohort and Report.
import { get, send } from "./api.js";
import { el, number, unique } from "./dom.js";
import { checkField, choiceField, numberField, seedField, valuesOf } from "./fields.js";
import { JobView } from "./jobs.js";
import { Viewer } from "./viewer.js";

const DIAGNOSES = [["UNKNOWN", "not said"], ["NOR", "NOR: healthy"], ["DCM", "DCM: dilated"], ["HCM", "HCM: hypertrophic"], ["MINF", "MINF: after infarction"], ["RV", "RV: abnormal right ventricle"]];
const QUALITY = [["1", "quick: one draw"], ["3", "usual: up to 3 draws"], ["5", "careful: up to 5 draws"]];

function wishFields() {
  const diagnosis = choiceField({ name: "diagnosis", label: "Diagnosis", help: "What the training subjects had.", options: DIAGNOSES, value: "NOR" });
  const edv = numberField({ name: "edv", label: "EDV", unit: "mL", help: "LV volume at end-diastole; empty: the model's choice." });
  const ef = numberField({ name: "ef", label: "EF", unit: "%", help: "Ejection fraction; needs an EDV." });
  const slices = numberField({ name: "slices", label: "Slices", unit: "of 10 mm", help: "From base to apex; empty: as the heart needs." });
  const frames = numberField({ name: "frames", label: "Frames", unit: "a beat", help: "More take longer.", min: 2, max: 40, value: 20, optional: false });
  const vendor = choiceField({ name: "vendor", label: "Scanner", help: "Vendor whose images it should look like.", options: [["", "not said"]] });
  const seed = seedField();
  const tries = choiceField({ name: "tries", label: "Quality", help: "Draws until the rules of anatomy are met.", options: QUALITY, value: "3" });
  const steps = numberField({ name: "steps", label: "Steps", help: "Of sampling; empty: the weights' own.", min: 1, max: 50, slider: false });
  const guidance = numberField({ name: "guidance", label: "Guidance", help: "1 is none; empty: the weights' own.", min: 0, max: 5, step: 0.25, slider: false });
  const control = checkField({ name: "control", label: "Meet the volumes", help: "Steer the masks to what is asked (closed loop)." });
  return { diagnosis, edv, ef, slices, frames, vendor, seed, tries, steps, guidance, control };
}

const bodyOf = (fields, extra = {}) => {
  const body = { ...valuesOf(Object.values(fields)), ...extra };
  body.tries = Number(body.tries);
  return body;
};

class WishForm {
  constructor(form, fields, button, onSubmit) {
    Object.assign(this, { form, fields });
    this.said = el("p", { role: "status" });
    this.typical = el("button", { type: "button", onclick: () => this.fillTypical() }, "Typical values");
    this.button = el("button", { class: "main", type: "submit", disabled: true }, button);
    const { steps, guidance, control, ...usual } = fields;
    form.append(usual.diagnosis.field, el("div", { class: "field" }, this.typical), ...Object.values(usual).slice(1).map((f) => f.field),
      el("details", {}, el("summary", {}, "Advanced"), steps.field, guidance.field, control.field), this.said, this.button);
    form.addEventListener("submit", (event) => { event.preventDefault(); onSubmit(); });
    form.addEventListener("input", () => this.changed());
  }

  ready(model) {
    this.model = model;
    const { edv, ef, slices, vendor } = this.fields, { low, high } = model.overall, { limits } = model;
    edv.limits(Math.floor(low.edv), Math.ceil(high.edv), ...limits.edv);
    ef.limits(Math.floor(low.ef), Math.ceil(high.ef), 3, 95);
    slices.limits(low.slices, high.slices, ...limits.slices);
    vendor.field.hidden = !model.vendors.length;
    vendor.fill([["", "not said"], ...model.vendors.map((name) => [name, name])]);
    this.button.disabled = false;
    this.fillTypical();
  }

  fillTypical() {
    const { diagnosis, edv, ef, slices } = this.fields;
    const { typical } = this.model.diagnoses[diagnosis.value] ?? this.model.overall;
    edv.value = Math.round(typical.edv); ef.value = Math.round(typical.ef); slices.value = typical.slices;
    this.changed();
  }

  changed() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.check(), 250);
  }

  async check() {
    try {
      const found = await send("/api/check", bodyOf(this.fields));
      this.said.className = found.unusual || found.refused ? "bad" : "";
      this.said.textContent = [found.esv === null ? "" : `ESV ${number(found.esv)} mL.`, found.unusual, found.refused].filter(Boolean).join(" ");
    } catch (error) {
      this.said.className = "bad";
      this.said.textContent = `${error.message}. ${error.hint}.`;
    }
  }
}

export function startGenerate(section) {
  const fields = wishFields(), job = new JobView(), viewer = new Viewer();
  const form = new WishForm(section.querySelector("form"), fields, "Generate", async () => {
    form.button.disabled = true;
    const made = await job.run("/api/generate", bodyOf(fields));
    form.button.disabled = false;
    if (made) { await viewer.show(made[0]); document.dispatchEvent(new Event("made")); }
  });
  section.querySelector(".stage").append(job.root, viewer.root);
  return { ready: (model) => form.ready(model) };
}

const named = (result) => {
  const asked = result.requested ?? {}, parts = [asked.diagnosis ?? result.kind];
  if (result.achieved?.lv_edv_ml != null) parts.push(`${number(result.achieved.lv_edv_ml, 0)} mL`, `EF ${number(result.achieved.ef_percent, 0)} %`);
  if (result.seed != null) parts.push(`seed ${result.seed}`);
  return parts.join(", ");
};

export function startCompare(section) {
  const sides = [0, 1].map((side) => ({ viewer: new Viewer(), choice: choiceField({ name: `side${side}`, label: side ? "Right" : "Left", options: [["", "choose a heart"]] }) }));
  const ef = numberField({ name: "ef", label: "The left heart with another EF", unit: "%", help: "Its anatomy is kept, bit for bit.", min: 10, max: 80, value: 40, slider: false });
  const job = new JobView();
  const make = el("button", { type: "button", onclick: async () => {
    if (!sides[0].choice.value) return job.fail("no heart is chosen on the left", "generate one first");
    const left = await get(`/api/results/${sides[0].choice.value}`), asked = left.requested;
    const made = await job.run("/api/generate", { diagnosis: asked.diagnosis, ef: ef.value, seed: left.seed, frames: left.record.frames, keep: left.id });
    if (made) { await fill(); sides[1].choice.value = made[0]; await sides[1].viewer.show(made[0]); document.dispatchEvent(new Event("made")); }
  } }, "Make it");
  ef.field.querySelector(".row").append(make);
  const empty = el("p", {}, "Hearts that you generate appear here.");
  section.append(el("div", { class: "card" }, ef.field, empty), job.root, el("div", { class: "pair" }, ...sides.map(({ viewer, choice }) => el("div", {}, choice.field, viewer.root))));
  let inStep = false;
  sides.forEach(({ viewer, choice }, i) => {
    choice.input.addEventListener("change", () => choice.value && viewer.show(choice.value).catch((error) => job.fail(error.message, error.hint)));
    viewer.addEventListener("frame", (event) => {
      const other = sides[1 - i].viewer;
      if (inStep || !other.volume) return;
      inStep = true;
      other.pause();
      other.setFrame(Math.round(event.detail * (other.volume.frames - 1) / Math.max(1, viewer.volume.frames - 1)));
      inStep = false;
    });
  });
  async function fill() {
    const found = (await get("/api/results")).filter((result) => result.kind !== "annotate");
    empty.hidden = found.length > 0;
    sides.forEach(({ choice }) => choice.fill([["", "choose a heart"], ...found.map((result) => [result.id, named(result)])]));
  }
  document.addEventListener("opened", (event) => {
    if (event.detail === "compare") fill(); else sides.forEach(({ viewer }) => viewer.pause());
  });
  return {};
}

export function startCohort(section) {
  const fields = wishFields(), job = new JobView(), viewer = new Viewer();
  const count = numberField({ name: "count", label: "Hearts", help: "At most 100 here; cinesynth generate makes any number.", min: 1, max: 100, value: 5, optional: false });
  const drawn = checkField({ name: "drawn", label: "Draw volumes", help: "From the training subjects of the diagnosis; else all are asked alike." });
  const rowsId = unique("rows"), rowsText = el("textarea", { id: rowsId, rows: 4, spellcheck: "false", placeholder: "diagnosis,edv,ef,count\nDCM,280,25,3\nNOR,,,2" });
  const priors = el("div", { class: "field" }, el("label", { for: rowsId }, "Table"), rowsText, el("small", {}, "CSV or YAML as in docs/cohorts.md; it asks instead of what is below."));
  const all = el("p", { class: "links" });
  const body = el("tbody"), table = el("div", { class: "card scroll", hidden: true }, el("table", {}, el("thead", {}, el("tr", {}, ...["heart", "EDV mL", "ESV mL", "EF %", "rules", ""].map((text) => el("th", { scope: "col" }, text)))), body), all);
  const rows = async (made) => {
    table.hidden = false;
    const found = await Promise.all(made.map((name) => get(`/api/results/${name}`)));
    body.replaceChildren(...found.map((one, i) => el("tr", {}, el("td", {}, `${i + 1}: ${one.requested.diagnosis}`), ...["lv_edv_ml", "lv_esv_ml", "ef_percent"].map((key) => el("td", {}, `${number(one.requested[key])} → ${number(one.achieved[key])}`)),
      el("td", { class: one.accepted ? "good" : "bad" }, one.accepted ? "passed" : "failed"), el("td", {}, el("button", { type: "button", onclick: () => viewer.show(one.id) }, "Show")))));
  };
  const form = new WishForm(section.querySelector("form"), { ...fields }, "Generate all", async () => {
    form.button.disabled = true;
    const wish = bodyOf(fields, { count: count.value, drawn: drawn.value });
    if (drawn.value) Object.assign(wish, { edv: null, ef: null, slices: null });
    const text = rowsText.value.trim();
    if (text) Object.assign(wish, { table: text, table_form: /^(cases|defaults)\s*:/m.test(text) ? "yaml" : "csv" });
    all.replaceChildren();
    if (await job.run("/api/cohort", wish, rows)) all.append(el("a", { href: `/api/jobs/${job.ended}/zip`, download: "" }, "Download all, with their table"));
    form.button.disabled = false;
    document.dispatchEvent(new Event("made"));
  });
  form.form.prepend(priors, count.field, drawn.field);
  section.querySelector(".stage").append(job.root, table, viewer.root);
  return { ready: (model) => form.ready(model) };
}

export function startReport(section) {
  const list = el("div", { class: "card" });
  section.append(list);
  document.addEventListener("opened", async (event) => {
    if (event.detail !== "report") return;
    const found = await get("/api/reports");
    if (!found.length) return list.replaceChildren(el("p", {}, "No report. Start the server with cinesynth serve --reports FOLDER, the --out of cinesynth evaluate."));
    const frame = el("iframe", { title: "Evaluation report", sandbox: "" });
    list.replaceChildren(el("div", { class: "row" }, ...found.map(({ number: n, name, judgement }) => el("button", { type: "button", onclick: () => { frame.src = `/api/reports/${n}`; } }, `${name}: ${judgement}`))), frame);
    frame.src = "/api/reports/0";
  });
  return {};
}
