// The matrix of pairs: a cell for each two images, or the strongest pair that falls into a pixel.
"use strict";

(() => {
  const decode = (text) =>
    new DataView(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);

  class PairMatrix {
    constructor(canvas) {
      const data = JSON.parse(document.getElementById(canvas.dataset.matrix).textContent);
      const raw = decode(data.pairs);
      Object.assign(this, { canvas, data, context: canvas.getContext("2d", { willReadFrequently: true }) });
      this.pairs = Array.from({ length: raw.byteLength / 6 }, (_, i) =>
        [0, 2, 4].map((offset) => raw.getUint16(6 * i + offset, true)),
      ).sort((a, b) => a[2] - b[2]);
      this.readout = canvas.closest("figure").querySelector("output");
      this.hint = this.readout.textContent;
      this.at = null;
      this.reorder("names");
    }

    /** Place rows in the order of names or of connection, and draw. */
    reorder(order) {
      const { names, order: connected } = this.data;
      this.rows = order === "names" ? names.map((_, row) => row) : connected;
      this.place = [];
      this.rows.forEach((row, place) => {
        this.place[row] = place;
      });
      this.cells = new Map();
      // The strongest are drawn last, so that they win where cells share a pixel.
      this.pairs.forEach(([a, b, inliers]) => {
        const [u, v] = [this.place[a], this.place[b]];
        this.cells.set(u * names.length + v, inliers);
        this.cells.set(v * names.length + u, inliers);
      });
      this.draw();
      this.select(null);
    }

    draw() {
      const { canvas, context, rows, data } = this;
      const count = rows.length;
      const shown = Math.round(canvas.clientWidth * Math.min(devicePixelRatio || 1, 2));
      if (!shown) return;
      // Whole pixels for each cell where they fit; else several cells share one.
      const size = count <= shown ? count * Math.floor(shown / count) : shown;
      if (canvas.width !== size) canvas.width = canvas.height = size;
      const style = getComputedStyle(canvas);
      const scale = size / count;
      const cell = Math.max(1, scale);
      const gap = cell >= 8 ? 1 : 0;
      const fill = (u, v) =>
        context.fillRect(Math.floor(u * scale), Math.floor(v * scale), cell - gap, cell - gap);
      context.clearRect(0, 0, size, size);
      context.fillStyle = style.getPropertyValue("--absent");
      rows.forEach((row, place) => {
        if (data.registered[row]) return;
        context.fillRect(0, Math.floor(place * scale), size, cell - gap);
        context.fillRect(Math.floor(place * scale), 0, cell - gap, size);
      });
      context.fillStyle = style.getPropertyValue("--rule");
      rows.forEach((_, place) => fill(place, place));
      this.cells.forEach((inliers, key) => {
        const level = data.steps.filter((step) => inliers >= step).length;
        context.fillStyle = style.getPropertyValue(`--m${Math.max(level, 1) - 1}`);
        fill(key % count, Math.floor(key / count));
      });
      this.scale = scale;
      this.unmarked = context.getImageData(0, 0, size, size);
      this.mark();
    }

    /** Draw a frame around the selected cell. */
    mark() {
      const { canvas, context, at, scale } = this;
      if (!this.unmarked) return;
      context.putImageData(this.unmarked, 0, 0);
      if (!at) return;
      const side = Math.max(1, scale) + 2;
      context.strokeStyle = getComputedStyle(canvas).color;
      context.lineWidth = 2;
      context.strokeRect(at[0] * scale - 1, at[1] * scale - 1, side, side);
    }

    /** Report a cell, or nothing, and draw. */
    select(at) {
      const { rows, data, readout } = this;
      this.at = at && at.map((value) => Math.min(Math.max(value, 0), rows.length - 1));
      readout.textContent = this.hint;
      if (this.at) {
        const [column, row] = this.at;
        const [a, b] = [rows[row], rows[column]].map((each) => this.title(each));
        const inliers = this.cells.get(row * rows.length + column) ?? 0;
        const missing = [...new Set([rows[row], rows[column]])].filter((r) => !data.registered[r]);
        const note = missing.length ? "; not in the model: " + missing.map((r) => data.names[r]).join(", ") : "";
        const single = row === column && data.shared === 1;
        const found = inliers ? `${inliers.toLocaleString("en")} inliers` : "no verified matches";
        readout.textContent = (single ? a : `${a} – ${b}: ${found}`) + note;
      }
      this.mark();
    }

    title(row) {
      const { names, shared } = this.data;
      return shared > 1 ? `${names[row]} and the ${shared - 1} after it` : names[row];
    }
  }

  function bind(matrix) {
    const { canvas } = matrix;
    const figure = canvas.closest("figure");
    const cellOf = (event) => {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top].map((offset) =>
        Math.floor((offset / box.width) * matrix.rows.length),
      );
    };
    canvas.addEventListener("pointermove", (event) => matrix.select(cellOf(event)));
    canvas.addEventListener("pointerdown", (event) => matrix.select(cellOf(event)));
    canvas.addEventListener("pointerleave", () => matrix.select(null));
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    canvas.addEventListener("keydown", (event) => {
      const step = steps[event.key];
      if (!step) return;
      event.preventDefault();
      const [u, v] = matrix.at ?? [-step[0], -step[1]];
      matrix.select([u + step[0], v + step[1]]);
    });
    figure.querySelectorAll("input[type=radio]").forEach((input) => {
      input.addEventListener("change", () => matrix.reorder(input.value));
      if (input.checked) matrix.reorder(input.value); // browsers remember it
    });
    new ResizeObserver(() => matrix.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => matrix.draw());
  }

  document.querySelectorAll("canvas[data-matrix]").forEach((canvas) => bind(new PairMatrix(canvas)));
})();
