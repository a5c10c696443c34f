// The compare page: two lists to pick from; the tables show the pair, and the address keeps it.
"use strict";
(() => {
  const source = document.getElementById("pairs");
  if (!source) return;
  const { budgets, sides, tests, untested } = JSON.parse(source.textContent);
  const [one, other] = ["one", "other"].map((id) => document.getElementById(id));
  const missing = "–";

  const signed = (nats) => {
    const text = Math.abs(nats).toFixed(4);
    return Number(text) === 0 ? text : (nats < 0 ? "−" : "+") + text;
  };
  const probability = (p) => (p < 0.001 ? "< 0.001" : p.toFixed(3));

  // A row of a table: a heading, then cells as [text, class].
  const row = (heading, cells) => {
    const line = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = heading;
    line.append(head, ...cells.map(([text, kind]) => {
      const cell = document.createElement("td");
      cell.textContent = text;
      if (kind) cell.className = kind;
      return cell;
    }));
    return line;
  };

  const fill = (id, rows) => {
    const table = document.getElementById(id);
    if (table.classList.contains("cards")) {  // on a phone each cell is headed by its column
      const heads = [...table.tHead.rows[0].cells];
      for (const line of rows) [...line.cells].slice(1).forEach((cell, i) => (cell.dataset.label = heads[i + 1].textContent));
    }
    table.tBodies[0].replaceChildren(...rows);
  };

  const testRow = (budget, at, i, j) => {
    const found = at.find(([a, b]) => a === Math.min(i, j) && b === Math.max(i, j));
    if (!found) {
      const why = i === j ? "an entry against itself" : untested ?? "not ranked at this budget";
      return row(budget, [[missing, "n figure"], [missing], [missing, "n"], [missing, "n"], [`no test: ${why}`, "wrap"]]);
    }
    const [, , difference, margin, p, all, level] = found;
    const share = level ? ` (${Number((100 * (1 - level)).toPrecision(6))}%)` : "";  // other than 95%
    const gap = i < j ? difference : -difference;
    const lower = sides[gap < 0 ? i : j][0];
    const verdict = all < 0.05 ? `told apart: ${lower} ends lower` : "not told apart";
    return row(budget, [
      [signed(gap), "n figure"], [`${signed(gap - margin)} to ${signed(gap + margin)}${share}`],
      [probability(p), "n"], [probability(all), "n"], [verdict, "wrap"],
    ]);
  };

  const seedRows = (budget, ours, theirs) => {
    const [left, right] = [new Map(ours), new Map(theirs)];
    return [...new Set([...left.keys(), ...right.keys()])].sort((a, b) => a - b).map((seed) => {
      const [a, b] = [left.get(seed), right.get(seed)];
      const text = (loss) => (loss === undefined ? missing : loss.toFixed(4));
      const gap = a === undefined || b === undefined ? missing : signed(a - b);
      return row(budget, [[String(seed), "n"], [text(a), "n"], [text(b), "n"], [gap, "n"]]);
    });
  };

  const show = () => {
    const pair = [one.selectedIndex, other.selectedIndex];
    const [a, b] = pair.map((place) => sides[place]);
    for (const mark of document.querySelectorAll("[data-side]")) {
      const name = (mark.dataset.side === "0" ? a : b)[0];
      mark.textContent = name;
      if (mark.href) mark.href = `${source.dataset.root}entries/${encodeURIComponent(name)}.html`;
    }
    fill("tests", budgets.map((budget, place) => testRow(budget, tests[place], ...pair)));
    const quantities = [...document.querySelectorAll("#sides tbody th")].map((head) => head.textContent);
    fill("sides", quantities.map((name, place) => row(name, [[a[2][place]], [b[2][place]]])));
    fill("seeds", budgets.flatMap((budget, place) => seedRows(budget, a[3][place], b[3][place])));
    document.title = `${a[0]} against ${b[0]} · Isoloss`;
  };

  const write = () => history.replaceState(null, "", `#${[one.value, other.value].map(encodeURIComponent).join("/")}`);

  const keep = () => {
    write();
    show();
    document.getElementById("said").textContent = `${one.value} against ${other.value}`;
  };

  // The address names the pair: #muon/adamw. What it does not name stays as it is.
  const read = () => {
    const names = location.hash.slice(1).split("/").map((name) => {
      try {
        return decodeURIComponent(name);
      } catch {
        return "";
      }
    });
    [one, other].forEach((list, place) => {
      const found = sides.findIndex(([name]) => name === names[place]);
      if (found >= 0) list.selectedIndex = found;
    });
    show();
  };

  for (const list of [one, other]) list.addEventListener("change", keep);
  document.getElementById("turn").addEventListener("click", () => {
    [one.selectedIndex, other.selectedIndex] = [other.selectedIndex, one.selectedIndex];
    keep();
  });
  // A link to a place in the page names no pair: the address gets it back.
  window.addEventListener("hashchange", () => (document.getElementById(location.hash.slice(1)) ? write() : read()));
  document.getElementById("pick").hidden = false;
  if (location.hash) read();
})();
