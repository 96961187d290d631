"use strict";
(function () {
  const all = (selector, within) => Array.from((within || document).querySelectorAll(selector));
  const tip = document.getElementById("tip");
  const show = (circle) => {
    const box = circle.getBoundingClientRect();
    tip.textContent = circle.textContent;
    tip.hidden = false;
    const left = Math.min(box.left + 10, window.innerWidth - tip.offsetWidth - 8);
    tip.style.left = Math.max(4, left) + "px";
    tip.style.top = Math.max(4, box.top - tip.offsetHeight - 6) + "px";
  };
  const hide = () => { tip.hidden = true; };
  all(".curve").forEach((curve) => {
    const points = all("circle", curve);
    points.forEach((point, place) => {
      point.addEventListener("mouseenter", () => show(point));
      point.addEventListener("mouseleave", hide);
      point.addEventListener("focus", () => show(point));
      point.addEventListener("blur", hide);
      point.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        const next = step && points[place + step];
        if (next) { event.preventDefault(); next.focus(); }
        if (event.key === "Escape") hide();
      });
    });
  });
  const value = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.sort === undefined ? cell.textContent.trim() : cell.dataset.sort;
    const number = parseFloat(text);
    return text === "–" ? -Infinity : Number.isNaN(number) ? text : number;
  };
  const compare = (a, b) =>
    typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1;
  all("table.sortable").forEach((table) => {
    all("thead th", table).forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.textContent = "";
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "descending";
        all("thead th", table).forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "ascending" : "descending");
        const rows = all("tbody tr", table);
        rows.sort((a, b) => compare(value(a, column), value(b, column)) * (down ? 1 : -1));
        table.tBodies[0].append(...rows);
      });
    });
  });
  const csv = (text) => {
    const safe = /^[=+@\t'-]/.test(text) && !/^-?\d/.test(text) ? "'" + text : text;
    return /[",\n]/.test(safe) ? '"' + safe.replaceAll('"', '""') + '"' : safe;
  };
  const special = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}" };
  const latex = (text) => text.replace(/[\\~^&%$#_{}]/g, (sign) => special[sign] || "\\" + sign);
  const written = (table, as) => {
    const rows = all("tr", table).filter((row) => !row.hidden)
      .map((row) => Array.from(row.cells).map((cell) => cell.textContent.trim()));
    if (as === "csv") return rows.map((row) => row.map(csv).join(",")).join("\n") + "\n";
    const [heads, ...lines] = rows.map((row) => row.map(latex).join(" & ") + " \\\\");
    return ["\\begin{tabular}{" + "ll" + "r".repeat(rows[0].length - 2) + "}", "\\toprule", heads,
      "\\midrule", ...lines, "\\bottomrule", "\\end{tabular}", ""].join("\n");
  };
  all(".scores").forEach((part) => {
    const table = part.querySelector("table");
    const said = part.querySelector(".said");
    part.querySelector(".tools").hidden = false;
    part.querySelector(".filter").addEventListener("input", (event) => {
      const wanted = event.target.value.toLowerCase().split(/\s+/);
      const rows = all("tbody tr", table);
      rows.forEach((row) => {
        const text = row.textContent.toLowerCase();
        row.hidden = !wanted.every((word) => text.includes(word));
      });
      said.textContent = rows.filter((row) => !row.hidden).length + " of " + rows.length + " rows";
    });
    all(".copy", part).forEach((button) => button.addEventListener("click", () => {
      const text = written(table, button.dataset.as);
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      button.focus();
      part.dataset.copied = text;
      said.textContent = done ? "copied" : "your browser does not allow copying";
    }));
  });
})();
