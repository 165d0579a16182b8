// Numbers, times and states as text.

const day = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const short = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });

export const time = (moment) => clock.format(new Date(moment));
export const minute = (moment) => short.format(new Date(moment));
export const dayOf = (moment) => day.format(new Date(moment));
export const number = (value, digits = 1) => (value === null || value === undefined ? "–" : value.toFixed(digits));
export const count = (value) => (value ?? 0).toLocaleString();

const joined = (much, unit, little, part) => `${much} ${unit}${little ? ` ${little} ${part}` : ""}`;

export function span(seconds) {
  if (seconds < 1) return "under 1 s";
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return joined(Math.floor(seconds / 60), "min", Math.floor(seconds % 60), "s");
  if (seconds < 86400) return joined(Math.floor(seconds / 3600), "h", Math.floor((seconds % 3600) / 60), "min");
  return joined(Math.floor(seconds / 86400), "d", Math.floor((seconds % 86400) / 3600), "h");
}

export const lasted = (event) => (event.end ? span((new Date(event.end) - new Date(event.start)) / 1000) : "open");

// "about 3 alarms per day", in the unit that gives a small number.
export function rate(perDay) {
  if (perDay === null) return "too little recorded to estimate the alarms";
  if (perDay < 0.02) return "under one alarm in a month";
  if (perDay < 0.9) {
    const perWeek = perDay * 7;
    return perWeek < 0.95 ? "under one alarm per week" : `about ${plural(Math.round(perWeek), "alarm")} per week`;
  }
  return `about ${plural(perDay < 10 ? Math.round(perDay) : Math.round(perDay / 5) * 5, "alarm")} per day`;
}

export const plural = (n, word) => `${n.toLocaleString()} ${word}${n === 1 ? "" : "s"}`;

export function budget(text) {
  const [n, unit] = text.split("/");
  const units = { min: "minute", h: "hour", hour: "hour", d: "day", day: "day", week: "week" };
  return `${n} per ${units[unit] ?? unit}`;
}

export function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let step = 0;
  while (bytes >= 1024 && step < units.length - 1) { bytes /= 1024; step += 1; }
  return `${bytes.toFixed(step && bytes < 10 ? 1 : 0)} ${units[step]}`;
}

// States in which frames are scored.
export const isScored = (state) => state === "live" || state === "degraded";

// Above 6 no footage can tell how rare a score is: the scale is logarithmic there.
export const SCORE_HINT = "Anomaly score: each unit more, up to 6, is ten times rarer in normal video. An event starts at the dashed line.";

export const STATES = {
  connecting: "Connecting", live: "Live", degraded: "Degraded", stalled: "Stalled", frozen: "Frozen", black: "Black",
  covered: "Covered", moved: "Moved", down: "Down", ended: "Ended", paused: "Paused",
};
