// Charts answer to the pointer: the drawing in the page is replaced by a live one when a reader first points at it.
// The library that draws is loaded then, from the site itself; where it is missing the drawing stays.
"use strict";
(() => {
  const root = document.body.dataset.root;
  let library = null;

  const load = () => library ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = `${root}static/vega.js`;
    script.onload = resolve;
    script.onerror = reject;
    document.head.append(script);
  });

  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.append(tip);

  // Show what is under the pointer; value is a text, or a table of names and texts.
  const tell = (handler, event, item, value) => {
    tip.hidden = value === null || value === undefined || value === "";
    if (tip.hidden) return;
    const lines = typeof value === "object" ? Object.entries(value) : [["", value]];
    tip.replaceChildren(...lines.map(([name, text]) => {
      const line = document.createElement("div");
      line.textContent = name ? `${name}: ${text}` : text;
      return line;
    }));
    const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.left = `${Math.max(8, Math.min(event.clientX + 14, room))}px`;
    tip.style.top = `${event.clientY + 14}px`;
  };

  const animate = async (figure) => {
    try {
      await load();
    } catch {
      return;
    }
    const spec = JSON.parse(figure.querySelector("script.spec").textContent);
    const drawn = figure.querySelector(".drawn");
    const still = drawn.firstElementChild;
    if (typeof spec.width === "number") {
      spec.width = still.getBoundingClientRect().width;
      spec.height = spec.width * still.viewBox.baseVal.height / still.viewBox.baseVal.width;
      spec.autosize = { type: "fit", contains: "padding" };
    }
    const live = document.createElement("div");
    live.className = "live";
    const options = { ast: true, actions: false, renderer: "svg", defaultStyle: false, tooltip: tell };
    await window.vegaEmbed(live, spec, options);
    const picture = live.querySelector("svg");
    picture.setAttribute("role", "img");
    picture.setAttribute("aria-labelledby", still.getAttribute("aria-labelledby"));
    picture.prepend(...[...still.children].filter((part) => ["title", "desc"].includes(part.tagName)));
    drawn.replaceChildren(live);
    figure.classList.add("lively");
  };

  for (const figure of document.querySelectorAll("figure.chart")) {
    if (!figure.querySelector("script.spec")) continue;
    const start = () => {
      figure.removeEventListener("pointerenter", start);
      figure.removeEventListener("focusin", start);
      animate(figure);
    };
    figure.addEventListener("pointerenter", start);
    figure.addEventListener("focusin", start);
  }
})();
