// Pausing a camera, and snoozing its alerts.

import * as api from "./api.js";
import { button, h, icon, notify } from "./dom.js";
import { choice, field } from "./form.js";
import { dayOf, minute } from "./format.js";
import { isOperator, known, notifyAll } from "./live.js";

const TIMES = [["15", "15 minutes"], ["60", "1 hour"], ["240", "4 hours"], ["720", "12 hours"], ["1440", "1 day"], ["10080", "1 week"]];
const SHORT = 60;

// A time for people: the hour today, with its day otherwise.
const clock = (moment) => (new Date(moment).toDateString() === new Date().toDateString() ? minute(moment) : `${dayOf(moment)}, ${minute(moment)}`);

// What the page says of a camera that is paused or snoozed; empty for others.
export function pauseNote(camera) {
  const notes = [];
  if (camera.state === "paused") notes.push(camera.message.replace(/, until .*/, "").replace(/^./, (letter) => letter.toUpperCase()) + (camera.paused_until ? `, until ${clock(camera.paused_until)}` : ""));
  if (camera.snoozed_until) notes.push(`Alerts are snoozed until ${clock(camera.snoozed_until)}`);
  return notes.join(" · ");
}

async function change(act) {
  try {
    const camera = await act();
    known.cameras.set(camera.name, camera);
    notifyAll({ kind: "status" });
  } catch (error) { notify(error.message, "bad"); }
}

// Snoozes for an hour, or ends the snooze.
export function snoozeButton(name) {
  const element = button("", { class: "tool", onclick: () => change(() => (known.cameras.get(name)?.snoozed_until ? api.endSnooze(name) : api.snooze(name, SHORT))) }, icon("bell"));
  const update = (camera) => {
    const isSnoozed = Boolean(camera.snoozed_until);
    const label = isSnoozed ? `Send alerts of ${name} again` : `Snooze the alerts of ${name} for an hour`;
    element.hidden = !isOperator();
    element.setAttribute("aria-pressed", String(isSnoozed));
    element.setAttribute("aria-label", label);
    element.title = label;
  };
  return { element, update };
}

export function pausePanel(name) {
  const snoozed = h("p", { class: "hint" });
  const paused = h("p", { class: "hint" });
  const snoozeTime = choice(TIMES, "60");
  const pauseTime = choice([["", "Until it is resumed"], ...TIMES], "");
  const snooze = h("button", { type: "button", onclick: () => change(() => api.snooze(name, Number(snoozeTime.value))) }, "Snooze");
  const awake = h("button", { type: "button", onclick: () => change(() => api.endSnooze(name)) }, "Send alerts again");
  const pause = h("button", { type: "button", onclick: () => change(() => api.pause(name, pauseTime.value === "" ? null : Number(pauseTime.value))) }, "Pause");
  const resume = h("button", { type: "button", class: "primary", onclick: () => change(() => api.resume(name)) }, "Resume");
  const snoozing = field("Snooze the alerts", snoozeTime, "It is watched and its events are recorded; no alerts are sent for them.", snooze);
  const pausing = field("Pause the camera", pauseTime, "It is not watched at all, and its picture is not shown.", pause);
  const element = h("section", { class: "panel", "aria-labelledby": "panel-pause", hidden: !isOperator() }, h("h2", { id: "panel-pause" }, "Pause and snooze"),
    snoozing, h("div", { class: "tools" }, snoozed, awake), pausing, h("div", { class: "tools" }, paused, resume));
  const update = (camera) => {
    const isPaused = camera.state === "paused";
    element.hidden = !isOperator();
    snoozing.hidden = Boolean(camera.snoozed_until);
    awake.parentElement.hidden = !snoozing.hidden;
    snoozed.textContent = camera.snoozed_until ? `No alerts until ${clock(camera.snoozed_until)}.` : "";
    pausing.hidden = isPaused;
    resume.parentElement.hidden = !isPaused;
    paused.textContent = isPaused ? `Paused${camera.paused_until ? ` until ${clock(camera.paused_until)}` : ""}.` : "";
  };
  return { element, update };
}
