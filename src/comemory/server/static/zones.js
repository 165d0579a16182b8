// Zones drawn over the picture: with the mouse or a finger, or with the arrow keys and Enter.

import { button, h, icon, notify, s } from "./dom.js";
import { plural } from "./format.js";

const NEAR = 0.025;
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class ZoneEditor {
  // `save` sends all polygons and throws when they are refused; without it, the zones are only shown.
  constructor(name, zones, [height, width], save) {
    Object.assign(this, { zones, width, height, save, points: null, cursor: [0.5, 0.5], byKey: false });
    this.help = h("p", { class: "hint", id: "zone-help" });
    this.surface = s("svg", { class: save ? "overlay editor" : "overlay", viewBox: `0 0 ${width} ${height}`, ...(save ? { tabindex: "0", role: "application" } : { role: "img" }), "aria-label": `Picture of ${name} with its zones`, "aria-describedby": "zone-help" });
    this.list = h("ul", { class: "zone-list" });
    this.tools = h("div", { class: "tools" });
    this.surface.addEventListener("pointerdown", (pressed) => this.press(pressed));
    this.surface.addEventListener("pointermove", (moved) => this.move(moved));
    this.surface.addEventListener("dblclick", () => this.finish());
    this.surface.addEventListener("keydown", (pressed) => this.key(pressed));
    this.show();
  }

  start() { this.points = []; this.cursor = [0.5, 0.5]; this.byKey = false; this.surface.focus({ preventScroll: true }); this.show(); }

  cancel() { this.points = null; this.show(); this.surface.focus({ preventScroll: true }); }

  back() { this.points.pop(); this.show(); this.surface.focus({ preventScroll: true }); }

  add(point) {
    const first = this.points[0];
    if (this.points.length >= 3 && this.#near(point, first)) return this.finish();
    if (this.points.length && this.#near(point, this.points.at(-1), 0.005)) return undefined;
    this.points.push(point.map((value) => Math.round(Math.min(Math.max(value, 0), 1) * 1e4) / 1e4));
    return this.show();
  }

  async finish() {
    if (!this.points) return;
    if (this.points.length < 3) { notify("A zone needs three points or more.", "bad"); return; }
    const zones = [...this.zones, this.points];
    this.points = null;
    await this.#save(zones, "Zone added.");
  }

  remove(index) { return this.#save(this.zones.filter((_, i) => i !== index), "Zone removed."); }

  async #save(zones, text) {
    try {
      this.zones = await this.save(zones);
      notify(text);
    } catch (error) { notify(error.message, "bad"); }
    this.show();
    this.surface.focus({ preventScroll: true });
  }

  #near(a, b, limit = NEAR) { return Math.hypot((a[0] - b[0]) * (this.width / this.height), a[1] - b[1]) < limit; }

  // Position of a pointer on the frame: the drawing is centred in its element, as the picture is.
  #at(pointer) {
    const matrix = this.surface.getScreenCTM().inverse();
    const { x, y } = new DOMPoint(pointer.clientX, pointer.clientY).matrixTransform(matrix);
    return [x / this.width, y / this.height].map((value) => Math.min(Math.max(value, 0), 1));
  }

  press(pressed) {
    if (!this.points || pressed.button !== 0) return;
    pressed.preventDefault();
    this.surface.focus({ preventScroll: true });
    this.byKey = false;
    this.cursor = this.#at(pressed);
    this.add(this.cursor);
  }

  move(moved) {
    if (!this.points) return;
    this.byKey = false;
    this.cursor = this.#at(moved);
    this.#draw();
  }

  key(pressed) {
    if (!this.save) return;
    if (!this.points) {
      if (pressed.key === "Enter" || pressed.key === " ") { pressed.preventDefault(); this.start(); this.byKey = true; this.#draw(); }
      return;
    }
    const step = KEYS[pressed.key];
    const acts = { Enter: () => this.add([...this.cursor]), " ": () => this.add([...this.cursor]), Escape: () => this.cancel(), Backspace: () => this.back(), c: () => this.finish() };
    if (step) {
      const by = pressed.shiftKey ? 0.05 : 0.01;
      this.byKey = true;
      this.cursor = this.cursor.map((value, i) => Math.min(Math.max(value + step[i] * by, 0), 1));
      this.#draw();
    } else if (acts[pressed.key]) acts[pressed.key]();
    else return;
    pressed.preventDefault();
  }

  show() {
    const drawing = this.points !== null;
    this.surface.classList.toggle("drawing", drawing);
    const tool = (label, act, properties = {}) => h("button", { type: "button", onclick: act, ...properties }, label);
    this.tools.replaceChildren(...(drawing
      ? [tool("Finish zone", () => this.finish(), { class: "primary", disabled: this.points.length < 3 }), tool("Remove last point", () => this.back(), { disabled: !this.points.length }), tool("Cancel", () => this.cancel())]
      : !this.save ? [] : [tool("Draw a zone", () => this.start(), { class: "primary" })]));
    this.help.textContent = drawing
      ? `${plural(this.points.length, "point")}. Click the corners, and the first one again to finish. By keyboard: arrows move the cross (Shift: farther), Enter sets a corner, C finishes, Backspace removes, Escape cancels.`
      : "Anomalies inside an ignored zone are not reported. Draw one over a road behind the fence, a tree in the wind or a clock in the image.";
    this.list.replaceChildren(...this.zones.map((points, i) => h("li", {}, h("span", { class: "swatch" }), `Zone ${i + 1}, ${plural(points.length, "corner")}`,
      this.save && button(`Remove zone ${i + 1}`, { class: "tool", onclick: () => this.remove(i) }, icon("bin")))));
    this.#draw();
  }

  #draw() {
    const at = ([x, y]) => [x * this.width, y * this.height];
    const line = (points) => points.map((point) => at(point).join(",")).join(" ");
    const unit = this.width / 120;
    const parts = this.zones.map((points, i) => [s("polygon", { class: "zone", points: line(points) }), this.#label(points, i, unit)]);
    if (this.points) {
      parts.push(s("polyline", { class: "draft", points: line([...this.points, this.cursor]) }));
      parts.push(this.points.map((point, i) => { const [cx, cy] = at(point); return s("circle", { class: i ? "corner" : "corner first", cx, cy, r: i ? unit * 0.7 : unit }); }));
      const [x, y] = at(this.cursor);
      if (this.byKey || !this.points.length) parts.push(s("path", { class: "cross", d: `M${x - 3 * unit} ${y}h${6 * unit}M${x} ${y - 3 * unit}v${6 * unit}` }));
    }
    this.surface.replaceChildren(...parts.flat(2));
  }

  #label(points, i, unit) {
    const middle = [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length);
    return s("text", { class: "zone-name", x: middle[0] * this.width, y: middle[1] * this.height, "font-size": unit * 4, "text-anchor": "middle" }, i + 1);
  }
}
