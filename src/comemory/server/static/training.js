// The training of a camera's model: its progress, and its start.

import * as api from "./api.js";
import { h, notify } from "./dom.js";
import { choice, field, form, text } from "./form.js";
import { isAdmin, known } from "./live.js";

const LONG = [["60", "1 hour"], ["360", "6 hours"], ["1440", "1 day"], ["10080", "1 week"]];
const SOURCES = [["record", "Record the camera now"], ["recorded", "Recorded before"], ["folder", "A folder on the server"]];

export function trainingPanel(name) {
  const progress = h("div", { class: "training" });
  const source = choice(SOURCES, "record");
  const minutes = choice(LONG, "1440");
  const folder = text("", { class: "code", placeholder: "/videos/gate" });
  const recording = field("For how long", minutes, "Choose a time in which nothing abnormal happens.");
  const naming = field("Folder", folder, "The absolute path of a folder with normal videos on the server.");
  const start = form([field("Train on", source), recording, naming], [h("button", { type: "submit" }, "Start a training")], async () => {
    const wanted = { source: source.value };
    if (source.value === "record") wanted.minutes = Number(minutes.value);
    if (source.value === "folder") wanted.folder = folder.value.trim();
    await api.startTraining(name, wanted);
    notify(`The training of ${name} starts.`);
  });
  const choose = () => {
    recording.hidden = source.value !== "record";
    naming.hidden = source.value !== "folder";
    folder.required = source.value === "folder";
  };
  source.addEventListener("change", choose);
  choose();
  const stop = h("button", { type: "button", onclick: async () => {
    try { await api.stopTraining(name); notify(`The training of ${name} was stopped.`); } catch (error) { notify(error.message, "bad"); }
  } }, "Stop");
  const hint = h("div", {}, h("p", { class: "hint" }, "No training is running. To train a model on this camera's normal days:"), h("pre", {}, h("code", {}, `comemory learn ${name} --for 24h`)));

  function update() {
    const mine = known.learning.filter((one) => one.camera === name);
    const isRunning = mine.some((one) => one.running);
    start.hidden = !isAdmin() || isRunning;
    stop.hidden = !isAdmin() || !isRunning;
    hint.hidden = isAdmin() || mine.length > 0;
    progress.replaceChildren(...mine.map((one) => h("div", { class: "learning" }, h("p", {}, h("strong", {}, one.stage), one.share === null ? "" : ` ${Math.round(one.share * 100)} %`),
      one.running && h("progress", { "aria-label": `${one.stage} of ${name}`, max: "1", ...(one.share === null ? {} : { value: String(one.share) }) }), h("p", { class: one.stage === "failed" ? "problem" : "hint" }, one.message))));
  }
  update(); // before the first message nobody knows what runs, and neither button may show
  return { children: [progress, hint, stop, start], update };
}
