// What is known of the running engine, kept up to date by the server's messages.

import * as api from "./api.js";

const HISTORY_S = 120;
const KINDS = ["status", "scores", "event", "state", "drift", "warning"];

export const known = { cameras: new Map(), learning: [], history: new Map(), connected: false };
const listeners = new Set();
let source = null;

export function listen(act) { listeners.add(act); return () => listeners.delete(act); }

// Messages come from the server; what is changed here is told here at once.
export function tell(message) { for (const act of [...listeners]) act(message); }

export function connect() {
  disconnect();
  source = api.stream();
  for (const kind of KINDS) source.addEventListener(kind, (arrived) => take(JSON.parse(arrived.data)));
  source.addEventListener("open", () => reach(true));
  source.addEventListener("error", async () => {
    reach(false);
    if (source?.readyState === EventSource.CLOSED) {
      source = null;
      setTimeout(() => source === null && connect(), 3000);
      await api.session().catch(() => null);
    }
  });
}

export function disconnect() { source?.close(); source = null; reach(false); }

function reach(connected) {
  if (known.connected === connected) return;
  known.connected = connected;
  tell({ kind: "connection", connected });
}

function take(message) {
  if (message.kind === "status") {
    known.cameras = new Map(message.cameras.map((camera) => [camera.name, camera]));
    known.learning = message.learning;
  }
  if (message.kind === "scores") {
    for (const [name, score] of Object.entries(message.cameras)) append(name, Date.parse(score.time), score.score);
  }
  tell(message);
}

function append(name, at, score) {
  const points = known.history.get(name) ?? [];
  if (!points.length || at > points.at(-1)[0]) points.push([at, score]);
  while (points.length && points[0][0] < at - HISTORY_S * 1000) points.shift();
  known.history.set(name, points);
}

// Fill in the scores from before the page was opened.
export async function recall(name) {
  const past = await api.scores(name, HISTORY_S);
  const newer = known.history.get(name) ?? [];
  const until = newer.length ? newer[0][0] : Infinity;
  const older = past.times.map((time, i) => [Date.parse(time), past.scores[i]]).filter(([at]) => at < until);
  known.history.set(name, [...older, ...newer]);
}
