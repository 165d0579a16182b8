// The system: what the machine has left, what the store holds, what each camera takes, and where alerts go.

import * as api from "./api.js";
import { h } from "./dom.js";
import { STATES, budget, count, dayOf, number, size, span } from "./format.js";
import { known, listen } from "./live.js";

const EVERY_MS = 5000;

function panel(title, ...children) {
  const id = `system-${title.toLowerCase().replaceAll(" ", "-")}`;
  return h("section", { class: "panel", "aria-labelledby": id }, h("h2", { id }, title), children);
}

function facts(rows) {
  return h("dl", { class: "facts" }, rows.filter(([, value]) => value !== null).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

function share(label, used, total, text) {
  const part = Math.min(1, Math.max(0, used / total));
  return h("span", { class: "share" }, h("meter", { min: "0", max: "1", high: "0.9", low: "0.8", optimum: "0", value: String(part), "aria-label": label }), text);
}

function table(head, rows) {
  return h("div", { class: "table-scroll", tabIndex: 0, role: "region", "aria-label": head[0] },
    h("table", { class: "table" }, h("thead", {}, h("tr", {}, head.map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", {}, rows.map(([first, ...rest]) => h("tr", {}, h("th", { scope: "row" }, first), rest.map((value) => h("td", {}, value)))))));
}

function machine({ machine: found, version, uptime_s: uptime }) {
  const { disk_total_bytes: disk, disk_free_bytes: free, memory_total_bytes: memory, memory_available_bytes: left, process_bytes: own, load, cores } = found;
  return facts([["Version", version ?? "–"], ["Running for", span(uptime)],
    ["Disk", disk ? share("Disk in use", disk - free, disk, `${size(free)} of ${size(disk)} free`) : "–"],
    ["Memory", memory ? share("Memory in use", memory - left, memory, `${size(left)} of ${size(memory)} free; comemory takes ${size(own)}`) : "–"],
    ["Load", `${number(load, 2)} on ${cores} cores, mean of the last minute`]]);
}

function aside({ files, bytes, deleted_from: from }) {
  return `${count(files)} media ${files === 1 ? "file belongs" : "files belong"} to no event, ${size(bytes)}. ${files === 1 ? "It is" : "The first is"} deleted on ${dayOf(from)}. To take ${files === 1 ? "it" : "them"} back, stop the service and run comemory store adopt.`;
}

function store({ events, store_url: url, store_error: error, store_warning: warning, quarantine }) {
  if (!url) return h("p", { class: "hint" }, "Events are not stored in a database.");
  return facts([["Database", h("code", {}, url)], ["State", h("span", { class: `state ${error ? "down" : warning ? "degraded" : "live"}` }, error ? "Cannot be written" : warning ? "Check it" : "Fine")],
    ["Problem", error ?? warning], ["Events", `${count(events.events)}, ${count(events.open)} open, ${count(events.suppressed)} suppressed`],
    ["Verdicts", `${count(events.normal)} normal, ${count(events.abnormal)} abnormal`], ["Files", `${count(events.files)}, ${size(events.bytes ?? 0)}`], ["Quarantine", quarantine?.files ? aside(quarantine) : null]]);
}

function cameras() {
  const rows = [...known.cameras.values()].map((camera) => [h("a", { href: `#/cameras/${encodeURIComponent(camera.name)}` }, camera.name), h("span", { class: `state ${camera.state}` }, STATES[camera.state]),
    `${number(camera.fps_scored)} of ${number(camera.fps_due)}`, number(camera.fps_in), camera.latency_ms_p50 === null ? "–" : `${number(camera.latency_ms_p50, 0)} ms`, count(camera.dropped), `at most ${budget(camera.false_alarms)}`, camera.model]);
  return rows.length ? table(["Camera", "State", "Scored frames/s", "Received frames/s", "Delay", "Dropped frames", "False alarms", "Model"], rows) : h("p", { class: "hint" }, "There is no camera.");
}

function alerts({ alerts: sinks }) {
  const rows = Object.entries(sinks ?? {}).map(([name, numbers]) => [name, ...["pending", "delivered", "failed", "muted"].map((key) => count(numbers[key]))]);
  return rows.length ? table(["Sink", "Waiting", "Delivered", "Given up", "Muted"], rows) : h("p", { class: "hint" }, "No alerts were made in the last week.");
}

export function systemView(root) {
  const parts = { machine: h("div"), store: h("div"), cameras: h("div"), alerts: h("div") };
  root.replaceChildren(h("div", { class: "page" }, h("div", { class: "head" }, h("h1", {}, "System")),
    h("div", { class: "columns" }, panel("Machine", parts.machine), panel("Store", parts.store)), panel("Cameras", parts.cameras), panel("Alerts", parts.alerts)));

  async function load() {
    const found = await api.system().catch(() => null);
    if (!found) return;
    parts.machine.replaceChildren(machine(found));
    parts.store.replaceChildren(store(found));
    parts.alerts.replaceChildren(alerts(found.events));
  }
  const show = () => { if (!parts.cameras.contains(document.activeElement)) parts.cameras.replaceChildren(cameras()); };
  const timer = setInterval(() => !document.hidden && load(), EVERY_MS);
  const quiet = listen((message) => message.kind === "status" && show());
  load();
  show();
  return () => { clearInterval(timer); quiet(); };
}
