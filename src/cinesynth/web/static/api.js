// What the server is asked for. Errors carry what it said and what to do.
export class Refused extends Error {
  constructor(message, hint) { super(message); this.hint = hint; }
}

async function answer(response) {
  if (response.status === 204) return null;
  const text = await response.text();
  let content = null;
  try { content = JSON.parse(text); } catch { /* said below */ }
  if (!response.ok) throw new Refused(content?.message ?? `the server answered ${response.status}`, content?.hint ?? "");
  return content;
}

async function ask(path, options) {
  try { return await answer(await fetch(path, options)); } catch (error) {
    if (error instanceof Refused) throw error;
    throw new Refused("the server does not answer", "is cinesynth serve still running?");
  }
}

export const get = (path) => ask(path);
export const send = (path, body) =>
  ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
export const remove = (path) => ask(path, { method: "DELETE" });
export const upload = (file) => ask("/api/uploads", { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: file });
export const fileOf = (result, name) => `/api/results/${result}/files/${name}`;
export const zipOf = (result, form) => `/api/results/${result}/zip/${form}`;
