// Generate, Compare, Cohort and Report.
import { get, send } from "./api.js";
import { el, number, unique } from "./dom.js";
import { checkField, choiceField, numberField, seedField, valuesOf } from "./fields.js";
import { JobView } from "./jobs.js";
import { Viewer } from "./viewer.js";

const DIAGNOSES = [["UNKNOWN", "unspecified"], ["NOR", "NOR: healthy"], ["DCM", "DCM: dilated"], ["HCM", "HCM: hypertrophic"], ["MINF", "MINF: after infarction"], ["RV", "RV: abnormal right ventricle"]];
const QUALITY = [["1", "quick: one attempt"], ["3", "default: up to 3 attempts"], ["5", "careful: up to 5 attempts"]];

function requestFields() {
  const diagnosis = choiceField({ name: "diagnosis", label: "Diagnosis", help: "Diagnosis as in the training data.", options: DIAGNOSES, value: "NOR" });
  const edv = numberField({ name: "edv", label: "EDV", unit: "mL", help: "LV end-diastolic volume. Empty: chosen by the model." });
  const ef = numberField({ name: "ef", label: "EF", unit: "%", help: "Ejection fraction. Requires an EDV." });
  const slices = numberField({ name: "slices", label: "Slices", unit: "10 mm thick", help: "From base to apex. Empty: chosen from the training data." });
  const frames = numberField({ name: "frames", label: "Frames", unit: "per cycle", help: "More frames take longer.", min: 2, max: 40, value: 20, optional: false });
  const vendor = choiceField({ name: "vendor", label: "Scanner vendor", help: "Image style of this vendor.", options: [["", "as in training data"]] });
  const seed = seedField();
  const attempts = choiceField({ name: "max_attempts", label: "Quality", help: "Maximum number of sampling attempts until the anatomical rules pass.", options: QUALITY, value: "3" });
  const steps = numberField({ name: "steps", label: "Steps", help: "Sampling steps. Empty: default of the weights.", min: 1, max: 50, slider: false });
  const guidance = numberField({ name: "guidance", label: "Guidance", help: "Guidance scale; 1 turns it off. Empty: default of the weights.", min: 0, max: 5, step: 0.25, slider: false });
  const match = checkField({ name: "match_volumes", label: "Match volumes", help: "Adjust the sample until its masks have the requested volumes." });
  return { diagnosis, edv, ef, slices, frames, vendor, seed, attempts, steps, guidance, match };
}

const bodyOf = (fields, extra = {}) => {
  const body = { ...valuesOf(Object.values(fields)), ...extra };
  body.max_attempts = Number(body.max_attempts);
  return body;
};

class RequestForm {
  constructor(form, fields, button, onSubmit) {
    Object.assign(this, { form, fields });
    this.said = el("p", { role: "status" });
    this.typical = el("button", { type: "button", onclick: () => this.fillTypical() }, "Typical values");
    this.button = el("button", { class: "main", type: "submit", disabled: true }, button);
    const { steps, guidance, match, ...usual } = fields;
    form.append(usual.diagnosis.field, el("div", { class: "field" }, this.typical), ...Object.values(usual).slice(1).map((f) => f.field),
      el("details", {}, el("summary", {}, "Advanced"), steps.field, guidance.field, match.field), this.said, this.button);
    form.addEventListener("submit", (event) => { event.preventDefault(); onSubmit(); });
    form.addEventListener("input", () => this.changed());
  }

  ready(model) {
    this.model = model;
    const { diagnosis, edv, ef, slices, vendor } = this.fields, { low, high } = model.overall, { limits } = model;
    diagnosis.fill(DIAGNOSES.filter(([name]) => name === "UNKNOWN" || name in model.diagnoses));  // others are refused
    edv.limits(Math.floor(low.edv), Math.ceil(high.edv), ...limits.edv);
    ef.limits(Math.floor(low.ef), Math.ceil(high.ef), 3, 95);
    slices.limits(low.slices, high.slices, ...limits.slices);
    vendor.field.hidden = !model.vendors.length;
    vendor.fill([["", "as in training data"], ...model.vendors.map((name) => [name, name]), ["unknown", "no vendor's style"]]);
    this.button.disabled = false;
    this.fillTypical({ keepTyped: true });  // the form can be used while the weights are still read
  }

