// One camera: its live frame with the ignored zones, sensitivity, training and health.

import * as api from "./api.js";
import { h, icon, notify } from "./dom.js";
import { SCORE_HINT, STATES, budget, count, isScored, number, plural, rate, span } from "./format.js";
import { isOperator, known, listen, loadHistory } from "./live.js";
import { pauseNote, pausePanel } from "./pauses.js";
import { LivePicture } from "./picture.js";
import { Sparkline, curve } from "./spark.js";
import { trainingPanel } from "./training.js";
import { ZoneEditor } from "./zones.js";

function panel(title, ...children) {
  const id = `panel-${title.toLowerCase().replaceAll(" ", "-")}`;
  return h("section", { class: "panel", "aria-labelledby": id }, h("h2", { id }, title), children);
}

// What the estimate of the alarms rests on: the scores of whole minutes that are stored.
function recorded(minutes, step) {
  if (!minutes) return "No whole minute of scores is stored yet.";
  return step.alarms_per_day === null ? `An estimate needs an hour of recorded scores; there are ${span(minutes * 60)}.` : `Estimated from ${span(minutes * 60)} of recorded scores.`;
}

class Sensitivity {
  constructor(name) {
    this.name = name;
    this.slider = h("input", { type: "range", id: "sensitivity", min: "0", max: "0", step: "1", disabled: !isOperator(), oninput: () => this.show() });
    this.output = h("output", { class: "said", for: "sensitivity" });
    this.detail = h("p", { class: "hint" });
    this.plot = h("div", { class: "plot" });
    this.apply = h("button", { type: "button", class: "primary", disabled: true, hidden: !isOperator(), onclick: () => this.save() }, "Apply");
    this.element = panel("Sensitivity", h("label", { for: "sensitivity", class: "unseen" }, "False-alarm budget"), this.output,
      h("div", { class: "slide" }, h("span", { "aria-hidden": "true" }, "fewer alarms"), this.slider, h("span", { "aria-hidden": "true" }, "more alarms")), this.plot, h("div", { class: "tools" }, this.apply, this.detail));
    this.load();
  }

  async load() {
    try { this.setData(await api.sensitivity(this.name)); } catch (error) { this.output.textContent = error.message; }
  }

  setData(given) {
    this.given = given;
    this.slider.max = String(given.steps.length - 1);
    this.slider.value = String(given.steps.findIndex((step) => step.false_alarms === given.false_alarms));
    this.show();
  }

  show() {
    const { steps, curve: points, recorded_minutes: minutes } = this.given;
    const step = steps[Number(this.slider.value)];
    const means = rate(step.alarms_per_day);
    this.slider.setAttribute("aria-valuetext", `budget of ${budget(step.false_alarms)}; ${means} at this setting`);
    this.output.replaceChildren(h("strong", {}, means[0].toUpperCase() + means.slice(1)), step.alarms_per_day === null ? "." : " at this setting");
    this.detail.textContent = `Budget ${budget(step.false_alarms)}, threshold ${number(step.threshold, 2)}. ` + recorded(minutes, step);
    this.apply.disabled = step.false_alarms === this.given.false_alarms;
    const [high, low] = [steps[0].threshold, steps.at(-1).threshold];
    this.plot.replaceChildren(points.length > 1 ? curve(points, step.threshold, Math.max(0, low - 0.3), high + 0.3) : "");
  }

  async save() {
    const step = this.given.steps[Number(this.slider.value)];
    try {
      this.setData(await api.setSensitivity(this.name, step.false_alarms));
      notify(`${this.name}: ${budget(step.false_alarms)}.`);
    } catch (error) { notify(error.message, "bad"); }
  }
}

// What became of every frame that arrived: the parts add up.
function frames(camera) {
  const parts = [["scored"], ["not_due", "not due"], ["dropped", "dropped"], ["filling", "while a clip began"], ["faulty", "at a fault"], ["damaged"], ["waiting"]]
    .filter(([key]) => camera[key] || key === "scored" || key === "dropped").map(([key, text]) => `${count(camera[key])} ${text ?? key}`);
  return `${count(camera.frames)} received: ${parts.join(", ")}; ${count(camera.lost)} lost on the way`;
}

