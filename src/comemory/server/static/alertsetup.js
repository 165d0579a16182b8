// Setting up alerts, for admins.

import * as api from "./api.js";
import { h, notify } from "./dom.js";
import { choice, commas, confirmed, field, form, secret, text, tick } from "./form.js";
import { time } from "./format.js";

const NAMES = { webhook: "Webhook", mqtt: "MQTT, Home Assistant", apprise: "E-mail or another service (Apprise)", command: "Command" };
const KINDS = { new: "Start of an event", update: "Event goes on", end: "End of an event", state: "State of a camera", system: "Error of the service" };

const condition = (alert) => alert.last_error ? h("span", { class: "problem" }, alert.last_error)
  : h("span", { class: "hint" }, alert.last_delivery ? `last delivery ${time(alert.last_delivery)}` : "nothing sent yet", alert.pending ? `, ${alert.pending} waiting` : "");

async function test(name, said, clicked) {
  clicked.disabled = true;
  said.className = "hint";
  said.textContent = "Sending …";
  try { await api.testAlert(name); said.textContent = "The test alert has arrived."; } catch (error) { said.className = "problem"; said.textContent = error.message; }
  clicked.disabled = false;
}

function row(alert) {
  const said = h("span", { role: "status" }, condition(alert));
  const send = h("button", { type: "button", "aria-label": `Send a test to ${alert.name}`, onclick: () => test(alert.name, said, send) }, "Send a test");
  const address = `#/setup/alerts/${encodeURIComponent(alert.name)}`;
  return h("li", {}, h("div", { class: "setup-name" }, alert.in_file ? h("a", { href: address }, alert.name) : h("strong", {}, alert.name), h("span", { class: "hint" }, NAMES[alert.kind])),
    h("div", { class: "setup-said" }, h("code", {}, alert.target), said), h("div", { class: "tools" }, send, alert.in_file && h("a", { class: "quiet", href: address, "aria-label": `Edit ${alert.name}` }, "Edit")));
}

export async function alertList(setup, panel) {
  if (!setup.has_alerts) return panel("Alerts", h("p", { class: "hint" }, "Alerts need the event store."));
  const alerts = await api.alerts();
  return panel("Alerts", alerts.length ? h("ul", { class: "setup-list" }, alerts.map(row)) : h("p", { class: "hint" }, "No alerts are sent yet."),
    setup.file && h("div", { class: "tools" }, h("a", { class: "button primary", href: "#/setup/alerts" }, "Add an alert")));
}

// The fields of each kind, with what they send; a secret that is left empty stays as it is.
const FIELDS = {
  webhook(alert) {
    const url = secret(alert !== null);
    url.type = "text";
    url.className = "code";
    url.required = alert === null;
    const key = secret(alert?.stored.includes("secret"));
    const isPrivate = tick("The address may be in a private network", alert?.allow_private ?? false, "Such as 192.168.0.5 or a name in your own network.");
    return { element: [field("URL", url, alert ? "It may hold a secret and is not shown; leave it empty to keep it." : "An HTTPS address, which gets the alert as JSON."), field("Secret", key, "Signs each alert, so that the receiver can check where it comes from."), isPrivate.element],
      read: () => ({ ...given({ url, secret: key }), allow_private: isPrivate.control.checked }) };
  },
  mqtt(alert) {
    const host = text(alert?.host, { required: true, maxLength: 255 });
    const port = h("input", { type: "number", min: "1", max: "65535", value: alert?.port ?? "", placeholder: "1883, or 8883 with TLS" });
    const username = text(alert?.username, { maxLength: 255 });
    const password = secret(alert?.stored.includes("password"));
    const tls = tick("Encrypt the connection (TLS)", alert?.tls ?? false);
    const commands = tick("Messages may pause and snooze cameras", alert?.commands ?? false, "Everybody who may publish on the command topics of the broker can do so.");
    return { element: [field("Host", host), field("Port", port), field("User name", username), field("Password", password), tls.element, commands.element],
      read: () => ({ host: host.value.trim(), port: port.value === "" ? null : Number(port.value), username: username.value.trim() || null, ...given({ password }), tls: tls.control.checked, commands: commands.control.checked }) };
  },
  apprise(alert) {
    const url = secret(alert !== null);
    url.required = alert === null;
    return { element: [field("Apprise URL", url, "Such as mailtos://user:password@example.org?to=desk@example.org, ntfy://topic or tgram://token/chat. It is not shown again.")], read: () => given({ url }) };
  },
};

