// Filters of tables; what is chosen is in the address, so that a view can be sent to others.
"use strict";

(() => {
  function bind(form) {
    const table = document.getElementById(form.dataset.table);
    const rows = [...table.tBodies[0].rows];
    const fields = [...form.elements].filter((field) => field.name);
    const output = form.querySelector("output");

    // A row has what a field asks for: words of its text, at most a number, or the same choice.
    function fits(row, { name, value }) {
      if (!value) return true;
      if (name === "text") {
        return value.toLowerCase().split(/\s+/).every((word) => row.dataset.text.includes(word));
      }
      if (name === "keypoints") {
        return row.dataset.keypoints !== "" && Number(row.dataset.keypoints) <= Number(value);
      }
      return row.dataset[name] === value;
    }

    function apply() {
      let shown = 0;
      rows.forEach((row) => {
        row.hidden = !fields.every((field) => fits(row, field));
        if (!row.hidden) shown += 1;
      });
      output.textContent = `${shown} of ${rows.length} rows`;
    }

    function remember() {
      const chosen = fields.filter((field) => field.value).map(({ name, value }) => [name, value]);
      history.replaceState(null, "", `#${new URLSearchParams(chosen)}`);
    }

    function update() {
      apply();
      remember();
    }

    const asked = new URLSearchParams(location.hash.slice(1));
    fields.forEach((field) => {
      if (asked.has(field.name)) field.value = asked.get(field.name);
      field.addEventListener("input", update);
      field.addEventListener("change", update);
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(update)); // the fields are reset after this
    form.hidden = false;
    apply();
  }

  document.querySelectorAll("form.filters").forEach(bind);
})();
