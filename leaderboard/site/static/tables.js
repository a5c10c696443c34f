// Tables of class "sortable" sort by any of their columns, by mouse and by keyboard, and say so.
"use strict";
(() => {
  const said = document.getElementById("said");
  const collator = new Intl.Collator("en", { numeric: true });

  // What a cell is sorted by: a number, a text, or null where it is missing.
  const keyOf = (cell) => {
    const text = cell === undefined ? "" : cell.dataset.value ?? cell.textContent.trim();
    if (text === "" || text === "–") return null;
    const number = Number(text.replace(/[,×%]/g, ""));
    return Number.isNaN(number) ? text : number;
  };

  const compare = (a, b, sign) => {
    if (a === null || b === null) return (a === null) - (b === null);  // what is missing stands last either way
    if (typeof a === "number" && typeof b === "number") return sign * (a - b);
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return sign * collator.compare(a, b);
  };

  const sort = (table, header, ascending) => {
    for (const other of table.tHead.querySelectorAll("th[aria-sort]")) other.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    for (const body of table.tBodies) {
      const rows = [...body.rows].filter((row) => row.cells.length > 1);
      const keyed = rows.map((row) => [keyOf(row.cells[header.cellIndex]), row]);
      keyed.sort((one, other) => compare(one[0], other[0], ascending ? 1 : -1));
      body.append(...keyed.map((pair) => pair[1]));
    }
    said.textContent = `Sorted by ${header.textContent.trim()}, ${header.getAttribute("aria-sort")}`;
  };

  const enable = (table) => {
    for (const header of table.tHead.rows[table.tHead.rows.length - 1].cells) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      header.append(button);
      header.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const now = header.getAttribute("aria-sort");
        sort(table, header, now === "none" ? !header.classList.contains("n") : now === "descending");
      });
    }
  };

  window.isoloss = Object.assign(window.isoloss ?? {}, { compare });
  document.querySelectorAll("table.sortable").forEach(enable);
})();
