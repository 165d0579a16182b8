// Events: rows, cards, the timeline, and the player with the verdict buttons.

import * as api from "./api.js";
import { button, h, icon, keepFocus, notify, placeNotices, s } from "./dom.js";
import { count, dayOf, lasted, minute, number, plural, time } from "./format.js";
import { isAdmin, isOperator, known, listen, notifyAll } from "./live.js";
import { Review } from "./review.js";

const PAGE = 48;
const SPANS = { 1: "24 hours", 7: "7 days", 30: "30 days" };
const VIEWS = { clip: "Clip", thumbnail: "Peak", heat: "Heat map" };
const MARKS = { normal: "Normal", abnormal: "Abnormal", none: "Not reviewed" };

const place = (event) => `#/events/${event.id}`;
const where = (event) => `${event.camera}, ${time(event.start)}, score ${number(event.peak_score)}${event.label ? `, ${event.label}` : ""}`;

const unseen = (text) => h("span", { class: "unseen" }, text);

function thumbnail(event) {
  const picture = event.media.crop ?? event.media.thumbnail;
  return picture
    ? h("img", { src: picture, alt: "", loading: "lazy", decoding: "async" })
    : h("span", { class: "no-picture" }, icon("alarm"));
}

function mark(event) {
  if (!event.end) return h("span", { class: "mark open" }, "Open");
  if (event.verdict) return h("span", { class: `mark ${event.verdict}` }, MARKS[event.verdict]);
  return event.suppressed ? h("span", { class: "mark suppressed" }, "Suppressed") : null;
}

export function eventRow(event) {
  return h("a", { class: "row", href: place(event) }, thumbnail(event),
    h("span", { class: "row-text" }, h("strong", {}, unseen("Event at "), event.camera), h("span", {}, unseen(", "), `${time(event.start)} · ${lasted(event)}${event.label ? ` · ${event.label}` : ""}`)),
    h("span", { class: "row-end" }, h("b", {}, unseen(", score "), number(event.peak_score)), mark(event)));
}

function card(event) {
  return h("a", { class: "card", href: place(event) }, h("span", { class: "card-picture" }, thumbnail(event), mark(event), event.favourite && h("span", { class: "star" }, icon("star"), unseen("Favourite"))),
    h("span", { class: "card-text" }, h("strong", {}, unseen("Event at "), event.camera), h("b", {}, unseen(", score "), number(event.peak_score)),
      h("span", {}, unseen(", "), minute(event.start)), h("span", {}, unseen(event.end ? ", lasted " : ", still "), lasted(event)), event.label && h("span", { class: "label" }, unseen(", "), event.label), event.note && h("span", { class: "note" }, unseen(", note: "), event.note)));
}

// `many` gives the number of events of a day, of which some are listed.
function byDay(events, many, review) {
  const days = new Map();
  for (const event of events) days.set(dayOf(event.start), [...(days.get(dayOf(event.start)) ?? []), event]);
  return [...days].map(([day, listed]) => h("section", { class: "day" }, h("h2", {}, day, h("span", {}, many(day, listed.length))),
    h("ul", { class: "cards" }, listed.map((event) => h("li", { "data-event": event.id, class: review.chosen.has(event.id) ? "chosen" : null }, card(event), review.box(event, where(event)))))));
}

