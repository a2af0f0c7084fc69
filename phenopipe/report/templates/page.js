(() => {
  const { names, arms, near } = JSON.parse(document.getElementById("neighbours").textContent);
  const box = document.getElementById("search");
  const status = document.getElementById("search-status");
  const strongest = document.getElementById("strongest");
  const found = document.getElementById("found");
  const MOST = 5;

  const matches = (text) => {
    const wanted = text.toLowerCase();
    const lower = names.map((name) => name.toLowerCase());
    const exact = lower.indexOf(wanted);
    if (exact >= 0) return [exact];
    const at = (test) => names.map((_, i) => i).filter((i) => near[i].length && test(lower[i]));
    const first = at((name) => name.startsWith(wanted));
    return first.concat(at((name) => name.includes(wanted) && !name.startsWith(wanted)));
  };

  const addRow = (body, cells) => {
    const row = body.insertRow();
    cells.forEach(([text, kind]) => {
      const cell = row.insertCell();
      cell.textContent = text;
      if (kind) cell.className = kind;
    });
    return row;
  };

  const show = () => {
    const text = box.value.trim();
    strongest.hidden = text !== "";
    found.hidden = text === "";
    const body = found.tBodies[0];
    body.replaceChildren();
    if (!text) { status.textContent = ""; return; }
    const all = matches(text);
    all.slice(0, MOST).forEach((i) => near[i].forEach(([j, cosine, fdr], rank) => {
      const row = addRow(body, [[names[i], "name"], [arms[i]], [rank + 1, "n"], [names[j], "name"],
        [arms[j]], [cosine, "n"], [fdr, "n"]]);
      if (arms[i] && arms[i] === arms[j]) {
        const tag = document.createElement("span");
        tag.className = "tag";
        tag.textContent = "same arm";
        row.cells[4].append(" ", tag);
      }
    }));
    const shown = all.slice(0, MOST).map((i) => names[i]).join(", ");
    const more = all.length > MOST ? ` and ${all.length - MOST} more: type on to narrow` : "";
    status.textContent = all.length ? `Neighbours of ${shown}${more}` : `No perturbation is named like “${text}”.`;
    found.hidden = !all.length;
  };

  document.getElementById("search-form").hidden = false;
  document.getElementById("search-form").addEventListener("submit", (event) => event.preventDefault());
  box.addEventListener("input", show);
  show();
})();
