// The page: login, routes, and the bar at its top.

import { alertSetupView } from "./alertsetup.js";
import * as api from "./api.js";
import { cameraView } from "./cameraview.js";
import { button, h, icon, notify } from "./dom.js";
import { eventsView, openPlayer } from "./eventview.js";
import { isScored, number, plural } from "./format.js";
import { connect, disconnect, known, listen } from "./live.js";
import { activityView } from "./activity.js";
import { liveView } from "./liveview.js";
import { nodesView } from "./nodes.js";
import { systemView } from "./system.js";
import { cameraSetupView, setupView } from "./setup.js";

const root = document.getElementById("main");
const bar = document.getElementById("bar");
const THEMES = { auto: "Theme of the system", light: "Light theme", dark: "Dark theme" };

let leave = () => {};
let shown = null;
let player = null;

function theme(name) {
  document.documentElement.dataset.theme = name;
  localStorage.setItem("theme", name);
}

function themeButton() {
  const names = Object.keys(THEMES);
  const now = document.documentElement.dataset.theme;
  const next = names[(names.indexOf(now) + 1) % names.length];
  return button(`${THEMES[now]}; change to: ${THEMES[next].toLowerCase()}`, { class: "tool", onclick: (clicked) => { theme(next); const other = themeButton(); clicked.currentTarget.replaceWith(other); other.focus(); } },
    icon({ auto: "auto", light: "sun", dark: "moon" }[now]));
}

const summary = h("span", { class: "summary" });
const banner = h("p", { class: "banner", role: "status", hidden: true });
const SYSTEM_EVERY_MS = 30000;

function summarise() {
  const all = [...known.cameras.values()];
  const watched = all.filter((camera) => camera.state !== "paused").length;
  const live = all.filter((camera) => isScored(camera.state)).length;
  const open = all.filter((camera) => camera.open_event !== null).length;
  summary.className = `summary ${!known.connected ? "lost" : open ? "alarm" : live === watched ? "ok" : "fault"}`;
  summary.textContent = !known.connected ? "Connection lost, reconnecting" : open ? `${plural(open, "open event")}` : `${live} of ${plural(all.length, "camera")} live${watched < all.length ? `, ${all.length - watched} paused` : ""}`;
  document.title = open ? `(${open}) comemory` : "comemory";
}

function showBar(session, isFleet) {
  const link = (href, text) => h("a", { href, "data-view": href }, text);
  const logout = session.required && button("Log out", { class: "tool", onclick: async () => { await api.logout().catch(() => {}); begin(); } }, icon("leave"));
  bar.replaceChildren(h("a", { class: "brand", href: "#/" }, h("img", { src: "icon.svg", alt: "", width: 22, height: 22 }), "comemory"),
    h("nav", { "aria-label": "Views" }, link("#/", "Live"), link("#/events", "Events"), isFleet && link("#/nodes", "Nodes"), link("#/system", "System"), session.role === "admin" && link("#/setup", "Set up")), h("span", { class: "gap" }), summary, themeButton(), logout || "");
}

// Show what is wrong with the store: events may be missing from the lists, or files may have no event.
async function checkSystem() {
  const system = await api.system().catch(() => null);
  const text = system && (system.store_error ?? system.store_warning);
  banner.hidden = !text;
  banner.textContent = text ?? "";
}

function markView(view) {
  for (const link of bar.querySelectorAll("nav a")) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function show(view, open) {
  if (shown === view) return;
  leave();
  shown = view;
  leave = open(root) ?? (() => {});
  root.focus({ preventScroll: true });
  scrollTo(0, 0);
  root.scrollTo(0, 0); // on a phone
}

async function play(id) {
  if (player?.event.id === id) return;
  const old = player;
  player = null;
  old?.element.close();
  try {
    player = await openPlayer(id, () => { if (player?.event.id === id) { player = null; location.hash = shown; } });
  } catch (error) { notify(error.message, "bad"); location.hash = shown ?? "#/"; }
}

function route() {
  const [, noun, name, part] = location.hash.split("/").map(decodeURIComponent);
  if (noun === "events" && name) {
    if (!shown) show("#/events", eventsView);
    markView("#/events");
    play(name);
    return;
  }
  if (player) { const old = player; player = null; old.element.close(); }
  if (noun === "events") show("#/events", eventsView);
  else if (noun === "cameras" && name && part === "activity") show(location.hash, (place) => activityView(place, name));
  else if (noun === "nodes") show("#/nodes", nodesView);
  else if (noun === "system") show("#/system", systemView);
  else if (noun === "cameras" && name) show(`#/cameras/${name}`, (place) => cameraView(place, name));
  else if (noun === "setup" && name === "cameras") show(location.hash, (place) => cameraSetupView(place, part));
  else if (noun === "setup" && name === "alerts") show(location.hash, (place) => alertSetupView(place, part));
  else if (noun === "setup") show("#/setup", setupView);
  else show("#/", liveView);
  markView(["events", "nodes", "setup", "system"].includes(noun) ? `#/${noun}` : noun ? "" : "#/");
}

function loginView() {
  const field = h("input", { type: "password", id: "password", name: "password", autocomplete: "current-password", required: true, maxLength: 256 });
  const problem = h("p", { class: "problem", role: "alert" });
  const form = h("form", { class: "login", onsubmit: async (submitted) => {
    submitted.preventDefault();
    try { await api.login(field.value); begin(); } catch (error) { problem.textContent = error.message; field.select(); }
  } }, h("img", { src: "icon.svg", alt: "", width: 44, height: 44 }), h("h1", {}, "comemory"), h("label", { for: "password" }, "Password"), field, problem, h("button", { type: "submit", class: "primary" }, "Log in"));
  bar.replaceChildren();
  root.replaceChildren(form);
  field.focus();
}

async function begin() {
  disconnect();
  leave();
  leave = () => {};
  shown = null;
  let session;
  try { session = await api.session(); } catch (error) {
    root.replaceChildren(h("p", { class: "empty" }, `${error.message}; trying again …`));
    setTimeout(begin, 3000);
    return;
  }
  if (!session.authenticated) { loginView(); return; }
  known.role = session.role;
  showBar(session, Boolean((await api.nodes().catch(() => null))?.nodes));
  bar.after(banner);
  checkSystem();
  connect();
  route();
}

setInterval(() => bar.children.length && checkSystem(), SYSTEM_EVERY_MS);
theme(localStorage.getItem("theme") in THEMES ? localStorage.getItem("theme") : "auto");
api.onUnknownCaller(() => document.querySelector(".login") ?? begin());
addEventListener("hashchange", () => bar.children.length && route());
listen((message) => {
  if (["status", "connection", "event"].includes(message.kind)) summarise();
  if (message.kind === "event" && message.change === "new" && !message.event.suppressed) {
    const isInSight = shown === "#/" && !player;
    notify(`Event at ${message.camera}, score ${number(message.event.peak_score)}`, isInSight ? "unseen" : "alarm", `#/events/${message.event.id}`);
  }
  if (message.kind === "warning") notify(message.message, "bad");
  if (message.kind === "state" && isScored(message.before) && !["live", "connecting", "paused"].includes(message.state)) notify(`${message.camera}: ${message.message || message.state}`, "bad");
});
begin();
