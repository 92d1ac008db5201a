// Animate and Annotate: from a patient's own image, which stays on the machine of the server.
import { upload } from "./api.js";
import { el } from "./dom.js";
import { choiceField, fileField, numberField, seedField, valuesOf } from "./fields.js";
import { JobView } from "./jobs.js";
import { Viewer } from "./viewer.js";

const ORDERS = [["auto", "by the header, else base first"], ["base_first", "base first"], ["apex_first", "apex first"]];
const FILES = "Short axis as .nii, .nii.gz or a zip of DICOM.";
const DIAGNOSES = [["UNKNOWN", "not said"], ["NOR", "NOR"], ["DCM", "DCM"], ["HCM", "HCM"], ["MINF", "MINF"], ["RV", "RV"]];

function workflow(section, button, path, fields, note) {
  const file = fileField({ label: "Image", help: FILES }), job = new JobView(), viewer = new Viewer();
  const submit = el("button", { class: "main", type: "submit" }, button);
  const form = section.querySelector("form");
  form.append(file.field, ...fields.map((field) => field.field), el("p", {}, note), submit);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!file.value) return;
    submit.disabled = true;
    job.root.hidden = false;
    job.bar.hidden = job.stop.hidden = true;
    job.say("sending");
    try {
      const sent = await upload(file.value);
      const made = await job.run(path, { ...valuesOf(fields), upload: sent.id });
      if (made) { await viewer.show(made[0]); document.dispatchEvent(new Event("made")); }
    } catch (error) { job.fail(error.message, error.hint ?? ""); }
    submit.disabled = false;
  });
  section.querySelector(".stage").append(job.root, viewer.root);
  document.addEventListener("opened", () => viewer.pause());
  return {};
}

const orderField = () => choiceField({ name: "slice_order", label: "Slices", help: "Which end is the base.", options: ORDERS, value: "auto" });

export const startAnimate = (section) => workflow(section, "Set in motion", "/api/animate", [
  choiceField({ name: "diagnosis", label: "Diagnosis", help: "What the motion should be like.", options: DIAGNOSES, value: "UNKNOWN" }),
  numberField({ name: "ef", label: "EF", unit: "%", help: "Ejection fraction; empty: the model's choice.", min: 10, max: 80 }),
  numberField({ name: "variation", label: "Variation", help: "0 keeps the anatomy, 1 draws it anew.", min: 0, max: 1, step: 0.1, value: 0, optional: false }),
  numberField({ name: "frames", label: "Frames", unit: "a beat", help: "More take longer.", min: 2, max: 40, value: 20, optional: false }),
  numberField({ name: "frame", label: "ED frame", help: "Of a cine, counted from 0; empty: the image is one frame.", min: 0, max: 60, slider: false }),
  orderField(), seedField(0),
], "What comes out is personal data of the patient, as the image is.");

export const startAnnotate = (section) => workflow(section, "Draw masks", "/api/annotate", [orderField()], "The masks are a model's guess, for looking at and as a start for a hand's work.");
