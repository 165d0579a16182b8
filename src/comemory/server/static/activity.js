// What is normal at a camera: where things move and how fast, and at which hours of the week.

import * as api from "./api.js";
import { h, s } from "./dom.js";
import { count, number, plural } from "./format.js";

const DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const KINDS = { moving: "How often", speed: "How fast" };
const percent = (share) => (share === null ? "–" : share > 0 && share < 0.001 ? "under 0.1 %" : `${number(share * 100, share < 0.1 ? 1 : 0)} %`);
const pace = (speed) => (speed === null ? "–" : `${number(speed * 100, 0)} % of the width a second`);
const clock = (hour) => `${String(hour).padStart(2, "0")}:00`;
const hoursOf = ({ weekday, hour }) => (weekday === null ? "All hours" : `${DAYS[weekday]}, ${clock(hour)} to ${clock((hour + 1) % 24)}`);

// Values are drawn relative to a high one, by their square root: most places move rarely, and those should be seen too.
function scale(values) {
  const sorted = values.filter((value) => value > 0).sort((a, b) => a - b);
  const top = sorted[Math.floor(0.98 * (sorted.length - 1))] ?? 0;
  return { top, level: (value) => (value > 0 ? Math.max(0.08, Math.sqrt(Math.min(1, value / top))) : 0) };
}

class WeekGrid {
  constructor(choose) {
    this.choose = choose;
    this.element = h("div", { class: "week-scroll", tabIndex: 0, role: "region", "aria-label": "Activity by hour of the week" });
  }

  show(week, chosen) {
    const found = new Map(week.map((one) => [`${one.weekday} ${one.hour}`, one]));
    const { level } = scale(week.map((one) => one.moving));
    const focused = document.activeElement?.dataset?.hour;
    const cell = (weekday, hour) => {
      const one = found.get(`${weekday} ${hour}`);
      if (!one) return h("td", {}, h("span", { class: "hour none", title: `${hoursOf({ weekday, hour })}: nothing recorded` }, h("span", { class: "unseen" }, "nothing recorded")));
      const isChosen = chosen.weekday === weekday && chosen.hour === hour;
      const text = `${hoursOf(one)}: ${percent(one.moving)} of the image moves, ${plural(one.days, "day")} recorded`;
      return h("td", {}, h("button", { type: "button", class: "hour", "data-hour": `${weekday} ${hour}`, title: text, "aria-label": text, "aria-pressed": String(isChosen), style: { "--level": level(one.moving).toFixed(3) },
        onclick: () => this.choose(isChosen ? { weekday: null, hour: null } : { weekday, hour }) }));
    };
    const head = h("tr", {}, h("td"), Array.from({ length: 24 }, (_, hour) => h("th", { scope: "col" }, h("span", { class: hour % 6 ? "unseen" : "" }, String(hour)))));
    this.element.replaceChildren(h("table", { class: "week" }, h("thead", {}, head),
      h("tbody", {}, DAYS.map((day, weekday) => h("tr", {}, h("th", { scope: "row" }, day.slice(0, 3), h("span", { class: "unseen" }, day.slice(3))), Array.from({ length: 24 }, (_, hour) => cell(weekday, hour)))))));
    if (focused) this.element.querySelector(`[data-hour="${focused}"]`)?.focus();
  }
}

// The grid over a frame of the camera: the more often, or the faster, the more opaque.
function overlay(grid, kind) {
  const rows = grid.length;
  const columns = grid[0].length;
  const { top, level } = scale(grid.flat());
  const cells = grid.flatMap((row, y) => row.map((value, x) => (value > 0
    ? s("rect", { x, y, width: 1.01, height: 1.01, class: "heat-cell", style: { "fill-opacity": (0.72 * level(value)).toFixed(3) } }, s("title", {}, kind === "moving" ? `moves in ${percent(value)} of the frames` : pace(value))) : null)));
  return { top, drawing: s("svg", { class: "overlay", viewBox: `0 0 ${columns} ${rows}`, preserveAspectRatio: "none", "aria-hidden": "true" }, cells) };
}

export function activityView(root, name) {
  let chosen = { weekday: null, hour: null };
  let kind = "moving";
  let found = null;
  const image = h("img", { alt: "", src: `/api/v1/cameras/${encodeURIComponent(name)}/picture?width=640`, onload: () => { if (image.naturalWidth) stage.style.setProperty("aspect-ratio", `${image.naturalWidth} / ${image.naturalHeight}`); }, onerror: () => { image.hidden = true; } });
  const stage = h("div", { class: "picture activity-stage" }, image);
  const caption = h("p", { class: "said" });
  const legend = h("p", { class: "hint" });
  const summary = h("p", { class: "hint" });
  const grid = new WeekGrid((hours) => { chosen = hours; load(); });
  const tabs = h("div", { class: "tabs", role: "group", "aria-label": "What is drawn" }, Object.entries(KINDS).map(([key, text]) => h("button", { type: "button", "data-kind": key, onclick: () => { kind = key; show(); } }, text)));
  const all = h("button", { type: "button", class: "quiet", hidden: true, onclick: () => { chosen = { weekday: null, hour: null }; load(); } }, "All hours");
  const body = h("div", { class: "camera" },
    h("section", { class: "panel", "aria-label": "Where things move" }, h("div", { class: "tools" }, caption, h("span", { class: "gap" }), all), stage, tabs, legend),
    h("section", { class: "panel", "aria-labelledby": "when" }, h("h2", { id: "when" }, "When things move"), grid.element, h("p", { class: "hint" }, "The darker an hour, the more of the image moves. Choose an hour to see where."), summary));
  const empty = h("p", { class: "empty", hidden: true }, "Nothing is recorded yet: come back five minutes after the camera is live.");
  root.replaceChildren(h("div", { class: "page" }, h("div", { class: "head" }, h("h1", {}, `What is normal at ${name}`), h("span", { class: "gap" }), h("a", { class: "quiet", href: `#/cameras/${encodeURIComponent(name)}` }, "Camera")), body, empty));

  function show() {
    body.hidden = !found.hours;
    empty.hidden = found.hours > 0;
    if (!found.hours) return;
    caption.replaceChildren(h("strong", {}, hoursOf(chosen)));
    all.hidden = chosen.weekday === null;
    for (const tab of tabs.children) tab.setAttribute("aria-pressed", String(tab.dataset.kind === kind));
    const { top, drawing } = overlay(found[kind], kind);
    stage.querySelector("svg")?.remove();
    stage.append(drawing);
    legend.textContent = !top ? "Nothing moved." : kind === "moving" ? `Strongest colour: movement in ${percent(top)} of the frames or more.` : `Strongest colour: movement at ${pace(top)} or faster.`;
    summary.textContent = `${plural(found.hours, "hour")} recorded since ${new Date(found.since).toLocaleDateString(undefined, { day: "numeric", month: "long" })}, ${count(found.week.length)} of 168 hours of the week. Times are those of the server.`;
    grid.show(found.week, chosen);
  }

  async function load() {
    try { found = await api.activity(name, chosen); show(); } catch (error) { body.hidden = true; empty.hidden = false; empty.textContent = error.message; }
  }
  body.hidden = true;
  load();
}
