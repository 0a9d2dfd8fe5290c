// Finds checks by a few letters of their names, their promises or their outcomes. Without it the page
// lacks nothing else.
addEventListener("DOMContentLoaded", () => {
  const table = document.querySelector("table.checks");
  if (!table) return;
  const rows = [...table.tBodies[0].rows].filter((row) => row.id);
  const box = document.createElement("input");
  const found = document.createElement("output");
  box.type = "search";
  box.placeholder = "Find checks: press /";
  box.setAttribute("aria-label", "Find checks");
  const find = () => {
    const words = box.value.toLowerCase().split(/\s+/);
    let count = 0;
    for (const row of rows) {
      const told = row.querySelector("summary").textContent + " " + row.className;
      row.hidden = !words.every((word) => told.toLowerCase().includes(word));
      count += !row.hidden;
    }
    found.value = box.value ? `${count} of ${rows.length}` : "";
  };
  const open = () => {
    const row = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const details = row && row.querySelector("details");
    if (details) details.open = true;
  };
  box.addEventListener("input", find);
  box.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      box.value = "";
      find();
      box.blur();
    } else if (event.key === "Enter") {
      const first = rows.find((row) => !row.hidden);
      if (first) location.hash = first.id;
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== box) {
      event.preventDefault();
      box.focus();
      box.scrollIntoView({ block: "center" });
    }
  });
  addEventListener("hashchange", open);
  const bar = document.createElement("p");
  bar.className = "find";
  bar.append(box, " ", found);
  table.parentElement.before(bar);
  open();
});
