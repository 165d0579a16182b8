// The nodes of a fleet: which machine watches which cameras, and what it has left.

import * as api from "./api.js";
import { h, keepFocus } from "./dom.js";
import { STATES as CAMERA_STATES, number, plural, size, span } from "./format.js";
import { known, listen } from "./live.js";

const EVERY_MS = 2000;
// State of a node: its name, the colour of a camera's state, and what it means.
const STATES = {
  up: ["Up", "live", ""],
  starting: ["Starting", "connecting", "It has not answered yet."],
  settling: ["Settling", "connecting", "It is back. It gets its cameras when it has answered for a minute without a gap."],
  lost: ["Lost", "down", "It does not answer. Its cameras are watched by other nodes that have room."],
};

function share(label, part, text) {
  const value = Math.min(1, Math.max(0, part));
  return h("span", { class: "share" }, h("meter", { min: "0", max: "1", high: "0.95", low: "0.85", optimum: "0", value: String(value), "aria-label": label }), text);
}

function cameraLink(name, node) {
  const state = node.watched.includes(name) ? known.cameras.get(name)?.state ?? "connecting" : "connecting";
  const text = node.watched.includes(name) ? CAMERA_STATES[state] : "Moves here";
  return h("li", {}, h("a", { href: `#/cameras/${encodeURIComponent(name)}` }, name), h("span", { class: `state ${state}` }, text));
}

function usage(node) {
  const rows = [["Cameras", share("Share of its capacity", node.capacity ? node.placed.length / node.capacity : 1, `${node.placed.length} of at most ${node.capacity}`)]];
  if (node.state !== "lost" && node.load !== null) {
    rows.push(["CPU", share("Cores in use", node.load / node.cores, `load ${number(node.load)} on ${plural(node.cores, "core")}`)]);
    if (node.memory_total_bytes) rows.push(["Memory", share("Memory in use", node.memory_used_bytes / node.memory_total_bytes, `${size(node.memory_used_bytes)} of ${size(node.memory_total_bytes)}; comemory takes ${size(node.process_bytes)}`)]);
  }
  rows.push(["Heartbeat", node.age_s === null ? "none yet" : node.age_s < 2 ? "now" : `${span(node.age_s)} ago`]);
  if (node.version) rows.push(["Version", node.version]);
  return h("dl", { class: "facts" }, rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

function card(node) {
  const [name, look, meaning] = STATES[node.state];
  const id = `node-${node.name}`;
  const host = node.host && node.host !== node.name ? h("span", { class: "hint" }, node.host) : null;
  return h("section", { class: "panel node", "aria-labelledby": id },
    h("header", {}, h("h2", { id }, node.name), host, h("span", { class: "gap" }), h("span", { class: `state ${look}` }, name)),
    meaning && h("p", { class: "hint" }, meaning), node.error && h("p", { class: "tile-note" }, node.error), usage(node),
    node.placed.length ? h("ul", { class: "node-cameras", "aria-label": `Cameras of ${node.name}` }, node.placed.map((camera) => cameraLink(camera, node))) : h("p", { class: "hint" }, "It watches no camera."));
}

function said(nodes) {
  const numbers = Object.keys(STATES).map((state) => [nodes.filter((node) => node.state === state).length, STATES[state][0].toLowerCase()]);
  const placed = nodes.reduce((sum, node) => sum + node.placed.length, 0);
  const without = known.cameras.size - placed;
  return `${plural(nodes.length, "node")}: ${numbers.filter(([n]) => n).map(([n, state]) => `${n} ${state}`).join(", ")}. ${plural(placed, "camera")} placed${without > 0 ? `, ${without} without a node that has room` : ""}.`;
}

export function nodesView(root) {
  const line = h("p", { class: "hint", role: "status" });
  const list = h("div", { class: "nodes" });
  root.replaceChildren(h("div", { class: "page" }, h("div", { class: "head" }, h("h1", {}, "Nodes"), line), list));
  let nodes = [];

  function show() {
    const text = said(nodes);
    if (line.textContent !== text) line.textContent = text;
    keepFocus(list, () => list.replaceChildren(...nodes.map(card)));
  }
  async function load() {
    const found = await api.nodes().catch(() => null);
    if (!found?.nodes) return;
    nodes = found.nodes;
    show();
  }
  const timer = setInterval(() => !document.hidden && load(), EVERY_MS);
  const quiet = listen((message) => message.kind === "state" && load());
  load();
  return () => { clearInterval(timer); quiet(); };
}
