// Charts drawn by hand: the score of the last two minutes, and alarms a day over thresholds.

import { h, s } from "./dom.js";

const WINDOW_MS = 120000;

function ink(element, name) { return getComputedStyle(element).getPropertyValue(name).trim(); }

// A canvas that shows [time, score] points; scores above the threshold stand out.
export class Sparkline {
  constructor(label) {
    this.element = h("canvas", { class: "spark", role: "img", "aria-label": label });
    this.points = [];
    this.threshold = null;
    this.waiting = false;
    new ResizeObserver(() => this.show(this.points, this.threshold)).observe(this.element);
  }

  show(points, threshold) {
    this.points = points;
    this.threshold = threshold;
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.draw(); });
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.element;
    const scale = window.devicePixelRatio || 1;
    if (!width || !height) return;
    this.element.width = Math.round(width * scale);
    this.element.height = Math.round(height * scale);
    const context = this.element.getContext("2d");
    context.scale(scale, scale);
    const now = Math.max(Date.now(), this.points.at(-1)?.[0] ?? 0);
    const top = Math.max((this.threshold ?? 0) * 1.35, ...this.points.map(([, score]) => score), 1) * 1.06;
    const x = (at) => width - 3 - ((now - at) / WINDOW_MS) * (width - 3);
    const y = (score) => height - 2 - (Math.max(score, 0) / top) * (height - 4);
    if (this.threshold !== null) this.#line(context, width, y(this.threshold));
    if (!this.points.length) return;
    this.#area(context, x, y, height, ink(this.element, "--line"));
    if (this.threshold === null) return;
    context.save();
    context.beginPath();
    context.rect(0, 0, width, y(this.threshold));
    context.clip();
    this.#area(context, x, y, height, ink(this.element, "--alarm"));
    context.restore();
  }

  #line(context, width, at) {
    context.strokeStyle = ink(this.element, "--soft");
    context.setLineDash([3, 4]);
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(0, Math.round(at) + 0.5);
    context.lineTo(width, Math.round(at) + 0.5);
    context.stroke();
    context.setLineDash([]);
  }

  #area(context, x, y, height, colour) {
    const runs = [[]];
    for (const [at, score] of this.points) {
      const last = runs.at(-1).at(-1);
      if (last && at - last[0] > 4000) runs.push([]);
      runs.at(-1).push([at, score]);
    }
    for (const run of runs) {
      if (!run.length) continue;
      context.fillStyle = colour;
      if (run.length === 1) context.fillRect(x(run[0][0]) - 1, y(run[0][1]) - 1, 2.5, 2.5);
      context.beginPath();
      run.forEach(([at, score], i) => context[i ? "lineTo" : "moveTo"](x(at), y(score)));
      context.strokeStyle = colour;
      context.lineWidth = 1.5;
      context.lineJoin = "round";
      context.stroke();
      context.lineTo(x(run.at(-1)[0]), height);
      context.lineTo(x(run[0][0]), height);
      context.closePath();
      context.globalAlpha = 0.13;
      context.fill();
      context.globalAlpha = 1;
    }
  }
}

// Alarms a day (logarithmic) over the threshold, as steps, with a mark at the chosen threshold.
export function curve(points, threshold, low, high) {
  const [width, height, left, bottom] = [560, 150, 44, 22];
  const shown = points.filter(([at]) => at >= low && at <= high);
  const most = Math.max(1, ...shown.map(([, rate]) => rate));
  const decades = Math.max(1, Math.ceil(Math.log10(most)));
  const floor = -1;
  const x = (at) => left + ((at - low) / (high - low || 1)) * (width - left - 8);
  const y = (rate) => 8 + ((decades - Math.max(Math.log10(Math.max(rate, 1e-9)), floor)) / (decades - floor)) * (height - bottom - 8);
  const grid = [];
  for (let power = floor; power <= decades; power += 1) {
    const at = y(10 ** power);
    grid.push(s("line", { class: "grid", x1: left, x2: width - 8, y1: at, y2: at }));
    grid.push(s("text", { class: "tick", x: left - 6, y: at + 4, "text-anchor": "end" }, power < 0 ? "0.1" : (10 ** power).toLocaleString()));
  }
  const path = shown.map(([at, rate], i) => (i ? `V${y(rate).toFixed(1)}H${x(at).toFixed(1)}` : `M${x(at).toFixed(1)} ${y(rate).toFixed(1)}`)).join("");
  const chosen = Math.min(Math.max(threshold, low), high);
  const mark = s("line", { class: "mark", x1: x(chosen), x2: x(chosen), y1: 4, y2: height - bottom });
  const text = s("text", { class: "tick", x: width - 8, y: height - 5, "text-anchor": "end" }, "threshold →");
  const unit = s("text", { class: "tick", x: left, y: height - 5 }, "alarms per day, estimated from recorded scores");
  return s("svg", { class: "curve", viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }, grid, s("path", { class: "run", d: path }), mark, text, unit);
}
