// Reviewing many events at once: which are selected, the bar of what can be done with them, and the keys.

import * as api from "./api.js";
import { button, h, icon, notify, placeNotices } from "./dom.js";
import { count, plural } from "./format.js";
import { isAdmin, isOperator, notifyAll } from "./live.js";

const ACTIONS = [["normal", "Normal", "check", "1"], ["abnormal", "Abnormal", "alarm", "2"], ["clear", "Remove verdict", "undo", "3"], ["favourite", "Favourite", "star", "f"]];
const KEYS = [["j, k", "next and previous event"], ["Enter", "open the event"], ["x", "select the event, or undo the selection"], ["Shift and click", "select all from the last one to this one"],
  ["Shift and A", "select all that are shown"], ["Escape", "select none"], ["1", "normal"], ["2", "abnormal"], ["3", "remove the verdict"], ["f", "make the event a favourite, or undo that"], ["?", "show these keys"]];

export function showKeys() {
  const dialog = h("dialog", { class: "player keys", "aria-labelledby": "keys-title" },
    h("header", {}, h("h2", { id: "keys-title", tabIndex: -1, autofocus: true }, "Keys"), h("span", { class: "gap" }), button("Close", { class: "tool", onclick: () => dialog.close() }, icon("close"))),
    h("dl", { class: "facts" }, KEYS.map(([key, text]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, text)))),
    h("p", { class: "hint" }, "A verdict applies to the selected events; if none is selected, to the one in focus."));
  dialog.addEventListener("close", () => { placeNotices(); dialog.remove(); });
  document.body.append(dialog);
  dialog.showModal();
}

// `shown` gives the events in their order; `draw` is called when the selection changes.
export class Review {
  constructor(shown, draw) {
    Object.assign(this, { shown, draw, chosen: new Set(), last: null, busy: false });
    this.text = h("strong", { role: "status" });
    this.all = h("button", { type: "button", class: "quiet", onclick: () => this.selectAll() }, "Select all shown");
    const act = ([action, text, name, key]) => h("button", { type: "button", onclick: () => this.act(action, [...this.chosen]) }, icon(name), text, h("kbd", { "aria-hidden": "true" }, key.toUpperCase()));
    this.acts = h("div", { class: "tools", role: "group", "aria-label": "Change the selected events" }, ACTIONS.map(act),
      isAdmin() && h("button", { type: "button", onclick: () => this.remove() }, icon("bin"), "Delete"),
      h("button", { type: "button", class: "quiet", onclick: () => this.clear() }, "Select none"));
    this.element = h("section", { class: "review", "aria-label": "Review" }, this.all, this.text, this.acts,
      h("span", { class: "gap" }), button("Keys", { class: "tool keys-button", onclick: showKeys }, "?"));
    this.show();
  }

  box(event, text) {
    if (!isOperator()) return null;
    return h("label", { class: "pick" }, h("input", { type: "checkbox", "data-id": event.id, checked: this.chosen.has(event.id), "aria-label": `Select the event at ${text}`,
      onclick: (clicked) => this.toggle(event.id, clicked.shiftKey) }));
  }

  toggle(id, range) {
    const ids = this.shown().map((event) => event.id);
    const isOn = !this.chosen.has(id);
    const [from, to] = range && ids.includes(this.last) ? [ids.indexOf(this.last), ids.indexOf(id)].sort((a, b) => a - b) : [ids.indexOf(id), ids.indexOf(id)];
    for (const one of ids.slice(from, to + 1)) { if (isOn) this.chosen.add(one); else this.chosen.delete(one); }
    this.last = id;
    this.show();
    this.draw();
  }

  selectAll() { this.chosen = new Set(this.shown().map((event) => event.id)); this.show(); this.draw(); }

  clear() { this.chosen.clear(); this.show(); this.draw(); }

  // Events that are no longer shown are no longer selected: nobody changes what is not seen.
  show() {
    const ids = new Set(this.shown().map((event) => event.id));
    for (const id of this.chosen) if (!ids.has(id)) this.chosen.delete(id);
    const n = this.chosen.size;
    this.element.hidden = !ids.size || !isOperator();
    this.element.classList.toggle("open", n > 0);
    this.acts.hidden = !n;
    this.all.hidden = n > 0 && n === ids.size;
    const said = n ? `${count(n)} selected` : "";
    if (this.text.textContent !== said) this.text.textContent = said;
  }

  async act(action, ids) {
    if (!ids.length || this.busy) return;
    this.busy = true;
    try {
      const failed = [];
      for (let from = 0; from < ids.length; from += 200) {
        const { results } = await api.review(ids.slice(from, from + 200), action);
        for (const { id, event, error } of results) {
          if (error) failed.push(error);
          else {
            const before = this.shown().find((one) => one.id === id);
            if (event ?? before) notifyAll({ kind: "event", camera: (event ?? before).camera, change: event ? "update" : "delete", event: event ?? before });
            this.chosen.delete(id);
          }
        }
      }
      if (failed.length) notify(`${plural(failed.length, "event")} could not be changed: ${failed[0]}`, "bad");
      else notify(`${plural(ids.length, "event")} ${action === "delete" ? "deleted" : "changed"}.`);
    } catch (error) { notify(error.message, "bad"); }
    this.busy = false;
    this.show();
    this.draw();
  }

  remove() {
    if (confirm(`Delete ${plural(this.chosen.size, "event")} and their files?`)) this.act("delete", [...this.chosen]);
  }

  // A key pressed on the list; `cards` are its links, in order.
  key(pressed, cards) {
    if (pressed.ctrlKey || pressed.metaKey || pressed.altKey || document.querySelector("dialog[open]")) return;
    if (/^(INPUT|SELECT|TEXTAREA)$/.test(pressed.target.tagName) && pressed.target.type !== "checkbox") return;
    const focused = document.activeElement?.closest?.("[data-event]");
    const id = focused?.dataset.event ?? null;
    const at = cards.findIndex((card) => card.closest("[data-event]") === focused);
    const move = (by) => { const next = cards[Math.min(cards.length - 1, Math.max(0, at < 0 ? 0 : at + by))]; next?.focus(); next?.scrollIntoView({ block: "nearest" }); };
    const verdict = (action) => this.act(action, this.chosen.size ? [...this.chosen] : id ? [id] : []);
    const favourite = () => { const event = this.shown().find((one) => one.id === id); verdict(!this.chosen.size && event?.favourite ? "unfavourite" : "favourite"); };
    const moves = { j: () => move(1), k: () => move(-1) };
    const acts = !isOperator() ? moves : { ...moves, x: () => id && this.toggle(id, false), A: () => this.selectAll(), Escape: () => this.clear(), f: favourite, "?": showKeys,
      ...Object.fromEntries(ACTIONS.slice(0, 3).map(([action, , , key]) => [key, () => verdict(action)])) };
    const act = acts[pressed.key];
    if (act) { pressed.preventDefault(); act(); }
  }
}