function health(camera) {
  const rows = [["Address", h("code", {}, camera.url)], ["Event from score", number(camera.threshold, 2)], ["State", `${STATES[camera.state]} for ${span((Date.now() - Date.parse(camera.since)) / 1000)}`],
    ["Frames/s", `${number(camera.fps_in)} received, ${number(camera.fps_scored)} of ${number(camera.fps_due)} scored`],
    ["Frames in total", frames(camera)],
    ["Delay", camera.latency_ms_p50 === null ? "–" : `${number(camera.latency_ms_p50, 0)} ms, 99 % under ${number(camera.latency_ms_p99, 0)} ms`],
    ["Connections", `${plural(camera.attempts, "attempt")}, ${plural(camera.reconnects, "reconnection")}`], ["Frame size", camera.size ? `${camera.size[1]} × ${camera.size[0]}` : "–"],
    ["Model", h("span", {}, camera.model, " ", h("code", {}, camera.model_sha256.slice(0, 8)))]];
  return h("dl", { class: "facts" }, rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

// The camera; or one line while there is none of this name.
export function cameraView(root, name) {
  let close = null;
  function choose() {
    const isThere = known.cameras.has(name);
    if (isThere && close === null) close = openCamera(root, name);
    else if (!isThere) {
      close?.();
      close = null;
      const text = known.ready ? `There is no camera ${name}.` : "Waiting for the server …";
      root.replaceChildren(h("p", { class: "empty" }, text, " ", h("a", { href: "#/" }, "All cameras")));
    }
  }
  const quiet = listen((message) => ["status", "connection"].includes(message.kind) && choose());
  choose();
  return () => { quiet(); close?.(); };
}

function openCamera(root, name) {
  const facts = h("div");
  const training = trainingPanel(name);
  const note = h("p", { class: "tile-note", hidden: true });
  const state = h("span", { class: "state" });
  const spark = new Sparkline(`Score of ${name} over the last two minutes`);
  const score = h("output", { class: "score", title: SCORE_HINT, "aria-label": `Score of ${name}` }, "–");
  const picture = new LivePicture(name, { width: 640, heat: false, everyMs: 150 });
  const stage = h("div", { class: "zone-stage" });
  const heat = h("button", { type: "button", class: "quiet", "aria-pressed": "false", onclick: () => { picture.setHeat(!picture.heat); heat.setAttribute("aria-pressed", String(picture.heat)); } }, icon("heat"), "Heat map");
  const accept = h("button", { type: "button", hidden: true, onclick: async () => {
    try { await api.resetReferenceView(name); notify("The current view is now the reference view."); } catch (error) { notify(error.message, "bad"); }
  } }, "Use this view as the reference");
  const sensitivity = new Sensitivity(name);
  const pausing = pausePanel(name);
  let editor = null;
  root.replaceChildren(h("div", { class: "page" },
    h("div", { class: "head" }, h("h1", {}, name), state, h("span", { class: "gap" }), accept, heat, h("a", { class: "quiet", href: `#/cameras/${encodeURIComponent(name)}/activity` }, "What is normal here"), h("a", { class: "quiet", href: "#/" }, "All cameras")), note,
    h("div", { class: "camera" }, stage,
      h("div", { class: "panels" }, sensitivity.element, pausing.element, panel("Training", training.children), panel("Health", facts)))));
  stage.append(picture.element, h("div", { class: "meter" }, spark.element, score));
  loadHistory(name).then(draw).catch(() => {});

  function edit(camera) {
    const size = camera.size ?? [9, 16];
    editor = new ZoneEditor(name, camera.zones, size, isOperator() ? async (zones) => (await api.setZones(name, zones)).zones : null);
    picture.overlay.replaceWith(editor.surface);
    stage.append(panel("Ignored zones", editor.help, editor.tools, editor.list));
  }

  function draw() {
    const camera = known.cameras.get(name);
    const points = known.history.get(name) ?? [];
    const newest = points.at(-1);
    const isLive = isScored(camera?.state) && newest;
    spark.show(points, camera?.threshold ?? null);
    score.textContent = isLive ? number(newest[1]) : "–";
    score.classList.toggle("over", Boolean(isLive && newest[1] >= camera.threshold));
  }

  function update() {
    const camera = known.cameras.get(name);
    if (!camera) return;
    if (editor === null && (camera.size || camera.state !== "connecting")) edit(camera);
    pausing.update(camera);
    if (camera.state === "paused") picture.clear();
    const message = [pauseNote(camera), camera.state === "paused" ? "" : camera.message, camera.drift].filter(Boolean).join(" · ");
    note.hidden = !message;
    note.textContent = message;
    note.dataset.state = camera.state;
    state.className = `state ${camera.state}`;
    state.textContent = STATES[camera.state] + (camera.active ? "" : ", inactive hours");
    picture.badge.hidden = camera.open_event === null;
    accept.hidden = camera.state !== "moved" || !isOperator();
    facts.replaceChildren(health(camera));
    training.update();
    draw();
  }

  const quiet = listen((message) => {
    if (["status", "connection"].includes(message.kind)) update();
    if (message.kind === "scores" && message.cameras[name]) draw();
  });
  update();
  return () => { quiet(); picture.close(); };
}
