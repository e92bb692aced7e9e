// Sorts a table by the column whose heading is clicked, and the other way round when clicked again.
// A cell's number is the first in it, so that "22.8 [20.3, 25.3]" sorts as 22.8; empty cells stay last.
"use strict";
function numberIn(text) {
  const found = text.match(/[-+\u2212]?\d+(\.\d+)?(e[-+]?\d+)?/i);
  return found ? parseFloat(found[0].replace("\u2212", "-")) : NaN;
}
function sortBy(heading) {
  const table = heading.closest("table"), body = table.tBodies[0], column = heading.cellIndex;
  const descending = heading.getAttribute("aria-sort") === "ascending";
  const lines = Array.from(body.rows, (row) => ({ row, text: row.cells[column].textContent.trim() }));
  const filled = lines.filter((line) => line.text), empty = lines.filter((line) => !line.text);
  const isNumber = filled.every((line) => /^[-+\u2212]?\d/.test(line.text));
  filled.sort((a, b) => isNumber ? numberIn(a.text) - numberIn(b.text) : a.text.localeCompare(b.text, "en", { numeric: true }));
  if (descending) filled.reverse();
  body.append(...filled.concat(empty).map((line) => line.row));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
}
for (const heading of document.querySelectorAll("table thead th")) {
  heading.tabIndex = 0;
  heading.title = "sort";
  heading.addEventListener("click", () => sortBy(heading));
  heading.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sortBy(heading); }
  });
}
// On paper, what can be folded is open.
window.addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
