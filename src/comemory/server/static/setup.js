// Setting up, for admins: the cameras of the settings file.

import { alertList } from "./alertsetup.js";
import * as api from "./api.js";
import { h, notify } from "./dom.js";
import { choice, commas, confirmed, field, form, text, tick } from "./form.js";
import { STATES, budget, number } from "./format.js";
import { known, listen } from "./live.js";

const BUDGETS = ["1/week", "1/day", "2/day", "4/day", "1/h", "2/h", "10/h", "1/min"];

export function panel(title, ...children) {
  const id = `panel-${title.toLowerCase().replaceAll(" ", "-")}`;
  return h("section", { class: "panel", "aria-labelledby": id }, h("h2", { id }, title), children);
}

export function readOnly(setup) {
  return setup.file ? null : h("p", { class: "tile-note" }, "Nothing can be changed here. Start ", h("code", {}, "comemory serve"), " with ", h("code", {}, "--config FILE.toml"), "; the file may be empty.");
}

function cameraRow(camera) {
  const state = h("span", { class: "state" });
  const update = () => {
    const now = known.cameras.get(camera.name);
    state.className = `state ${now?.state ?? "ended"}`;
    state.textContent = now ? STATES[now.state] : camera.enabled ? "Starting" : "Off";
  };
  update();
  const address = `#/setup/cameras/${encodeURIComponent(camera.name)}`;
  const element = h("li", {}, h("div", { class: "setup-name" }, h("a", { href: camera.in_file ? address : `#/cameras/${camera.name}` }, camera.name), state), h("code", {}, camera.url),
    camera.in_file ? h("a", { class: "quiet", href: address, "aria-label": `Edit ${camera.name}` }, "Edit") : h("span", { class: "hint" }, "from the command line"));
  return { element, update };
}

export async function cameraList(setup) {
  const rows = setup.cameras.map(cameraRow);
  const list = h("ul", { class: "setup-list" }, rows.map((row) => row.element));
  const add = setup.file && h("div", { class: "tools" }, h("a", { class: "button primary", href: "#/setup/cameras" }, "Add a camera"));
  return { element: panel("Cameras", rows.length ? list : h("p", { class: "hint" }, "There is no camera yet."), add), update: () => rows.forEach((row) => row.update()) };
}

// A frame of the camera that the form describes.
class Preview {
  constructor(read) {
    this.read = read;
    this.image = h("img", { alt: "Picture of the camera", class: "waiting" });
    this.picture = h("div", { class: "picture" }, this.image);
    this.facts = h("p", { class: "hint", role: "status" }, "Test the address to see a picture.");
    this.button = h("button", { type: "button", onclick: () => this.test() }, "Test");
    this.element = h("div", { class: "preview" }, this.picture, this.facts);
  }

  async test() {
    this.button.disabled = true;
    this.facts.className = "hint";
    this.facts.textContent = "Opening the camera …";
    this.clear();
    try {
      const found = await api.testCamera(this.read());
      const bytes = Uint8Array.from(atob(found.jpeg), (letter) => letter.charCodeAt(0));
      this.url = URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" }));
      this.image.src = this.url;
      this.image.classList.remove("waiting");
      this.picture.style.setProperty("aspect-ratio", `${found.width} / ${found.height}`);
      this.facts.textContent = [`${found.width} × ${found.height}`, found.rate_hz && `${number(found.rate_hz)} frames/s`, found.codec].filter(Boolean).join(", ");
    } catch (error) {
      this.facts.className = "problem";
      this.facts.textContent = error.message;
    }
    this.button.disabled = false;
    this.element.scrollIntoView({ block: "nearest" });
  }

  clear() {
    if (this.url) URL.revokeObjectURL(this.url);
    this.url = null;
    this.image.classList.add("waiting");
  }
}

