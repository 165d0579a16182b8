// All cameras, and the newest events.

import * as api from "./api.js";
import { button, h, icon, keepFocus } from "./dom.js";
import { eventRow } from "./eventview.js";
import { SCORE_HINT, STATES, isScored, number, plural, span } from "./format.js";
import { known, listen, loadHistory } from "./live.js";
import { pauseNote, snoozeButton } from "./pauses.js";
import { LivePicture } from "./picture.js";
import { Sparkline } from "./spark.js";

const N_RECENT = 12;

class Tile {
  constructor(name) {
    this.name = name;
    this.picture = new LivePicture(name, { heat: localStorage.getItem(`heat ${name}`) !== "off" });
    this.spark = new Sparkline(`Score of ${name} over the last two minutes`);
    this.state = h("span", { class: "state" });
    this.score = h("output", { class: "score", title: SCORE_HINT, "aria-label": `Score of ${name}` }, "–");
    this.note = h("p", { class: "tile-note", hidden: true });
    this.metrics = h("p", { class: "metrics" });
    this.heat = button(`Heat map of ${name}`, { class: "tool", "aria-pressed": String(this.picture.heat), onclick: () => this.toggleHeat() }, icon("heat"));
    this.snooze = snoozeButton(name);
    const more = h("a", { class: "tool", href: `#/cameras/${name}`, "aria-label": `Settings of ${name}`, title: "Zones and sensitivity" }, icon("settings"));
    const title = h("h2", { id: `tile-${name}` }, h("a", { href: `#/cameras/${name}` }, name));
    this.element = h("article", { class: "tile", "aria-labelledby": `tile-${name}` },
      h("header", {}, title, this.state, h("span", { class: "gap" }), this.heat, this.snooze.element, more),
      this.picture.element,
      h("div", { class: "meter" }, this.spark.element, this.score),
      this.note, this.metrics);
    loadHistory(name).then(() => this.draw()).catch(() => {});
  }

  toggleHeat() {
    this.picture.setHeat(!this.picture.heat);
    this.heat.setAttribute("aria-pressed", String(this.picture.heat));
    localStorage.setItem(`heat ${this.name}`, this.picture.heat ? "on" : "off");
  }

  update() {
    const camera = known.cameras.get(this.name);
    if (!camera) return;
    this.state.className = `state ${camera.state}`;
    this.state.textContent = STATES[camera.state] + (camera.active ? "" : ", inactive hours");
    this.element.dataset.state = camera.state;
    this.element.classList.toggle("alarmed", camera.open_event !== null);
    this.picture.badge.hidden = camera.open_event === null;
    this.picture.zones(camera.zones, camera.size ?? [9, 16]);
    this.snooze.update(camera);
    if (camera.state === "paused") this.picture.clear();
    const note = pauseNote(camera) || camera.message || camera.drift || "";
    this.note.hidden = !note;
    this.note.textContent = note;
    const since = span((Date.now() - Date.parse(camera.since)) / 1000);
    const latency = camera.latency_ms_p50 === null ? [] : [`delay ${number(camera.latency_ms_p50, 0)} ms`];
    const metrics = isScored(camera.state)
      ? [`${number(camera.fps_scored)} of ${number(camera.fps_due)} frames/s scored`, `${number(camera.fps_in)} received`, ...latency, `event from score ${number(camera.threshold)}`, `${STATES[camera.state].toLowerCase()} for ${since}`]
      : [`for ${since}`, plural(camera.attempts, "connection attempt")];
    this.metrics.replaceChildren(...metrics.map((text) => h("span", {}, text)));
    this.draw();
  }

  draw() {
    const camera = known.cameras.get(this.name);
    const points = known.history.get(this.name) ?? [];
    const newest = points.at(-1);
    const isLive = isScored(camera?.state) && newest;
    this.score.textContent = isLive ? number(newest[1]) : "–";
    this.score.classList.toggle("over", Boolean(isLive && newest[1] >= camera.threshold));
    this.spark.show(points, camera?.threshold ?? null);
  }

  close() { this.picture.close(); }
}

export function liveView(root) {
  const tiles = new Map();
  const grid = h("section", { class: "tiles", "aria-label": "Cameras" });
  const list = h("ol", { class: "rows" });
  const rail = h("aside", { class: "rail", "aria-labelledby": "recent" },
    h("header", {}, h("h2", { id: "recent" }, "Recent events"), h("a", { href: "#/events" }, "All events")), list);
  root.replaceChildren(h("h1", { class: "unseen" }, "Live"), h("div", { class: "overview" }, grid, rail));
  const empty = h("p", { class: "empty" });
  let recent = [];
  let hasStatus = known.cameras.size > 0;
  grid.append(empty);

  function showRecent() {
    keepFocus(list, () => list.replaceChildren(...recent.map((event) => h("li", {}, eventRow(event)))));
    if (!recent.length) list.replaceChildren(h("li", { class: "empty" }, "No events so far."));
  }

  function showTiles() {
    for (const [name, tile] of tiles) if (!known.cameras.has(name)) { tile.close(); tile.element.remove(); tiles.delete(name); }
    for (const name of known.cameras.keys()) {
      if (!tiles.has(name)) { tiles.set(name, new Tile(name)); grid.append(tiles.get(name).element); }
      tiles.get(name).update();
    }
    empty.hidden = known.cameras.size > 0;
    empty.textContent = hasStatus ? "There are no cameras. Add one with --camera NAME=URL." : "Waiting for the cameras …";
  }

  const quiet = listen((message) => {
    if (message.kind === "status") { hasStatus = true; showTiles(); }
    if (message.kind === "scores") for (const name of Object.keys(message.cameras)) tiles.get(name)?.draw();
    if (message.kind === "event") {
      recent = recent.filter((event) => event.id !== message.event.id);
      if (message.change !== "delete") recent = [message.event, ...recent].sort((a, b) => (a.id < b.id ? 1 : -1)).slice(0, N_RECENT);
      showRecent();
      const camera = known.cameras.get(message.camera);
      if (camera) { camera.open_event = message.change === "end" ? null : message.event.end ? camera.open_event : message.event.id; tiles.get(message.camera)?.update(); }
    }
  });
  showTiles();
  api.events({ limit: N_RECENT }).then((page) => { recent = page.events; showRecent(); }).catch(() => showRecent());
  return () => { quiet(); for (const tile of tiles.values()) tile.close(); };
}
