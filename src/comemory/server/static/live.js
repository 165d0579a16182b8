// The state of the running engine, updated by the server's messages.

import * as api from "./api.js";

const HISTORY_S = 120;
const KINDS = ["status", "scores", "event", "state", "drift", "warning"];

export const isOperator = () => known.role === "operator" || known.role === "admin";
export const isAdmin = () => known.role === "admin";
export const known = { cameras: new Map(), learning: [], history: new Map(), connected: false, ready: false, role: null };
const listeners = new Set();
let source = null;

export function listen(act) { listeners.add(act); return () => listeners.delete(act); }

// Messages come from the server; changes that are made here are sent to the views at once.
export function notifyAll(message) { for (const act of [...listeners]) act(message); }

export function connect() {
  disconnect();
  source = api.stream();
  for (const kind of KINDS) source.addEventListener(kind, (arrived) => receive(JSON.parse(arrived.data)));
  source.addEventListener("open", () => setConnected(true));
  source.addEventListener("error", async () => {
    setConnected(false);
    if (source?.readyState === EventSource.CLOSED) {
      source = null;
      setTimeout(() => source === null && connect(), 3000);
      await api.session().catch(() => null);
    }
  });
}

export function disconnect() { source?.close(); source = null; setConnected(false); }

function setConnected(connected) {
  if (known.connected === connected) return;
  known.connected = connected;
  notifyAll({ kind: "connection", connected });
}

function receive(message) {
  if (message.kind === "status") {
    known.cameras = new Map(message.cameras.map((camera) => [camera.name, camera]));
    known.learning = message.learning;
    known.ready = true;
  }
  if (message.kind === "scores") {
    for (const [name, score] of Object.entries(message.cameras)) append(name, Date.parse(score.time), score.score);
  }
  notifyAll(message);
}

function append(name, at, score) {
  const points = known.history.get(name) ?? [];
  if (!points.length || at > points.at(-1)[0]) points.push([at, score]);
  while (points.length && points[0][0] < at - HISTORY_S * 1000) points.shift();
  known.history.set(name, points);
}

// Load the scores from before the page was opened.
export async function loadHistory(name) {
  const past = await api.scores(name, HISTORY_S);
  const newer = known.history.get(name) ?? [];
  const until = newer.length ? newer[0][0] : Infinity;
  const older = past.times.map((time, i) => [Date.parse(time), past.scores[i]]).filter(([at]) => at < until);
  known.history.set(name, [...older, ...newer]);
}
