// A table as text that others read: CSV, JSON, LaTeX, BibTeX. Pure functions of columns, rows and the board's facts.
"use strict";
(() => {
  // A bare figure in full precision; what says more (a bound, a tie letter, an interval) as it is shown. Missing is empty.
  const BARE = /^[+−-]?[\d.,]+[×%kMB]?$/;
  const valueOf = ({ value, text }) =>
    (value === null && !/\d/.test(text) ? null : typeof value === "number" && BARE.test(text) ? value : text);

  // Why a row is not ranked, or on what it rests: the tags behind its name.
  const tagsOf = (columns, row) => row.flatMap((cell, i) => (columns[i].kind === "name" ? cell.more.slice(1) : []));

  // A text that a spreadsheet might take for a formula is led by an apostrophe.
  const quoted = (value) => {
    let text = value === null ? "" : String(value);
    if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };

  const line = (cells) => cells.map(quoted).join(",");

  // Each row says what it is of, so that rows of several views can stand in one file.
  const csv = (facts, columns, rows) => {
    const { task, mode, track, budget, reference } = facts;
    const head = ["task", "mode", "track", "reference", "budget", ...columns.map((column) => column.key), "tags"];
    const lines = rows.map((row) =>
      line([task, mode, track, reference, budget, ...row.map(valueOf), tagsOf(columns, row).join("; ")]));
    return [line(head), ...lines].join("\n") + "\n";
  };

  const json = (facts, columns, rows) => {
    const { task, mode, track, budget, heading, reference, digest } = facts;
    const named = rows.map((row) => ({
      ...Object.fromEntries(columns.map((column, i) => [column.key, valueOf(row[i])])), tags: tagsOf(columns, row),
    }));
    return JSON.stringify({ task, mode, track, budget, heading, reference, digest, rows: named }, null, 1) + "\n";
  };

  const signs = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "×": "$\\times$",
    "≥": "$\\geq$", "≤": "$\\leq$", "−": "$-$", "–": "--", "✓": "\\checkmark{}", "✗": "$\\times$", "<": "$<$", ">": "$>$" };
  const escaped = (text) =>
    text.replace(/[\\~^×≥≤−–✓✗<>]|[&%$#_{}]/g, (sign) => signs[sign] ?? `\\${sign}`);

  const tex = (facts, columns, rows) => [
    `% ${facts.task}, mode ${facts.mode}, track ${facts.track}, ${facts.budget}; board ${facts.digest}`,
    `\\begin{tabular}{${columns.map((column) => (column.kind === "number" ? "r" : "l")).join("")}}`,
    "\\toprule",
    `${columns.map((column) => escaped(column.title)).join(" & ")} \\\\`,
    "\\midrule",
    ...rows.map((row) => `${row.map((cell) => escaped(cell.text)).join(" & ")} \\\\`),
    "\\bottomrule",
    "\\end{tabular}",
  ].join("\n") + "\n";

  const bibtex = (facts, view) => [
    `@misc{isoloss-${facts.task}-${facts.mode}-${facts.track}-${facts.digest.slice(0, 8)},`,
    `  title = {{Isoloss}: ${escaped(facts.task)}, mode ${escaped(facts.mode)}, track ${facts.track}, ${facts.budget}},`,
    ...(facts.date ? [`  year = {${facts.date.slice(0, 4)}},`, `  month = {${Number(facts.date.slice(5, 7))}},`] : []),
    `  note = {board ${facts.digest}, its newest record of ${facts.date || "no date"}; view ${escaped(view)}},`,
    "}",
  ].join("\n");

  window.isoloss = Object.assign(window.isoloss ?? {}, { written: { csv, json, tex }, bibtex });
})();
