// Form fields with their unit and one line of help, and forms that read them.
import { el, unique } from "./dom.js";

export function numberField({ name, label, unit = "", help = "", min, max, step = 1, value = "", optional = true, slider = true }) {
  const id = unique(name), helpId = unique("help");
  const input = el("input", { type: "number", id, name, step, value, "aria-describedby": helpId, required: !optional });
  const range = slider ? el("input", { type: "range", "aria-label": `${label} slider`, step, tabindex: "0" }) : null;
  const field = el("div", { class: "field" },
    el("label", { for: id }, label, el("span", { class: "unit" }, unit)),
    el("div", { class: "row" }, range, input), el("small", { id: helpId }, help));
  const api = {
    name, field, input,
    get value() { return input.value === "" ? null : Number(input.value); },
    set value(wanted) { input.value = wanted ?? ""; if (range && wanted !== null) range.value = wanted; },
    limits(low, high, hardLow = low, hardHigh = high) {
      if (range) { range.min = low; range.max = high; if (input.value !== "") range.value = input.value; }
      input.min = hardLow; input.max = hardHigh;
    },
  };
  if (min !== undefined) api.limits(min, max);
  if (range) {
    if (value !== "") range.value = value;
    range.addEventListener("input", () => { input.value = range.value; input.dispatchEvent(new Event("input", { bubbles: true })); });
    input.addEventListener("input", () => { if (input.value !== "") range.value = input.value; });
  }
  return api;
}

export function choiceField({ name, label, help = "", options, value }) {
  const id = unique(name), helpId = unique("help");
  const input = el("select", { id, name, "aria-describedby": helpId });
  const api = {
    name, input,
    field: el("div", { class: "field" }, el("label", { for: id }, label), input, el("small", { id: helpId }, help)),
    fill(found) { const kept = input.value; input.replaceChildren(...found.map(([key, text]) => el("option", { value: key }, text))); if (found.some(([key]) => key === kept)) input.value = kept; },
    get value() { return input.value === "" ? null : input.value; },
    set value(wanted) { input.value = wanted ?? ""; },
  };
  api.fill(options);
  if (value !== undefined) input.value = value;
  return api;
}

export function checkField({ name, label, help = "", value = true }) {
  const id = unique(name);
  const input = el("input", { type: "checkbox", id, name, checked: value });
  return {
    name, input, field: el("div", { class: "field" }, el("div", { class: "row" }, input, el("label", { for: id }, label)), el("small", {}, help)),
    get value() { return input.checked; }, set value(wanted) { input.checked = wanted; },
  };
}

export function fileField({ label, help }) {
  const id = unique("file");
  const input = el("input", { type: "file", id, accept: ".nii,.gz,.zip", required: true });
  return { input, field: el("div", { class: "field" }, el("label", { for: id }, label), input, el("small", {}, help)), get value() { return input.files[0] ?? null; } };
}

export const seedField = (value = 7) => {
  const id = unique("seed"), helpId = unique("help");
  // Text: seeds of cohorts have more digits than a number holds here.
  const input = el("input", { type: "text", inputmode: "numeric", pattern: "[0-9]+", id, name: "seed", value, "aria-describedby": helpId, required: true });
  const dice = el("button", { type: "button", onclick: () => { input.value = Math.floor(Math.random() * 2 ** 31); } }, "New seed");
  return {
    name: "seed", input,
    field: el("div", { class: "field" }, el("label", { for: id }, "Seed"), el("div", { class: "row" }, input, dice), el("small", { id: helpId }, "The same seed and settings give the same case.")),
    get value() { return input.value; }, set value(wanted) { input.value = wanted ?? ""; },
  };
};

export const valuesOf = (fields) => Object.fromEntries(fields.map((field) => [field.name, field.value]));
