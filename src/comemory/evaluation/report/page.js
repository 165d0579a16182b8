// Moving over a chart says the values under the pointer; everything else works without this.
"use strict";
for (const plot of document.querySelectorAll(".plot")) {
  const svg = plot.querySelector("svg");
  const cursor = svg.querySelector(".cursor");
  const readout = plot.closest("figure").querySelector(".readout");
  const isRoc = plot.parentElement.classList.contains("roc");
  const height = isRoc ? 1000 : 100;
  const span = (name) => (plot.dataset[name] ? plot.dataset[name].split(" ").map(Number) : null);
  const lines = ["model", "control"].map((name) => {
    const line = svg.querySelector("polyline." + name);
    const points = line ? line.getAttribute("points").split(" ").map((p) => p.split(",").map(Number)) : [];
    return { name, points, span: span(name) };
  });
  const [x0, x1] = span("x");
  const digits = (v) => (Math.abs(v) < 10 ? v.toFixed(3) : v.toPrecision(4));

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
    return bx > ax ? ay + ((x - ax) / (bx - ax)) * (by - ay) : by;
  };

  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    const x = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * 1000;
    const at = x0 + (x / 1000) * (x1 - x0);
    const words = [isRoc ? "FPR " + at.toFixed(3) : at.toFixed(1) + " s"];
    for (const { name, points, span: range } of lines) {
      if (!points.length || !range) continue;
      const value = range[0] + (1 - heightAt(points, x) / height) * (range[1] - range[0]);
      words.push(name + " " + digits(value));
    }
    readout.textContent = words.join(" · ");
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    cursor.style.opacity = 0.5;
  });
  plot.addEventListener("pointerleave", () => {
    readout.textContent = "";
    cursor.style.opacity = 0;
  });
}