  fillTypical({ keepTyped = false } = {}) {
    const { diagnosis, edv, ef, slices } = this.fields;
    const { typical } = this.model.diagnoses[diagnosis.value] ?? this.model.overall;
    for (const [field, value] of [[edv, Math.round(typical.edv)], [ef, Math.round(typical.ef)], [slices, typical.slices]])
      if (!keepTyped || field.value === null) field.value = value;
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
  const fields = requestFields(), job = new JobView(), viewer = new Viewer();
  const form = new RequestForm(section.querySelector("form"), fields, "Generate", async () => {
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
  const sides = [0, 1].map((side) => ({ viewer: new Viewer(), choice: choiceField({ name: `side${side}`, label: side ? "Right" : "Left", options: [["", "choose a case"]] }) }));
  const ef = numberField({ name: "ef", label: "The left case with another EF", unit: "%", help: "The ED anatomy is kept exactly.", min: 10, max: 80, value: 40, slider: false });
  const job = new JobView();
  const make = el("button", { type: "button", onclick: async () => {
    if (!sides[0].choice.value) return job.fail("no case is selected on the left", "Generate one first");
    const left = await get(`/api/results/${sides[0].choice.value}`), asked = left.requested;
    const made = await job.run("/api/generate", { diagnosis: asked.diagnosis, ef: ef.value, seed: left.seed, frames: left.record.frames, keep: left.id });
    if (made) { await fill(); sides[1].choice.value = made[0]; await sides[1].viewer.show(made[0]); document.dispatchEvent(new Event("made")); }
  } }, "Generate");
  ef.field.querySelector(".row").append(make);
  const empty = el("p", {}, "Generated cases appear here.");
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
    sides.forEach(({ choice }) => choice.fill([["", "choose a case"], ...found.map((result) => [result.id, named(result)])]));
  }
  document.addEventListener("opened", (event) => {
    if (event.detail === "compare") fill(); else sides.forEach(({ viewer }) => viewer.pause());
  });
  return {};
}

export function startCohort(section) {
  const fields = requestFields(), job = new JobView(), viewer = new Viewer();
  const count = numberField({ name: "count", label: "Cases", help: "At most 100 here; the command cinesynth generate has no limit.", min: 1, max: 100, value: 5, optional: false });
  const sample = checkField({ name: "sample_priors", label: "Sample volumes", help: "Sample volumes and slices from the training distribution. Otherwise all cases have the same settings." });
  const rowsId = unique("rows"), rowsText = el("textarea", { id: rowsId, rows: 4, spellcheck: "false", placeholder: "diagnosis,edv,ef,count\nDCM,280,25,3\nNOR,,,2" });
  const priors = el("div", { class: "field" }, el("label", { for: rowsId }, "Table"), rowsText, el("small", {}, "CSV or YAML cohort file. It replaces the settings below."));
  const all = el("p", { class: "links" });
  const body = el("tbody"), table = el("div", { class: "card scroll", hidden: true }, el("table", {}, el("thead", {}, el("tr", {}, ...["case", "EDV mL", "ESV mL", "EF %", "rules", ""].map((text) => el("th", { scope: "col" }, text)))), body), all);
  const rows = async (made) => {
    table.hidden = false;
    const found = await Promise.all(made.map((name) => get(`/api/results/${name}`)));
    body.replaceChildren(...found.map((one, i) => el("tr", {}, el("td", {}, `${i + 1}: ${one.requested.diagnosis}`), ...["lv_edv_ml", "lv_esv_ml", "ef_percent"].map((key) => el("td", {}, `${number(one.requested[key])} → ${number(one.achieved[key])}`)),
      el("td", { class: one.accepted ? "good" : "bad" }, one.accepted ? "passed" : "failed"), el("td", {}, el("button", { type: "button", onclick: () => viewer.show(one.id) }, "Show")))));
  };
  const form = new RequestForm(section.querySelector("form"), { ...fields }, "Generate all", async () => {
    form.button.disabled = true;
    const payload = bodyOf(fields, { count: count.value, sample_priors: sample.value });
    if (sample.value) Object.assign(payload, { edv: null, ef: null, slices: null });
    const text = rowsText.value.trim();
    if (text) Object.assign(payload, { table: text, table_format: /^(cases|defaults)\s*:/m.test(text) ? "yaml" : "csv" });
    all.replaceChildren();
    if (await job.run("/api/cohort", payload, rows)) all.append(el("a", { href: `/api/jobs/${job.ended}/zip`, download: "" }, "Download all with their table"));
    form.button.disabled = false;
    document.dispatchEvent(new Event("made"));
  });
  form.form.prepend(priors, count.field, sample.field);
  section.querySelector(".stage").append(job.root, table, viewer.root);
  return { ready: (model) => form.ready(model) };
}

export function startReport(section) {
  const list = el("div", { class: "card" });
  section.append(list);
  document.addEventListener("opened", async (event) => {
    if (event.detail !== "report") return;
    const found = await get("/api/reports");
    if (!found.length) return list.replaceChildren(el("p", {}, "No reports. Start the server with cinesynth serve --reports FOLDER, where FOLDER is the output of cinesynth evaluate."));
    const frame = el("iframe", { title: "Evaluation report", sandbox: "" });
    list.replaceChildren(el("div", { class: "row" }, ...found.map(({ number: n, name, judgement }) => el("button", { type: "button", onclick: () => { frame.src = `/api/reports/${n}`; } }, `${name}: ${judgement}`))), frame);
    frame.src = "/api/reports/0";
  });
  return {};
}