const given = (fields) => Object.fromEntries(Object.entries(fields).filter(([, control]) => control.value.trim()).map(([key, control]) => [key, control.value.trim()]));

function alertForm(setup, alert) {
  const name = text("", { required: true, pattern: "[A-Za-z0-9][A-Za-z0-9_.\\-]*", maxLength: 64 });
  const kind = choice(Object.keys(FIELDS).map((one) => [one, NAMES[one]]), alert?.kind ?? "webhook");
  const place = h("div", { class: "form" });
  let own = null;
  const draw = () => { own = FIELDS[alert?.kind ?? kind.value](alert); place.replaceChildren(...own.element); };
  kind.addEventListener("change", draw);
  draw();
  const cameras = setup.cameras.map((camera) => [camera.name, tick(camera.name, alert === null || alert.cameras.length === 0 || alert.cameras.includes(camera.name))]);
  const kinds = alert && Object.entries(KINDS).map(([key, label]) => [key, tick(label, alert.kinds.includes(key))]);
  const quiet = text(alert?.quiet_hours.join(", "), { placeholder: "never" });
  const cooldown = h("input", { type: "number", min: "0", max: "86400", step: "1", value: alert?.cooldown_s ?? "", placeholder: "as usual for the kind" });
  const said = h("p", { class: "hint", role: "status" });
  const ticked = (boxes) => boxes.filter(([, box]) => box.control.checked).map(([key]) => key);
  const group = (title, boxes) => h("fieldset", {}, h("legend", {}, title), boxes.map(([, box]) => box.element));

  function read() {
    const chosen = ticked(cameras);
    if (cameras.length && !chosen.length) throw new Error("Choose a camera.");
    if (kinds && !ticked(kinds).length) throw new Error("Choose what is sent.");
    return { ...own.read(), cameras: chosen.length === cameras.length ? [] : chosen, quiet_hours: commas(quiet.value), ...(kinds ? { kinds: ticked(kinds) } : {}), ...(cooldown.value === "" ? {} : { cooldown_s: Number(cooldown.value) }) };
  }

  async function send() {
    const saved = alert?.name ?? name.value.trim();
    if (alert) await api.changeAlert(saved, read());
    else await api.addAlert({ ...read(), name: saved, kind: kind.value });
    try { await api.testAlert(saved); notify(`${saved}: saved, and the test alert has arrived.`); location.hash = "#/setup"; } catch (error) {
      notify(`${saved} is saved. ${error.message}`, "bad");
      if (alert) { said.className = "problem"; said.textContent = error.message; } else location.hash = `#/setup/alerts/${encodeURIComponent(saved)}`;
    }
  }

  const remove = alert && confirmed("Remove", "Remove it?", async () => {
    try { await api.removeAlert(alert.name); notify(`${alert.name} was removed.`); location.hash = "#/setup"; } catch (error) { notify(error.message, "bad"); }
  });
  return form([
    !alert && field("Name", name, "Letters, digits, dots, dashes and underscores."),
    !alert && field("Kind", kind), place,
    cameras.length > 1 && group("Cameras", cameras),
    kinds && group("What is sent", kinds),
    field("Quiet hours", quiet, "Events that begin then are muted: 22:00-06:00, sat-sun 00:00-24:00. Camera states are sent at all hours."),
    field("Cool-down in seconds", cooldown, "Time after an alert of a camera during which its further events are muted."), said,
  ], [h("button", { type: "submit", class: "primary" }, "Save and send a test"), h("a", { class: "quiet", href: "#/setup" }, "Cancel"), h("span", { class: "gap" }), remove], send);
}

// The form of one alert; a new one without a name.
export function alertSetupView(root, name) {
  const place = h("div", {}, h("p", { class: "empty" }, "Loading …"));
  root.replaceChildren(h("div", { class: "page" }, h("div", { class: "head" }, h("h1", {}, name ? `Edit ${name}` : "Add an alert")), place));
  Promise.all([api.setup(), api.alerts()]).then(([setup, alerts]) => {
    const alert = name ? alerts.find((one) => one.name === name && one.in_file) : null;
    if (alert === undefined || !setup.file) { place.replaceChildren(h("p", { class: "empty" }, "This alert cannot be changed here.")); return; }
    place.replaceChildren(h("div", { class: "setup-form narrow" }, alertForm(setup, alert)));
    (place.querySelector("input") ?? root).focus();
  }).catch((error) => place.replaceChildren(h("p", { class: "problem" }, error.message)));
  return () => {};
}
