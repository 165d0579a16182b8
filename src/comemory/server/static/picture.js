// The newest frame of a camera, requested only while it is visible.

import * as api from "./api.js";
import { h, s } from "./dom.js";
import { listen } from "./live.js";

export class LivePicture {
  constructor(camera, { width = 480, heat = true, everyMs = 200 } = {}) {
    Object.assign(this, { camera, width, heat, everyMs, tag: null, busy: false, next: 0, visible: false });
    this.image = h("img", { alt: `Newest picture of ${camera}`, class: "waiting" });
    this.overlay = s("svg", { class: "overlay", "aria-hidden": "true" });
    this.badge = h("span", { class: "badge", hidden: true }, "Event");
    this.element = h("div", { class: "picture" }, this.image, this.overlay, this.badge);
    this.watcher = new IntersectionObserver(([entry]) => { this.visible = entry.isIntersecting; this.ask(); });
    this.watcher.observe(this.element);
    this.timer = setInterval(() => this.ask(), Math.max(everyMs, 150));
    this.quiet = listen((message) => message.kind === "state" && message.camera === camera && this.ask());
  }

  // Draw the ignored zones.
  zones(polygons, [height, width]) {
    this.overlay.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.overlay.replaceChildren(
      ...polygons.map((points) => s("polygon", { class: "zone", points: points.map(([x, y]) => `${x * width},${y * height}`).join(" ") })),
    );
  }

  setHeat(heat) { this.heat = heat; this.tag = null; this.next = 0; this.ask(); }

  async ask() {
    if (this.busy || !this.visible || document.hidden || performance.now() < this.next) return;
    this.busy = true;
    this.next = performance.now() + this.everyMs;
    try {
      const found = await api.picture(this.camera, this.width, this.heat, this.tag);
      if (found) this.#put(found);
      else this.next = performance.now() + 2 * this.everyMs;
    } catch {
      this.next = performance.now() + 3000;
    }
    this.busy = false;
  }

  #put({ tag, blob }) {
    const old = this.image.src;
    this.tag = tag;
    this.image.src = URL.createObjectURL(blob);
    this.image.classList.remove("waiting");
    if (old) setTimeout(() => URL.revokeObjectURL(old), 1000);
  }

  // Show nothing: the camera is paused.
  clear() {
    if (this.tag === null) return;
    this.tag = null;
    this.image.classList.add("waiting");
  }

  close() { clearInterval(this.timer); this.watcher.disconnect(); this.quiet(); }
}
