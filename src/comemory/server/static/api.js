// The API: its URLs, the CSRF token, and errors.

const API = "/api/v1";
let csrf = null;
let onUnknown = () => {};

export class ApiError extends Error {
  constructor(status, text) { super(text); this.status = status; }
}

export function onUnknownCaller(act) { onUnknown = act; }

async function request(method, path, body) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET" && csrf) headers["X-CSRF-Token"] = csrf;
  let response;
  try {
    response = await fetch(API + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new ApiError(0, "comemory does not answer");
  }
  if (response.status === 204 || response.status === 202) return null;
  const result = await response.json().catch(() => ({}));
  if (response.status === 401 && path !== "/session") onUnknown();
  if (!response.ok) throw new ApiError(response.status, result.detail ?? `refused (${response.status})`);
  return result;
}

function withCsrf(session) { csrf = session.csrf; return session; }

const at = (camera) => `/cameras/${encodeURIComponent(camera)}`;

export const session = async () => withCsrf(await request("GET", "/session"));
export const login = async (password) => withCsrf(await request("POST", "/session", { password }));
export const logout = () => request("DELETE", "/session");
export const scores = (camera, seconds) => request("GET", `${at(camera)}/scores?seconds=${seconds}`);
export const sensitivity = (camera) => request("GET", `${at(camera)}/sensitivity`);
export const setSensitivity = (camera, budget) => request("PUT", `${at(camera)}/sensitivity`, { false_alarms: budget });
export const setZones = (camera, zones) => request("PUT", `${at(camera)}/zones`, { zones });
export const resetReferenceView = (camera) => request("POST", `${at(camera)}/reference-view`);
export const event = (id) => request("GET", `/events/${id}`);
export const remove = (id) => request("DELETE", `/events/${id}`);
export const setVerdict = (id, verdict) => request("PUT", `/events/${id}/verdict`, { verdict });
export const pause = (camera, minutes) => request("PUT", `${at(camera)}/pause`, { minutes });
export const resume = (camera) => request("DELETE", `${at(camera)}/pause`);
export const snooze = (camera, minutes) => request("PUT", `${at(camera)}/snooze`, { minutes });
export const endSnooze = (camera) => request("DELETE", `${at(camera)}/snooze`);
const sink = (name) => `/setup/alerts/${encodeURIComponent(name)}`;
export const alerts = () => request("GET", "/setup/alerts");
export const addAlert = (alert) => request("POST", "/setup/alerts", alert);
export const changeAlert = (name, values) => request("PATCH", sink(name), values);
export const removeAlert = (name) => request("DELETE", sink(name));
export const testAlert = (name) => request("POST", `${sink(name)}/test`);
export const startTraining = (camera, wanted) => request("POST", `${at(camera)}/training`, wanted);
export const stopTraining = (camera) => request("DELETE", `${at(camera)}/training`);
export const setup = () => request("GET", "/setup");
export const testCamera = (camera) => request("POST", "/setup/cameras/test", camera);
export const addCamera = (camera) => request("POST", "/setup/cameras", camera);
export const changeCamera = (name, values) => request("PATCH", `/setup${at(name)}`, values);
export const removeCamera = (name) => request("DELETE", `/setup${at(name)}`);
export const review = (ids, action) => request("POST", "/reviews", { ids, action });
export const annotate = (id, values) => request("PATCH", `/events/${id}`, values);
export const activity = (camera, hours) => request("GET", `${at(camera)}/activity?${query(hours)}`);
export const nodes = () => request("GET", "/nodes");
export const system = () => request("GET", "/system");

const query = (wanted) => new URLSearchParams(Object.entries(wanted).filter(([, value]) => value !== null && value !== undefined && value !== ""));

export const events = (wanted) => request("GET", `/events?${query(wanted)}`);
export const timeline = (wanted) => request("GET", `/timeline?${query(wanted)}`);

// The newest frame; null while it is the one that `tag` names, or there is none.
export async function picture(camera, width, heat, tag) {
  const headers = tag ? { "If-None-Match": tag } : {};
  const response = await fetch(`${API}${at(camera)}/picture?width=${width}&heat=${heat}`, { headers, cache: "no-store" });
  if (response.status !== 200) return null;
  return { tag: response.headers.get("ETag"), blob: await response.blob() };
}

export const stream = () => new EventSource(`${API}/stream`);
