// Forms: a label and a hint for every control, and the problem said where the eyes are.

import { button, h, icon } from "./dom.js";

let last = 0;

// A control with its label above and its hint below.
export function field(label, control, hint = "", beside = null) {
  last += 1;
  control.id ||= `field-${last}`;
  const said = hint && h("p", { class: "hint", id: `${control.id}-hint` }, hint);
  if (said) control.setAttribute("aria-describedby", said.id);
  return h("div", { class: "field" }, h("label", { for: control.id }, label), beside ? h("div", { class: "beside" }, control, beside) : control, said);
}

export const text = (value, properties = {}) => h("input", { type: "text", value: value ?? "", autocomplete: "off", spellcheck: "false", maxLength: 1024, ...properties });

// Passwords are sent and never come back: an empty one leaves what is stored.
export const secret = (isStored = false) => h("input", { type: "password", autocomplete: "new-password", maxLength: 1024, placeholder: isStored ? "stored; leave empty to keep it" : "" });

export function choice(options, value) {
  const select = h("select", {}, options.map(([key, shown]) => h("option", { value: key }, shown)));
  select.value = value;
  return select;
}

// A box to tick, with its label behind it.
export function tick(label, isOn, hint = "") {
  last += 1;
  const control = h("input", { type: "checkbox", id: `field-${last}`, checked: isOn, ...(hint ? { "aria-describedby": `field-${last}-hint` } : {}) });
  const element = h("div", { class: "field check" }, control, h("label", { for: control.id }, label), hint && h("p", { class: "hint", id: `${control.id}-hint` }, hint));
  return { control, element };
}

// A form that says what went wrong, and is locked while it is sent.
export function form(children, buttons, send) {
  const problem = h("p", { class: "problem", role: "alert" });
  const element = h("form", { class: "form", autocomplete: "off", onsubmit: async (submitted) => {
    submitted.preventDefault();
    problem.textContent = "";
    const locked = [...element.querySelectorAll("button")].filter((one) => !one.disabled);
    for (const one of locked) one.disabled = true;
    try { await send(); } catch (error) { problem.textContent = error.message; }
    for (const one of locked) one.disabled = false;
  } }, children, problem, h("div", { class: "tools" }, buttons));
  return element;
}

// A button that asks once more before it does something that cannot be undone.
export function confirmed(label, question, act) {
  let waiting = null;
  const calm = () => { clearTimeout(waiting); waiting = null; ask.textContent = label; ask.classList.remove("danger"); };
  const ask = h("button", { type: "button", onblur: calm, onclick: async () => {
    if (waiting === null) { ask.textContent = question; ask.classList.add("danger"); waiting = setTimeout(calm, 6000); return; }
    calm();
    ask.disabled = true;
    try { await act(); } finally { ask.disabled = false; }
  } }, label);
  return ask;
}

export const dismiss = (label, act) => button(label, { class: "tool", onclick: act }, icon("close"));
export const commas = (value) => value.split(",").map((part) => part.trim()).filter(Boolean);
