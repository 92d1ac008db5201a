// Animate and Annotate: a patient's own image, which stays on the machine of the server.
import { upload } from "./api.js";
import { el } from "./dom.js";
import { choiceField, fileField, numberField, seedField, valuesOf } from "./fields.js";
import { JobView } from "./jobs.js";
import { Viewer } from "./viewer.js";

const ORDERS = [["auto", "from the header, else base first"], ["base_first", "base first"], ["apex_first", "apex first"]];
const FILES = "Short-axis image as .nii, .nii.gz or a zip of DICOM files.";
const DIAGNOSES = [["UNKNOWN", "unspecified"], ["NOR", "NOR"], ["DCM", "DCM"], ["HCM", "HCM"], ["MINF", "MINF"], ["RV", "RV"]];

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
    job.say("uploading");
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

const orderField = () => choiceField({ name: "slice_order", label: "Slice order", help: "Which end of the stack is the base.", options: ORDERS, value: "auto" });

export const startAnimate = (section) => workflow(section, "Animate", "/api/animate", [
  choiceField({ name: "diagnosis", label: "Diagnosis", help: "Diagnosis that the motion should match.", options: DIAGNOSES, value: "UNKNOWN" }),
  numberField({ name: "ef", label: "EF", unit: "%", help: "Ejection fraction. Empty: chosen by the model.", min: 10, max: 80 }),
  numberField({ name: "variation", label: "Variation", help: "0 keeps the anatomy, 1 samples a new one; the EDV is preserved.", min: 0, max: 1, step: 0.1, value: 0, optional: false }),
  numberField({ name: "frames", label: "Frames", unit: "per cycle", help: "More frames take longer.", min: 2, max: 40, value: 20, optional: false }),
  numberField({ name: "frame", label: "ED frame", help: "ED frame of a cine, zero-based. Empty: the image is a single frame.", min: 0, max: 60, slider: false }),
  orderField(), seedField(0),
], "The result is personal data of the patient, as the image is.");

export const startAnnotate = (section) => workflow(section, "Segment", "/api/annotate", [orderField()], "The masks are a starting point for manual correction, not for clinical use.");
