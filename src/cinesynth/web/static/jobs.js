// A job on the page: progress, remaining time, cancel and errors.
import { get, remove, send } from "./api.js";
import { el } from "./dom.js";

const EVERY_MS = 400;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export class JobView {
  constructor() {
    this.bar = el("progress", { max: 1, value: 0, "aria-label": "Progress" });
    this.text = el("p", { role: "status" });
    this.stop = el("button", { type: "button", onclick: () => this.cancel() }, "Cancel");
    this.root = el("div", { class: "card job", hidden: true }, this.text, el("div", { class: "row" }, this.bar, this.stop));
  }

  async run(path, body, onResults = () => {}) {
    this.root.hidden = false;
    this.say("sending the request");
    this.bar.hidden = this.stop.hidden = false;
    this.bar.value = 0;
    this.unwanted = false;
    this.root.scrollIntoView({ block: "nearest" });
    let job;
    try {
      job = await send(path, body);
      this.id = job.id;
      if (this.unwanted) await this.cancel();
      let seen = 0;
      while (!["done", "failed", "cancelled"].includes(job.state)) {
        await pause(EVERY_MS);
        job = await get(`/api/jobs/${job.id}`);
        this.show(job);
        if (job.results.length > seen) { seen = job.results.length; onResults(job.results); }
      }
    } catch (error) { return this.fail(error.message, error.hint); }
    this.ended = this.id;
    this.id = null;
    if (job.state === "failed") return this.fail(job.error.message, job.error.hint);
    if (job.state === "cancelled") { this.say("cancelled"); this.bar.hidden = this.stop.hidden = true; return null; }
    this.root.hidden = true;
    onResults(job.results);
    return job.results;
  }

  show(job) {
    this.bar.value = job.done;
    if (job.state === "waiting") return this.say(job.ahead ? `waiting, ${job.ahead} ahead` : "waiting");
    const left = job.seconds_left === null ? "" : `, about ${Math.max(1, Math.round(job.seconds_left))} s left`;
    this.say(`${job.doing || "working"}${left}`);
  }

  say(text) { this.text.className = ""; this.text.textContent = text; }

  fail(message, hint) {
    this.root.hidden = false;
    this.bar.hidden = this.stop.hidden = true;
    this.text.className = "bad";
    this.text.textContent = hint ? `${message}. ${hint}.` : message;
    return null;
  }

  async cancel() {
    this.unwanted = true; // also where the server has not answered yet
    if (this.id) try { await remove(`/api/jobs/${this.id}`); } catch { /* it has ended */ }
  }
}
