// Shows the values under the pointer, read from the curves of the SVG. Everything else works without this.
"use strict";
for (const svg of document.querySelectorAll("svg[data-x]")) {
  const cursor = svg.querySelector(".cursor");
  const readout = svg.closest("figure").querySelector(".readout");
  const isRoc = svg.parentElement.classList.contains("roc");
  const numbers = (name) => (svg.dataset[name] ? svg.dataset[name].split(" ").map(Number) : null);
  const [left, top, right, bottom] = numbers("box");
  const [x0, x1] = numbers("x");
  const width = svg.viewBox.baseVal.width;
  const lines = ["model", "baseline"].map((name) => {
    const path = svg.querySelector("." + name + " path");
    const values = path ? path.getAttribute("d").match(/-?[\d.]+(e-?\d+)?/g).map(Number) : [];
    const points = [];
    for (let i = 0; i + 1 < values.length; i += 2) points.push([values[i], values[i + 1]]);
    return { name, points, range: numbers(name) };
  });
  const digits = (v) => (Math.abs(v) < 10 ? v.toFixed(3) : v.toPrecision(4));

  // The height of a curve at x: points are sorted by x, so the two around it are found by bisection.
  const heightAt = (points, x) => {
    let low = 0;
    let high = points.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (points[middle][0] <= x) low = middle;
      else high = middle;
    }
    const [ax, ay] = points[low];
    const [bx, by] = points[high];
    const at = Math.min(bx, Math.max(ax, x));
    return bx > ax ? ay + ((at - ax) / (bx - ax)) * (by - ay) : by;
  };

  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const pointer = ((event.clientX - box.left) / box.width) * width;
    const x = Math.min(right, Math.max(left, pointer));
    const at = x0 + ((x - left) / (right - left)) * (x1 - x0);
    const words = [isRoc ? "FPR " + at.toFixed(3) : at.toFixed(1) + " s"];
    for (const { name, points, range } of lines) {
      if (!points.length || !range) continue;
      const share = (bottom - heightAt(points, x)) / (bottom - top);
      words.push(name + " " + digits(range[0] + share * (range[1] - range[0])));
    }
    readout.textContent = words.join(" · ");
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    cursor.style.opacity = 0.5;
  });
  svg.addEventListener("pointerleave", () => {
    readout.textContent = "";
    cursor.style.opacity = 0;
  });
}
