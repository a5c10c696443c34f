// The Board: choose a view, sort, filter, choose columns, take it along. The address after # holds the view.
"use strict";
(() => {
  const section = document.getElementById("board");
  if (!section) return;
  const STEP = 60;  // rows added at a time, so that a page of thousands stays quick
  const root = document.body.dataset.root;
  const sheets = JSON.parse(document.getElementById("sheets").textContent);
  const form = section.querySelector("form");
  const table = section.querySelector("table");
  const region = section.querySelector(".scroll");
  const failed = section.querySelector(".failed");
  const said = document.getElementById("said");
  const known = new Map();  // facts of a board, by its file
  let facts = null;
  let drawn = "";  // the columns that the head was made for
  let shown = STEP;

  const read = () => new URLSearchParams(location.hash.slice(1));
  const view = {};

  // Take the view from the address; what it does not say, or says wrongly, is as at first.
  const parse = () => {
    const asked = read();
    const fits = (sheet, keys) => keys.every((key) => !asked.has(key) || sheet[key] === asked.get(key));
    const sheet = sheets.find((one) => fits(one, ["task", "mode", "track"]))
      ?? sheets.find((one) => fits(one, ["task", "mode"])) ?? sheets.find((one) => fits(one, ["task"])) ?? sheets[0];
    view.sheet = sheet;
    view.budget = sheet.budgets.includes(asked.get("budget")) ? asked.get("budget") : sheet.headline;
    view.filter = asked.get("filter") ?? "";
    view.sort = asked.get("sort") ?? "";
    view.columns = asked.has("columns") ? asked.get("columns").split(",") : null;
  };

  const write = () => {
    const asked = new URLSearchParams();
    if (view.sheet !== sheets[0]) for (const key of ["task", "mode", "track"]) asked.set(key, view.sheet[key]);
    if (view.budget !== view.sheet.headline) asked.set("budget", view.budget);
    if (view.filter) asked.set("filter", view.filter);
    if (view.sort) asked.set("sort", view.sort);
    if (view.columns) asked.set("columns", view.columns.join(","));
    const hash = asked.toString().replaceAll("%2C", ",");
    history.replaceState(null, "", hash ? `#${hash}` : location.href.replace(/#.*/, ""));
  };

  const element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };

  const unpack = ([text, value = null, more = null]) => ({ text, value, more });

  const draw = ([low, high, figure, one, left, right], words) => {
    const svg = (tag, attributes) => {
      const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
      return made;
    };
    const bar = svg("svg", { class: "bar", viewBox: "0 0 150 16", role: "img", "aria-label": `interval ${words}` });
    const arrows = (left ? "M5 4L1 8L5 12" : "") + (right ? "M145 4L149 8L145 12" : "");
    bar.append(svg("path", { class: "one", d: `M${one} 0V16` }), svg("path", { d: `M${low} 8H${high}${arrows}` }));
    if (figure !== null) bar.append(svg("circle", { cx: figure, cy: 8, r: 3 }));
    return bar;
  };

  const cellOf = (column, cell) => {
    if (column.kind === "name") {
      const [href, ...tags] = cell.more;
      const name = element("th", { scope: "row" }, element("a", { href: root + href }, cell.text));
      for (const tag of tags) name.append(" ", element("span", { className: "tag" }, tag));
      return name;
    }
    const kinds = { number: "n", interval: "interval" };
    const made = element("td", { className: kinds[column.kind] ?? "" });
    if (cell.value === null) made.classList.add("none");
    if (column.key === "speedup") made.classList.add("figure");
    made.dataset.label = column.title;
    if (column.kind === "interval" && cell.more) made.append(draw(cell.more, cell.text));
    made.append(element("span", {}, cell.text));
    return made;
  };

  // The columns of the view; at first, those that have something at this budget.
  const chosen = () => {
    const { rows: lines } = facts.budgets.find((one) => one.name === view.budget) ?? facts.budgets[0];
    const filled = (place) => lines.some((line) => line[place].value !== null);
    return facts.columns.map((column, place) => ({ ...column, place })).filter((column) =>
      ["rank", "entry"].includes(column.key)
      || (view.columns ? view.columns.includes(column.key) : column.shown && filled(column.place)));
  };

  // The rows of the view: filtered by words that all must occur, sorted, what is missing last.
  const rows = () => {
    const words = view.filter.toLowerCase().split(/\s+/).filter(Boolean);
    const budget = facts.budgets.find((one) => one.name === view.budget) ?? facts.budgets[0];
    const tags = (place, { more }) => (facts.columns[place].kind === "name" && more ? more.slice(1) : []);  // a link leads
    const texts = (row) => row.flatMap((cell, place) => [cell.text, ...tags(place, cell)]).join(" ").toLowerCase();
    let found = budget.rows.filter((row) => words.every((word) => texts(row).includes(word)));
    const key = view.sort.replace(/^-/, "");
    const place = facts.columns.findIndex((column) => column.key === key);
    if (place >= 0) {
      const sign = view.sort.startsWith("-") ? -1 : 1;
      found = [...found].sort((a, b) => window.isoloss.compare(a[place].value, b[place].value, sign));
    }
    return { budget, found };
  };

  const sortBy = (column) => {
    const first = column.kind === "number" && column.key !== "rank" ? "-" : "";
    const other = first ? "" : "-";
    view.sort = view.sort === first + column.key ? other + column.key : first + column.key;
    render();
    said.textContent = `Sorted by ${column.title}, ${view.sort.startsWith("-") ? "descending" : "ascending"}`;
  };

  const renderHead = (columns) => {
    const keys = columns.map((column) => column.key).join() + view.sheet.file;
    if (drawn !== keys) {
      drawn = keys;
      table.tHead.replaceChildren(element("tr", {}, ...columns.map((column) => {
        const button = element("button", { type: "button", title: column.says }, column.title);
        button.addEventListener("click", () => sortBy(column));
        return element("th", { scope: "col", className: column.kind === "number" ? "n" : "" }, button);
      })));
    }
    columns.forEach((column, i) => {
      const sorted = view.sort.replace(/^-/, "") === column.key;
      table.tHead.rows[0].cells[i].setAttribute("aria-sort",
        sorted ? (view.sort.startsWith("-") ? "descending" : "ascending") : "none");
    });
  };

  const render = () => {
    write();
    const columns = chosen();
    const { budget, found } = rows();
    renderHead(columns);
    const caption = element("span", {}, element("strong", {}, facts.task),
      `, mode ${facts.mode}, ${facts.track}, ${budget.heading}. The reference is ${facts.reference}, 1.00× by definition.`);
    table.caption.replaceChildren(caption);
    const lines = found.slice(0, shown).map((row) =>
      element("tr", {}, ...columns.map((column) => cellOf(column, row[column.place]))));
    const none = element("tr", {}, element("td", { colSpan: columns.length },
      budget.rows.length ? "No entry fits the filter." : "No entry beside the reference has runs here yet."));
    table.tBodies[0].replaceChildren(...(lines.length ? lines : [none]));
    renderMore(found.length, budget.rows.length);
    const cited = { ...facts, budget: budget.name };
    section.querySelector(".cite code").textContent = window.isoloss.bibtex(cited, location.hash || "#");
    section.querySelector(".notes").replaceChildren(
      ...facts.notes.map((note) => element("p", { className: "note" }, `Note: ${note}.`)));
    section.querySelector(".size").textContent = `${facts.about}.`;
    section.querySelector(".departs").replaceChildren(
      ...facts.departs.map((departure) => element("p", { className: "note" }, `${departure}.`)));
  };

  // The button stays the same one, so that it keeps the focus; where it goes, the first new row has it.
  const more = section.querySelector(".more");
  const further = element("button", { type: "button", className: "press", hidden: true }, "Show more");
  more.append(" ", further);
  further.addEventListener("click", () => {
    const first = shown;
    shown += STEP;
    render();
    said.textContent = more.querySelector("span").textContent;
    if (further.hidden) table.tBodies[0].rows[first]?.querySelector("a").focus();
  });

  const renderMore = (found, all) => {
    const some = Math.min(shown, found);
    more.hidden = some === all;
    more.querySelector("span").textContent = `${some} of ${found} entries are shown`
      + (found < all ? `, ${all} without the filter.` : ".");
    further.hidden = some === found;
  };

  const options = (name, values, value) => form.elements[name].replaceChildren(
    ...values.map((one) => element("option", { value: one, selected: one === value }, one)));

  const renderControls = () => {
    const { sheet } = view;
    const unique = (key, keep) => [...new Set(sheets.filter(keep).map((one) => one[key]))];
    options("task", unique("task", () => true), sheet.task);
    options("mode", unique("mode", (one) => one.task === sheet.task), sheet.mode);
    options("track", unique("track", (one) => one.task === sheet.task && one.mode === sheet.mode), sheet.track);
    options("budget", sheet.budgets, view.budget);
    form.elements.filter.value = view.filter;
    const boxes = facts.columns.filter((column) => !["rank", "entry"].includes(column.key)).map((column) => {
      const box = element("input", { type: "checkbox", name: column.key,
        checked: view.columns ? view.columns.includes(column.key) : column.shown });
      return element("label", { title: column.says }, box, ` ${column.title}`);
    });
    const legend = section.querySelector(".choose legend");
    section.querySelector(".choose fieldset").replaceChildren(legend, ...boxes);
  };

  // A board's file calls this: a page opened from a disk may run a script, and may not fetch data.
  const show = (told) => {
    known.set(told.file, {
      ...told,
      columns: told.columns.map(([key, title, kind, says, on]) => ({ key, title, kind, says, shown: on === 1 })),
      budgets: told.budgets.map(([name, heading, lines]) =>
        ({ name, heading, rows: lines.map((row) => row.map(unpack)) })),
    });
  };

  const open = () => {
    const { file } = view.sheet;
    const ready = () => {
      if (view.sheet.file !== file || !known.has(file)) return;
      facts = known.get(file);
      renderControls();
      render();
      form.hidden = false;
      section.querySelector(".take").hidden = false;
      section.querySelector(".still").hidden = true;
      failed.hidden = true;
      region.removeAttribute("aria-busy");
    };
    // What is shown stays, and the controls go back to it.
    const missing = () => {
      if (view.sheet.file !== file) return;
      const { task, mode, track } = view.sheet;
      failed.textContent = `The figures of ${task}, mode ${mode}, track ${track} could not be loaded.`;
      failed.hidden = false;
      region.removeAttribute("aria-busy");
      if (!facts) return;
      view.sheet = sheets.find((one) => one.file === facts.file);
      if (!view.sheet.budgets.includes(view.budget)) view.budget = view.sheet.headline;
      renderControls();
      render();
    };
    if (known.has(file)) return ready();
    region.setAttribute("aria-busy", "true");
    const script = element("script", { src: root + file });
    script.addEventListener("load", ready);
    script.addEventListener("error", missing);
    document.head.append(script);
    return undefined;
  };

  const take = (as) => {
    if (as === "reset") {
      history.replaceState(null, "", location.href.replace(/#.*/, ""));
      parse();
      return open();
    }
    const columns = chosen();
    const { budget, found } = rows();
    const lines = found.map((row) => columns.map((column) => row[column.place]));
    const text = window.isoloss.written[as]({ ...facts, budget: budget.name, heading: budget.heading }, columns, lines);
    const { task, mode, track } = facts;
    const href = URL.createObjectURL(new Blob([text], { type: "text/plain;charset=utf-8" }));
    element("a", { href, download: `isoloss-${task}-${mode}-${track}-${budget.name}.${as}` }).click();
    setTimeout(() => URL.revokeObjectURL(href), 1000);
    said.textContent = `${lines.length} rows written`;
    return undefined;
  };

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => {
    shown = STEP;
    const { name, value } = event.target;
    if (name === "filter" || name === "budget") {
      view[name] = value;
      return render();
    }
    const wanted = { task: view.sheet.task, mode: view.sheet.mode, track: view.sheet.track, [name]: value };
    const keys = { task: ["task"], mode: ["task", "mode"], track: ["task", "mode", "track"] }[name];
    view.sheet = sheets.find((one) => ["task", "mode", "track"].every((key) => one[key] === wanted[key]))
      ?? sheets.find((one) => keys.every((key) => one[key] === wanted[key]));
    if (!view.sheet.budgets.includes(view.budget)) view.budget = view.sheet.headline;
    return open();
  });
  section.querySelector(".choose").addEventListener("change", () => {
    const boxes = [...section.querySelectorAll(".choose input")];
    const now = boxes.filter((box) => box.checked).map((box) => box.name);
    const first = facts.columns.filter((column) => column.shown && !["rank", "entry"].includes(column.key)).map((column) => column.key);
    view.columns = now.join() === first.join() ? null : now;
    render();
  });
  for (const button of section.querySelectorAll("[data-as]")) {
    button.addEventListener("click", () => take(button.dataset.as));
  }
  // A link to a place in the page, such as the one that skips to the content, is no view: the address gets it back.
  window.addEventListener("hashchange", () => {
    if (document.getElementById(location.hash.slice(1))) return write();
    parse();
    return open();
  });

  window.isoloss = Object.assign(window.isoloss ?? {}, { show });
  parse();
  open();
})();
