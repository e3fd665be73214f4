"use strict";
// Shows what a chart says under the pointer; without it the page loses nothing else.
const hover = document.getElementById("hover");
for (const svg of document.querySelectorAll("svg[data-hover]")) {
  const data = JSON.parse(svg.dataset.hover);
  const cursor = svg.querySelector(".cursor");
  if (data.at.length === 0) continue;
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * data.width;
    let nearest = 0;
    data.at.forEach((at, index) => {
      if (Math.abs(at - x) < Math.abs(data.at[nearest] - x)) nearest = index;
    });
    cursor.setAttribute("x1", data.at[nearest]);
    cursor.setAttribute("x2", data.at[nearest]);
    cursor.setAttribute("visibility", "visible");
    const numbers = data.names.map((name, line) => [name, data.values[line][nearest]]);
    hover.textContent = [
      `step ${data.step[nearest]}`,
      ...numbers.filter(([, value]) => value !== "").map(([name, value]) => `${name} ${value}`),
    ].join("  ·  ");
    hover.hidden = false;
    const left = window.scrollX + box.left + (data.at[nearest] / data.width) * box.width + 12;
    const last = window.scrollX + document.documentElement.clientWidth - hover.offsetWidth - 8;
    hover.style.left = `${Math.max(8, Math.min(left, last))}px`;
    hover.style.top = `${window.scrollY + event.clientY - 40}px`;
  });
  svg.addEventListener("pointerleave", () => {
    hover.hidden = true;
    cursor.setAttribute("visibility", "hidden");
  });
}
