// Sorting, columns, curves that can be read off, pictures, copying. Without it, the page is whole.
"use strict";

(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // ---- tables -------------------------------------------------------------------------------

  const collator = new Intl.Collator("en", { numeric: true });

  function sortBy(header) {
    const table = header.closest("table");
    const column = [...header.parentNode.children].indexOf(header);
    const numeric = header.classList.contains("number");
    // Numbers begin with the largest, words with A.
    const before = header.getAttribute("aria-sort");
    const first = numeric ? "descending" : "ascending";
    const second = numeric ? "ascending" : "descending";
    const order = before === first ? second : first;
    all("th[aria-sort]", table).forEach((other) => other.setAttribute("aria-sort", "none"));
    header.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => {
      const cell = row.cells[column];
      return { row, value: numeric ? Number(cell.dataset.value ?? NaN) : cell.textContent.trim() };
    });
    rows.sort((a, b) => {
      if (!numeric) return sign * collator.compare(a.value, b.value);
      // What was not measured is last in either order.
      if (Number.isNaN(a.value) || Number.isNaN(b.value)) {
        return Number.isNaN(a.value) - Number.isNaN(b.value);
      }
      return sign * (a.value - b.value);
    });
    rows.forEach(({ row }) => row.classList.remove("first")); // groups are mixed now
    body.append(...rows.map(({ row }) => row));
  }

  all(".sortable .sort").forEach((button) => {
    button.addEventListener("click", () => sortBy(button.closest("th")));
  });

  all(".all-columns input").forEach((box) => {
    const show = () => box.closest(".table").classList.toggle("shows-all", box.checked);
    box.addEventListener("change", show);
    show(); // browsers remember boxes when a page is loaded again
  });

  // ---- curves -------------------------------------------------------------------------------

  function bindChart(figure) {
    const x = JSON.parse(figure.dataset.x);
    const at = JSON.parse(figure.dataset.at);
    const svg = figure.querySelector("svg[role=img]");
    const cursor = svg.querySelector(".cursor");
    const output = figure.querySelector("output");
    const series = all(".series", svg);
    const rows = all(".readout tr", figure).map((row) => ({
      row,
      y: JSON.parse(row.dataset.y),
      line: series[Number(row.dataset.series)],
    }));
    const digits = Number(figure.dataset.digits);
    let index = Number(figure.dataset.start);

    function show(next) {
      index = Math.min(Math.max(next, 0), x.length - 1);
      cursor.setAttribute("x1", at[index]);
      cursor.setAttribute("x2", at[index]);
      output.textContent = Number(x[index].toPrecision(4));
      rows.forEach(({ row, y }) => {
        row.cells[1].textContent = y[index] === null ? "–" : y[index].toFixed(digits);
      });
    }

    function nearest(event) {
      const box = svg.getBoundingClientRect();
      const place = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
      let best = 0;
      at.forEach((candidate, i) => {
        if (Math.abs(candidate - place) < Math.abs(at[best] - place)) best = i;
      });
      return best;
    }

    svg.addEventListener("pointermove", (event) => show(nearest(event)));
    svg.addEventListener("pointerdown", (event) => show(nearest(event)));
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      show(index + step);
    });
    rows.forEach(({ row, line }) => {
      row.addEventListener("pointerenter", () => {
        svg.classList.add("picked");
        line.classList.add("pick");
      });
      row.addEventListener("pointerleave", () => {
        svg.classList.remove("picked");
        line.classList.remove("pick");
      });
    });
    show(index);
  }

  all(".chart").forEach(bindChart);

  // ---- pictures -----------------------------------------------------------------------------

  const lightbox = document.getElementById("lightbox");
  all(".enlarge").forEach((button) => {
    button.addEventListener("click", () => {
      const image = button.querySelector("img");
      const enlarged = lightbox.querySelector("img");
      enlarged.src = image.src;
      enlarged.alt = image.alt;
      lightbox.querySelector("p").textContent = image.alt;
      lightbox.showModal();
    });
  });
  lightbox.addEventListener("click", () => lightbox.close());

  // ---- commands -----------------------------------------------------------------------------

  async function copy(button) {
    const code = button.parentNode.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      // Not allowed here: select it, so that the keyboard can.
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    setTimeout(() => {
      button.textContent = "Copy";
    }, 1600);
  }

  all(".copy").forEach((button) => button.addEventListener("click", () => copy(button)));

  // ---- contents and paper -------------------------------------------------------------------

  const links = new Map(
    all(".contents a").map((link) => [document.querySelector(link.getAttribute("href")), link]),
  );
  const inView = new Set();
  const watcher = new IntersectionObserver(
    (entries) => {
      entries.forEach(({ target, isIntersecting }) => {
        inView[isIntersecting ? "add" : "delete"](target);
      });
      const current = [...links.keys()].find((section) => inView.has(section));
      links.forEach((link, section) => {
        if (section === current) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      });
    },
    { rootMargin: "-60px 0px -60% 0px" },
  );
  links.forEach((_, section) => watcher.observe(section));

  addEventListener("beforeprint", () => {
    all("details").forEach((details) => {
      details.open = true;
    });
  });
})();