// A lane for each camera, and a mark for each known event of `total`; the cards below hold the same for screen readers.
function timeline(events, total, cameras, days, width) {
  const isNarrow = width < 560;
  const most = isNarrow ? 9 : 18;
  const [lane, left, foot] = [26, 24 + 7 * Math.min(most, Math.max(...cameras.map((name) => name.length))), 22];
  const until = Date.now();
  const since = until - days * 864e5;
  const x = (at) => left + ((at - since) / (until - since)) * (width - left - 12);
  const height = lane * cameras.length + foot;
  const parts = cameras.flatMap((name, i) => [
    s("line", { class: "grid", x1: left, x2: width - 12, y1: (i + 0.5) * lane, y2: (i + 0.5) * lane }),
    s("text", { class: "lane", x: left - 10, y: (i + 0.5) * lane + 4, "text-anchor": "end" }, name.length > most ? `${name.slice(0, most - 1)}…` : name),
  ]);
  const steps = isNarrow ? 3 : days === 7 ? 7 : 6;
  for (let i = 0; i <= steps; i += 1) {
    const at = new Date(since + ((until - since) * i) / steps);
    const text = i === steps ? "now" : days === 1 ? minute(at) : at.toLocaleDateString(undefined, { day: "numeric", month: "short" });
    parts.push(s("text", { class: "tick", x: x(at), y: height - 5, "text-anchor": i === 0 ? "start" : i === steps ? "end" : "middle" }, text));
  }
  for (const event of events) {
    const row = cameras.indexOf(event.camera);
    const start = Date.parse(event.start);
    if (row < 0 || start < since) continue;
    const wide = Math.max(5, x(event.end ? Date.parse(event.end) : until) - x(start));
    const drawn = s("rect", { class: `tick-mark ${event.verdict ?? (event.suppressed ? "suppressed" : "unreviewed")}`, x: x(start) - 2, y: row * lane + 5, width: wide, height: lane - 10, rx: 2 });
    drawn.append(s("title", {}, where(event)));
    drawn.addEventListener("click", () => { location.hash = place(event); });
    parts.push(drawn);
  }
  return s("svg", { class: "timeline", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Timeline of the last ${SPANS[days]}: ${plural(total, "event")}, listed below` }, parts);
}

function choice(label, options, chosen, act) {
  const select = h("select", { onchange: () => act(select.value) }, Object.entries(options).map(([value, text]) => h("option", { value, selected: value === String(chosen) }, text)));
  return h("label", { class: "choice" }, h("span", {}, label), select);
}

export function eventsView(root) {
  const wanted = { camera: "", verdict: "", label: "", favourite: "", days: 1 };
  const lanes = h("div", { class: "lanes", tabIndex: 0, role: "region", "aria-label": "Timeline" });
  const listed = h("div", { class: "days" });
  const more = h("button", { type: "button", class: "more", hidden: true, onclick: () => load(false) }, "Older events");
  const gone = new Set();
  let events = [];
  let next = null;
  let marks = [];
  let total = 0;
  let since = new Date();
  let asked = 0;
  const review = new Review(() => events, () => show());

  const cameras = () => Object.fromEntries([["", "All cameras"], ...[...known.cameras.keys()].map((name) => [name, name])]);
  const labels = new Set();
  const labelChoices = () => ({ "": "All", ...Object.fromEntries([...labels].sort().map((label) => [label, label])), none: "None" });
  const verdicts = { "": "All", none: MARKS.none, abnormal: MARKS.abnormal, normal: MARKS.normal };
  const filters = h("form", { class: "filters", "aria-label": "Filter", onsubmit: (submitted) => submitted.preventDefault() });
  function showFilters() {
    filters.replaceChildren(
      choice("Camera", cameras(), wanted.camera, (value) => { wanted.camera = value; load(true); }),
      choice("Verdict", verdicts, wanted.verdict, (value) => { wanted.verdict = value; load(true); }),
      ...(labels.size ? [choice("Label", labelChoices(), wanted.label, (value) => { wanted.label = value; load(true); })] : []),
      choice("Kept", { "": "All", true: "Favourites", false: "Others" }, wanted.favourite, (value) => { wanted.favourite = value; load(true); }),
      choice("Period", SPANS, wanted.days, (value) => { wanted.days = Number(value); load(true); }));
  }
  root.replaceChildren(h("div", { class: "page" }, h("div", { class: "head" }, h("h1", {}, "Events"), filters), lanes, review.element, listed, more));

  function showLanes() {
    const rows = wanted.camera ? [wanted.camera] : [...new Set([...known.cameras.keys(), ...marks.map((event) => event.camera)])];
    lanes.hidden = !rows.length;
    if (lanes.hidden) return;
    lanes.replaceChildren(timeline(marks, total, rows, wanted.days, Math.max(240, lanes.clientWidth - 16)),
      marks.length < total ? h("p", { class: "hint" }, `The newest ${count(marks.length)} of ${plural(total, "event")} are drawn.`) : "");
  }

  // The first day of the period may be incomplete, and the marks may be cut off at the oldest one.
  function many() {
    const perDay = new Map();
    for (const mark of marks) perDay.set(dayOf(mark.start), (perDay.get(dayOf(mark.start)) ?? 0) + 1);
    const cut = marks.length && marks.length < total ? dayOf(marks.at(-1).start) : null;
    return (day, n) => {
      const all = Math.max(perDay.get(day) ?? 0, n);
      if (day === cut || !perDay.has(day)) return `${count(n)} shown`;
      return `${n < all ? `${count(n)} of ` : ""}${plural(all, "event")}${day === dayOf(since) ? ` since ${minute(since)}` : ""}`;
    };
  }

  function show() {
    showLanes();
    const picked = listed.contains(document.activeElement) ? document.activeElement.dataset.id : null;
    keepFocus(listed, () => listed.replaceChildren(...byDay(events, many(), review)));
    if (picked) listed.querySelector(`input[data-id="${picked}"]`)?.focus({ preventScroll: true });
    review.show();
    if (!events.length) listed.replaceChildren(h("p", { class: "empty" }, "No events in this period."));
    more.hidden = !next;
  }

  async function load(fromStart) {
    const turn = ++asked;
    if (fromStart) since = new Date(Date.now() - wanted.days * 864e5);
    const asking = { camera: wanted.camera, verdict: wanted.verdict, since: since.toISOString(), label: wanted.label, favourite: wanted.favourite };
    try {
      const [page, whole] = await Promise.all([api.events({ ...asking, limit: PAGE, before: fromStart ? null : next }), fromStart ? api.timeline(asking) : null]);
      if (turn !== asked) return;
      events = fromStart ? page.events : [...events, ...page.events];
      next = page.next;
      if (whole) { marks = whole.events; total = whole.total; }
      offer(events.concat(marks));
    } catch (error) { notify(error.message, "bad"); }
    show();
  }

  // The filter by label appears with the first label, and lists those seen.
  function offer(some) {
    const before = labels.size;
    for (const { label } of some) if (label) labels.add(label);
    if (labels.size !== before) showFilters();
  }

  const isWanted = (event) => (!wanted.favourite || wanted.favourite === String(event.favourite)) && (!wanted.label || wanted.label === (event.label ?? "none")) && (!wanted.camera || wanted.camera === event.camera) && (!wanted.verdict || wanted.verdict === (event.verdict ?? "none"))
    && Date.parse(event.start) >= since.getTime() && !gone.has(event.id);
  const without = (list, { id }) => list.filter((event) => event.id !== id);
  const sorted = (list) => list.sort((a, b) => (a.id < b.id ? 1 : -1));

  // Apply a new, changed or deleted event; events older than what was loaded come with it.
  function apply(event) {
    const has = (list) => list.some(({ id }) => id === event.id);
    const isDrawn = has(marks) || marks.length === total || event.id > (marks.at(-1)?.id ?? "");
    const isListed = has(events) || !next || event.id > next;
    total += Number(isDrawn && isWanted(event)) - Number(has(marks));
    marks = without(marks, event);
    events = without(events, event);
    if (!isWanted(event)) return;
    if (isDrawn) marks = sorted([event, ...marks]);
    if (isListed) events = sorted([event, ...events]);
  }

  const quiet = listen((message) => {
    if (message.kind === "status" && filters.querySelector("select")?.options.length !== known.cameras.size + 1) { showFilters(); show(); }
    if (message.kind !== "event") return;
    if (message.change === "delete") gone.add(message.event.id);
    offer([message.event]);
    apply(message.event);
    show();
  });
  let width = 0;
  const watcher = new ResizeObserver(() => { if (lanes.clientWidth !== width) { width = lanes.clientWidth; showLanes(); } });
  watcher.observe(lanes);
  const pressed = (key) => review.key(key, [...listed.querySelectorAll("a.card")]);
  addEventListener("keydown", pressed);
  showFilters();
  load(true);
  return () => { quiet(); watcher.disconnect(); removeEventListener("keydown", pressed); };
}

class Player {
  constructor(event) {
    this.event = event;
    this.view = event.media.clip ? "clip" : event.media.thumbnail ? "thumbnail" : null;
    this.stage = h("div", { class: "stage" });
    this.facts = h("dl", { class: "facts" });
    this.word = h("p", { role: "status" });
    this.words = ["normal", "abnormal"].map((value) => h("button", { type: "button", class: `verdict ${value}`, onclick: () => this.setVerdict(value) },
      icon(value === "normal" ? "check" : "alarm"), MARKS[value], h("kbd", { "aria-hidden": "true" }, value[0].toUpperCase())));
    this.undo = h("button", { type: "button", class: "verdict undo", onclick: () => this.event.verdict && this.setVerdict(null) }, icon("undo"), "Undo", h("kbd", { "aria-hidden": "true" }, "U"));
    this.verdictBox = h("div", { class: "judge", role: "group", "aria-label": "Was this normal?" }, this.word, h("div", { class: "verdicts", hidden: !isOperator() }, this.words, this.undo));
    this.views = Object.entries(VIEWS).map(([kind, text]) => h("button", { type: "button", "data-kind": kind, onclick: () => { this.view = kind; this.show(); } }, text));
    this.title = h("h2", { id: "player-title", tabIndex: -1, autofocus: true });
    const step = (label, name, by) => button(label, { class: "tool", onclick: () => this.step(by) }, icon(name));
    this.favourite = button("Favourite: retention keeps it", { class: "tool favourite", hidden: !isOperator(), onclick: () => this.annotate({ favourite: !this.event.favourite }) }, icon("star"));
    const head = h("header", {}, this.title, h("span", { class: "gap" }), step("Newer event", "left", -1), step("Older event", "right", 1), this.favourite,
      isAdmin() && button("Delete this event", { class: "tool", onclick: () => this.remove() }, icon("bin")),
      button("Close", { class: "tool", onclick: () => this.element.close() }, icon("close")));
    this.tabs = h("div", { class: "tabs", role: "group", "aria-label": "View" }, this.views);
    this.exports = h("p", { class: "exports" });
    this.note = h("textarea", { id: "note", maxLength: 1000, rows: "2", readOnly: !isOperator(), onchange: () => this.annotate({ note: this.note.value }) });
    const noteBox = h("div", { class: "note-box" }, h("label", { for: "note" }, "Note"), this.note);
    const side = h("div", { class: "side" }, this.verdictBox, noteBox, this.facts, this.exports);
    this.element = h("dialog", { class: "player", "aria-labelledby": "player-title" }, head, h("div", { class: "player-body" }, h("div", {}, this.stage, this.tabs), side));
    this.element.addEventListener("keydown", (pressed) => this.key(pressed));
    this.element.addEventListener("close", () => { if (this.note.value.trim() !== (this.event.note ?? "")) this.annotate({ note: this.note.value }); });
    this.element.addEventListener("click", (clicked) => clicked.target === this.element && this.element.close());
    this.show();
  }

  show() {
    const { event } = this;
    this.title.textContent = `${event.camera}, ${dayOf(event.start)}, ${time(event.start)}`;
    for (const tab of this.views) {
      tab.hidden = !event.media[tab.dataset.kind];
      tab.setAttribute("aria-pressed", String(tab.dataset.kind === this.view));
    }
    if (this.shown !== this.view + event.id) this.#stage();
    this.#showVerdict();
    this.#facts();
    this.#exports();
    this.favourite.setAttribute("aria-pressed", String(event.favourite));
    if (document.activeElement !== this.note) this.note.value = event.note ?? "";
  }

  #exports() {
    const { media, id } = this.event;
    const link = (href, text) => h("a", { href, download: "" }, text);
    const place = `${media.clip ?? ""}`;
    const kinds = [media.clip && link(`${place}?download=true`, "Download the clip"), media.clip && this.event.end && link(place.replace(/clip$/, "export"), "Download it with time and outline"), !media.clip && media.thumbnail && link(`${media.thumbnail}?download=true`, "Download the picture")];
    if (this.exported === `${id} ${Boolean(media.clip)} ${Boolean(this.event.end)} ${Boolean(media.thumbnail)}`) return;
    this.exported = `${id} ${Boolean(media.clip)} ${Boolean(this.event.end)} ${Boolean(media.thumbnail)}`;
    this.exports.replaceChildren(...kinds.filter(Boolean));
  }

  async annotate(values) {
    if (!isOperator()) return;
    try {
      const event = await api.annotate(this.event.id, values);
      notifyAll({ kind: "event", camera: event.camera, change: "update", event });
      notify("note" in values ? (event.note ? "Note saved." : "Note removed.") : event.favourite ? "Favourite: it is kept." : "No longer a favourite.");
    } catch (error) { notify(error.message, "bad"); }
  }

  #stage() {
    const { event, view } = this;
    this.shown = view + event.id;
    if (view === "clip") {
      const video = h("video", { src: event.media.clip, controls: true, muted: true, autoplay: true, loop: true, playsInline: true, "aria-label": `Clip of the event at ${event.camera}` });
      if (event.media.thumbnail) video.poster = event.media.thumbnail;
      return this.stage.replaceChildren(video);
    }
    if (!view) return this.stage.replaceChildren(h("p", { class: "empty" }, event.end ? "No image was stored." : "The image is stored when the event ends."));
    const [height, width] = event.size;
    const image = h("img", { src: event.media[view], alt: view === "heat" ? "Peak of the event with its heat map" : "Peak of the event" });
    const [region, box] = [event.region, event.box];
    const frame = (region || box) && view === "thumbnail" && s("svg", { class: "overlay", viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
      region ? s("polygon", { class: "region", points: region.map((point) => point.join(",")).join(" ") }) : s("rect", { class: "box", x: event.box[0], y: event.box[1], width: event.box[2] - event.box[0], height: event.box[3] - event.box[1] }));
    return this.stage.replaceChildren(image, frame || "");
  }

  #showVerdict() {
    const { verdict } = this.event;
    const text = { normal: "Normal: similar events of this camera are not reported any more.", abnormal: "Abnormal." }[verdict] ?? (isOperator() ? "Was this normal?" : "Not reviewed.");
    if (this.word.textContent !== text) this.word.textContent = text;
    for (const word of this.words) word.setAttribute("aria-pressed", String(word.classList.contains(String(verdict))));
    this.undo.setAttribute("aria-disabled", String(verdict === null));
  }

  #facts() {
    const { event } = this;
    const whole = Math.max(event.motion, 0) + Math.max(event.appearance, 0) || 1;
    const share = Math.round((Math.max(event.motion, 0) / whole) * 100);
    const bar = h("span", { class: "share" }, h("span", { class: "share-bar" }, h("span", { style: { width: `${share}%` } })), `motion ${share} %, appearance ${100 - share} %`);
    const facts = [["Began", `${dayOf(event.start)}, ${time(event.start)}`], ["Lasted", event.end ? lasted(event) : "still open"], ["Peak", time(event.peak)],
      ["Score", `${number(event.peak_score, 2)} at the peak; an event starts at ${number(event.threshold, 2)}. Up to 6, each unit more is ten times rarer.`], ["Cause", bar],
      ...(event.label ? [["Label", event.label]] : []),
      ["Model", h("code", {}, event.model.slice(0, 16))], ...(event.suppressed ? [["Alert", "suppressed by feedback, an ignored zone or inactive hours"]] : [])];
    this.facts.replaceChildren(...facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
  }

  update(event) {
    if (event.id !== this.event.id) return;
    this.event = event;
    if (!this.view) this.view = event.media.clip ? "clip" : event.media.thumbnail ? "thumbnail" : null;
    this.show();
  }

  async setVerdict(verdict) {
    if (!isOperator()) return;
    try {
      const event = await api.setVerdict(this.event.id, verdict);
      notifyAll({ kind: "event", camera: event.camera, change: "update", event });
      notify(verdict ? `Marked as ${verdict}.` : "Verdict removed.");
    } catch (error) { notify(error.message, "bad"); }
  }

  async step(by) {
    try {
      const { events } = await api.events({ [by > 0 ? "before" : "after"]: this.event.id, limit: 1 });
      const [found] = events;
      if (found) location.replace(place(found));
      else notify(by > 0 ? "This is the oldest event." : "This is the newest event.");
    } catch (error) { notify(error.message, "bad"); }
  }

  async remove() {
    if (!confirm("Delete this event and its files?")) return;
    try {
      const { event } = this;
      await api.remove(event.id);
      notify("Deleted.");
      notifyAll({ kind: "event", camera: event.camera, change: "delete", event });
    } catch (error) { notify(error.message, "bad"); }
  }

  key(pressed) {
    if (pressed.ctrlKey || pressed.metaKey || pressed.altKey || ["VIDEO", "TEXTAREA"].includes(pressed.target.tagName)) return;
    const acts = { n: () => this.setVerdict("normal"), a: () => this.setVerdict("abnormal"), u: () => this.event.verdict && this.setVerdict(null), 1: () => this.setVerdict("normal"), 2: () => this.setVerdict("abnormal"), 3: () => this.event.verdict && this.setVerdict(null), f: () => this.annotate({ favourite: !this.event.favourite }), ArrowLeft: () => this.step(-1), ArrowRight: () => this.step(1) };
    const act = acts[pressed.key.length === 1 ? pressed.key.toLowerCase() : pressed.key];
    if (act) { pressed.preventDefault(); act(); }
  }
}

// Open the player over what is shown; `left` is called when it is closed.
export async function openPlayer(id, left) {
  const player = new Player(await api.event(id));
  const quiet = listen((message) => {
    if (message.kind !== "event") return;
    if (message.change === "delete" && message.event.id === player.event.id) player.element.close();
    else player.update(message.event);
  });
  player.element.addEventListener("close", () => { quiet(); placeNotices(); player.element.remove(); left(); });
  document.body.append(player.element);
  player.element.showModal();
  return player;
}