function cameraForm(setup, camera) {
  const isNew = camera === null;
  const name = text("", { required: true, pattern: "[A-Za-z0-9][A-Za-z0-9_.\\-]*", maxLength: 64 });
  const url = text(camera?.url, { required: true, class: "code", inputMode: "url" });
  const models = h("datalist", { id: "known-models" }, setup.models.map((path) => h("option", { value: path })));
  const model = text(camera?.model, { class: "code", list: "known-models", required: !setup.model, placeholder: setup.model ?? "" });
  const sensitivity = choice([["", "As the model's footage allows"], ...BUDGETS.map((one) => [one, `At most ${budget(one)}`])], "");
  const rare = camera?.unusual_times ?? "";
  const unusual = choice([["", "Off"], ...[...new Set([...BUDGETS.slice(0, 4), rare])].filter(Boolean).map((one) => [one, `At most ${budget(one)}`])], rare);
  const hours = text(camera?.hours.join(", "), { placeholder: "always" });
  const rate = h("input", { type: "number", min: "0.1", max: "240", step: "any", value: camera?.fps ?? "", placeholder: "as trained" });
  const transport = choice([["tcp", "TCP"], ["udp", "UDP"]], camera?.transport ?? "tcp");
  const loop = tick("Start a file again at its end", camera?.loop ?? false);
  const enabled = tick("Watch this camera", camera?.enabled ?? true);
  const preview = new Preview(() => ({ url: url.value.trim(), transport: transport.value, ...(isNew ? {} : { name: camera.name }) }));

  async function send() {
    const values = { url: url.value.trim(), model: model.value.trim() || null, hours: commas(hours.value), unusual_times: unusual.value || null, fps: rate.value === "" ? null : Number(rate.value), transport: transport.value, loop: loop.control.checked, enabled: enabled.control.checked };
    if (isNew) await api.addCamera({ ...values, name: name.value.trim(), ...(sensitivity.value ? { false_alarms: sensitivity.value } : {}) });
    else await api.changeCamera(camera.name, values);
    notify(`${isNew ? name.value.trim() : camera.name}: saved.`);
    location.hash = "#/setup";
  }

  const remove = !isNew && confirmed("Remove", "Remove it? Its events stay", async () => {
    try { await api.removeCamera(camera.name); notify(`${camera.name} was removed.`); location.hash = "#/setup"; } catch (error) { notify(error.message, "bad"); }
  });
  const element = form([
    isNew && field("Name", name, "Letters, digits, dots, dashes and underscores. It is shown on events and alerts."),
    field("Address", url, camera?.url.includes("***") ? "*** stands for the password, which is not shown. With another address, enter it again." : "rtsp://user:password@host/stream, an HTTP address, /dev/video0, or the absolute path of a file on the server.", preview.button),
    field("Model", model, setup.model ? "The path of a bundle on the server. Empty: the model for all cameras." : "The path of a bundle on the server."), models,
    isNew && field("False alarms", sensitivity, "Sets how sensitive it is; you can change it later."),
    h("details", {}, h("summary", {}, "More settings"), h("div", { class: "fields" },
      field("Active hours", hours, "Such as 08:00-18:00, mon-fri 22:00-06:00. At other times events are suppressed."),
      field("Unusual times", unusual, "False-alarm budget for movement at places and times that are usually empty. Needs four days of recorded activity."),
      field("Scored frames/s", rate, "Fewer need less CPU time."),
      field("RTSP transport", transport), loop.element)),
    enabled.element,
  ], [h("button", { type: "submit", class: "primary" }, isNew ? "Add the camera" : "Save"), h("a", { class: "quiet", href: "#/setup" }, "Cancel"), h("span", { class: "gap" }), remove], send);
  return { element: h("div", { class: "setup-form" }, element, preview.element), close: () => preview.clear() };
}

// The form of one camera; a new one without a name.
export function cameraSetupView(root, name) {
  const title = name ? `Edit ${name}` : "Add a camera";
  const place = h("div", {}, h("p", { class: "empty" }, "Loading …"));
  root.replaceChildren(h("div", { class: "page" }, h("div", { class: "head" }, h("h1", {}, title)), place));
  let opened = null;
  api.setup().then((setup) => {
    const camera = name ? setup.cameras.find((one) => one.name === name) : null;
    if (camera === undefined || !setup.file) { place.replaceChildren(readOnly(setup) ?? h("p", { class: "empty" }, `There is no camera ${name}.`)); return; }
    opened = cameraForm(setup, camera);
    place.replaceChildren(opened.element);
    (place.querySelector("input") ?? root).focus();
  }).catch((error) => place.replaceChildren(h("p", { class: "problem" }, error.message)));
  return () => opened?.close();
}

export function setupView(root) {
  const place = h("div", { class: "panels" }, h("p", { class: "empty" }, "Loading …"));
  root.replaceChildren(h("div", { class: "page" }, h("div", { class: "head" }, h("h1", {}, "Set up")), place));
  let lists = [];
  api.setup().then(async (setup) => {
    lists = [await cameraList(setup)];
    place.replaceChildren(readOnly(setup) ?? "", ...lists.map((list) => list.element), await alertList(setup, panel), setup.file ? h("p", { class: "hint" }, "Changes are written to ", h("code", {}, setup.file), "; the previous version is kept beside it with the ending .bak.") : "");
  }).catch((error) => place.replaceChildren(h("p", { class: "problem" }, error.message)));
  return listen((message) => { if (message.kind === "status") lists.forEach((list) => list.update()); });
}
