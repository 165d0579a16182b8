// The API: one place that knows addresses, proofs and refusals.

const API = "/api/v1";
let proof = null;
let strangers = () => {};

export class Refusal extends Error {
  constructor(status, text) { super(text); this.status = status; }
}

export function onStranger(act) { strangers = act; }

async function ask(method, path, body) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET" && proof) headers["X-CSRF-Token"] = proof;
  let answer;
  try {
    answer = await fetch(API + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Refusal(0, "comemory does not answer");
  }
  if (answer.status === 204) return null;
  const given = await answer.json().catch(() => ({}));
  if (answer.status === 401 && path !== "/session") strangers();
  if (!answer.ok) throw new Refusal(answer.status, given.detail ?? `refused (${answer.status})`);
  return given;
}

function proved(session) { proof = session.csrf; return session; }

const at = (camera) => `/cameras/${encodeURIComponent(camera)}`;

export const session = async () => proved(await ask("GET", "/session"));
export const login = async (password) => proved(await ask("POST", "/session", { password }));
export const logout = () => ask("DELETE", "/session");
export const scores = (camera, seconds) => ask("GET", `${at(camera)}/scores?seconds=${seconds}`);
export const sensitivity = (camera) => ask("GET", `${at(camera)}/sensitivity`);
export const setSensitivity = (camera, budget) => ask("PUT", `${at(camera)}/sensitivity`, { false_alarms: budget });
export const setZones = (camera, zones) => ask("PUT", `${at(camera)}/zones`, { zones });
export const resetReferenceView = (camera) => ask("POST", `${at(camera)}/reference-view`);
export const event = (id) => ask("GET", `/events/${id}`);
export const remove = (id) => ask("DELETE", `/events/${id}`);
export const setVerdict = (id, verdict) => ask("PUT", `/events/${id}/verdict`, { verdict });
export const system = () => ask("GET", "/system");

const query = (wanted) => new URLSearchParams(Object.entries(wanted).filter(([, value]) => value !== null && value !== undefined && value !== ""));

export const events = (wanted) => ask("GET", `/events?${query(wanted)}`);
export const timeline = (wanted) => ask("GET", `/timeline?${query(wanted)}`);

// The newest picture; null while it is the one that `tag` names, or there is none.
export async function picture(camera, width, heat, tag) {
  const headers = tag ? { "If-None-Match": tag } : {};
  const answer = await fetch(`${API}${at(camera)}/picture?width=${width}&heat=${heat}`, { headers, cache: "no-store" });
  if (answer.status !== 200) return null;
  return { tag: answer.headers.get("ETag"), blob: await answer.blob() };
}

export const stream = () => new EventSource(`${API}/stream`);
