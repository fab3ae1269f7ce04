"use strict";
// Shows a chart's values under the pointer, the finger or, with the arrow keys, the cursor. They were written into the
// chart's data-values when it was drawn: {x: [[place, label]], series: [{name, y: [[place, label] | null]}]}.
const tip = document.getElementById("tip");
const names = { svg: "http://www.w3.org/2000/svg" };

function nearest(places, x) {
  let best = 0;
  for (let i = 1; i < places.length; i++) {
    if (Math.abs(places[i][0] - x) < Math.abs(places[best][0] - x)) best = i;
  }
  return best;
}

// The index of the value of a series that is next to one where it may have none.
function present(values, from, xs) {
  let best = -1;
  for (let i = 0; i < values.length; i++) {
    const closer = best < 0 || Math.abs(xs[i][0] - xs[from][0]) < Math.abs(xs[best][0] - xs[from][0]);
    if (values[i] && closer) best = i;
  }
  return best;
}

function entry(index, text, value) {
  const row = document.createElement("div");
  const key = row.appendChild(document.createElement("i"));
  key.className = "c" + (index % 8);
  row.append(text + ": " + value);
  return row;
}

function place(chart, x, y) {
  const box = chart.getBoundingClientRect();
  const gap = 14;
  let left = x + gap;
  if (left + tip.offsetWidth > document.documentElement.clientWidth - 4) left = x - gap - tip.offsetWidth;
  const top = Math.min(Math.max(y - tip.offsetHeight / 2, box.top), box.bottom - tip.offsetHeight);
  tip.style.transform = "translate(" + Math.max(left, 4) + "px," + Math.max(top, 4) + "px)";
}

function watch(chart) {
  const data = JSON.parse(chart.dataset.values);
  const cursor = chart.querySelector(".cursor");
  const dots = chart.querySelector(".dots");
  const hover = chart.querySelector(".hover");
  let at = 0;
  if (!data.x.length) return;

  function show(index, clientY) {
    at = index;
    const x = data.x[index][0];
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    const head = document.createElement("b");
    head.textContent = data.x[index][1];
    tip.replaceChildren(head);
    dots.replaceChildren();
    data.series.forEach((series, number) => {
      const one = present(series.y, index, data.x);
      if (one < 0) return;
      const dot = document.createElementNS(names.svg, "circle");
      dot.setAttribute("class", "c" + (number % 8));
      dot.setAttribute("cx", data.x[one][0]);
      dot.setAttribute("cy", series.y[one][0]);
      dot.setAttribute("r", "4");
      dots.append(dot);
      tip.append(entry(number, series.name, series.y[one][1]));
    });
    tip.hidden = false;
    chart.classList.add("active");
    const scale = chart.getScreenCTM();
    place(chart, x * scale.a + scale.e, clientY);
  }

  function hide() {
    chart.classList.remove("active");
    dots.replaceChildren();
    tip.hidden = true;
  }

  function follow(event) {
    const scale = chart.getScreenCTM();
    show(nearest(data.x, (event.clientX - scale.e) / scale.a), event.clientY);
  }

  function middle() {
    const box = chart.getBoundingClientRect();
    return (box.top + box.bottom) / 2;
  }

  hover.addEventListener("pointermove", follow);
  hover.addEventListener("pointerdown", follow);
  hover.addEventListener("pointerleave", hide);
  chart.addEventListener("blur", hide);
  chart.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -data.x.length, End: data.x.length }[event.key];
    if (event.key === "Escape") hide();
    if (step === undefined) return;
    event.preventDefault();
    show(Math.min(Math.max(at + step, 0), data.x.length - 1), middle());
  });
}

document.querySelectorAll("svg[data-values]").forEach(watch);
