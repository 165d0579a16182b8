// Elements are built without markup in strings: the content policy forbids it.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
    else if (name in element && typeof value !== "string" && !(element instanceof SVGElement)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function h(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

export function s(tag, properties, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

const PATHS = {
  heat: "M8 1.5c.6 2.6 3.8 4.2 3.8 7.6A3.8 3.8 0 0 1 8 13a3.8 3.8 0 0 1-3.8-3.9c0-1.3.6-2.3 1.3-3 .2 1 .7 1.6 1.3 1.8C6.600 5.600 6.700 3.400 8 1.500z",
  settings: "M2 4.500h7M13 4.500h1M2 11.500h1M7 11.500h7M11 2.500v4M5 9.500v4",
  sun: "M8 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM8 1v1.500M8 13.500V15M1 8h1.500M13.500 8H15M3 3l1.100 1.100M11.900 11.900 13 13M13 3l-1.100 1.100M4.100 11.900 3 13",
  moon: "M13 9.800A5.500 5.500 0 0 1 6.200 3 5.500 5.500 0 1 0 13 9.800z",
  auto: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zM8 2v12M8 5h4.800M8 8h6M8 11h4.800",
  close: "M4 4l8 8M12 4l-8 8",
  left: "M10 3 5 8l5 5",
  right: "M6 3l5 5-5 5",
  leave: "M9 2.500H3.500v11H9M7 8h7M11.500 5.500 14 8l-2.500 2.500",
  check: "M3 8.500 6.500 12 13 4.500",
  alarm: "M8 2 1.500 13.500h13zM8 6.500v3.500M8 11.800v.2",
  undo: "M6 3 2.500 6.500 6 10M2.500 6.500H10a3.500 3.500 0 0 1 0 7H7",
  download: "M8 2v8M4.500 7 8 10.500 11.500 7M3 13.500h10",
  star: "M8 1.800l1.900 4 4.300.5-3.200 3 .9 4.300L8 11.500l-3.900 2.100.9-4.300-3.200-3 4.300-.5z",
  bin: "M3 4.500h10M6.500 4.500v-2h3v2M4.500 4.500l.6 9h5.800l.6-9",
  bell: "M8 2a4 4 0 0 0-4 4c0 3.500-1.500 4.500-1.500 5.500h11C13.500 10.500 12 9.500 12 6a4 4 0 0 0-4-4zM6.500 13.500a1.500 1.500 0 0 0 3 0",
  play: "M5 3.200v9.600L12.800 8z",
};

export function icon(name) {
  const drawing = s("path", { d: PATHS[name], fill: "none", stroke: "currentColor", "stroke-width": "1.5", "stroke-linecap": "round", "stroke-linejoin": "round" });
  return s("svg", { class: "icon", viewBox: "0 0 16 16", "aria-hidden": "true", focusable: "false" }, drawing);
}

export function button(label, properties, ...children) {
  return h("button", { type: "button", "aria-label": label, title: label, ...properties }, ...children);
}

const box = document.getElementById("notices");

// Notices go into an open dialog: everything outside of it is hidden from users and screen readers.
export function placeNotices() { (document.querySelector("dialog[open]") ?? document.body).append(box); }

// Redraw a list and keep the focus on the link that has it.
export function keepFocus(list, draw) {
  const place = list.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  draw();
  if (place) [...list.querySelectorAll("a")].find((link) => link.getAttribute("href") === place)?.focus({ preventScroll: true });
}

// A message that screen readers announce, and that disappears. The kind `unseen` is only announced.
export function notify(text, kind = "", link = null) {
  const line = h("p", { class: kind === "unseen" ? kind : `notice ${kind}` }, link && kind !== "unseen" ? h("a", { href: link }, text) : text);
  if (box.parentNode !== (document.querySelector("dialog[open]") ?? document.body)) placeNotices();
  box.append(line);
  while (box.children.length > 4) box.firstChild.remove();
  setTimeout(() => line.remove(), kind === "bad" ? 12000 : 6000);
}
