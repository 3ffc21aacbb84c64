// Cameras and points of COLMAP models. Points are drawn into the pixels of a canvas with a depth
// buffer, which every browser can, however many models a page has.
"use strict";

(() => {
  const START = { yaw: 0.45, pitch: -0.28, distance: 1.75, x: 0, y: 0 };
  const FILLED = 0.92; // of the canvas, by most of the points and all cameras
  const SAMPLE = 800; // points by which the first view is chosen
  const FOCAL = 1.35; // of half the canvas's shorter side
  const NEAR = 0.05;
  const groups = new Map();

  function decode(text) {
    const binary = atob(text);
    return Uint8Array.from(binary, (letter) => letter.charCodeAt(0)).buffer;
  }

  class ModelView {
    constructor(canvas) {
      const model = JSON.parse(document.getElementById(canvas.dataset.model).textContent);
      const quantised = new DataView(decode(model.points));
      this.canvas = canvas;
      this.context = canvas.getContext("2d");
      this.points = Float32Array.from(
        { length: quantised.byteLength / 2 },
        (_, i) => (quantised.getInt16(2 * i, true) / 32767) * model.reach,
      );
      this.colours = new Uint8Array(decode(model.colours));
      this.isGrey = this.colours.every((value) => value === 0);
      const size = frustumSize(model.cameras);
      this.frusta = model.cameras.map((camera) => frustum(camera, size));
      this.queries = model.queries.map((camera) => frustum(camera, size));
      this.start = fittingPose(this.points, [...this.frusta, ...this.queries], canvas);
      this.pose = { ...this.start };
      this.pending = false;
    }

    /** Draw with the next frame, once. */
    redraw() {
      if (this.pending) return;
      this.pending = true;
      requestAnimationFrame(() => {
        this.pending = false;
        this.draw();
      });
    }

    draw(ratio = Math.min(devicePixelRatio || 1, 2)) {
      const { canvas, context } = this;
      const width = Math.round(canvas.clientWidth * ratio);
      const height = Math.round(canvas.clientHeight * ratio);
      if (!width || !height) return;
      if (canvas.width !== width || canvas.height !== height) {
        canvas.width = width;
        canvas.height = height;
        this.depth = new Float32Array(width * height);
      }
      const style = getComputedStyle(canvas);
      const ink = rgb(context, style.color);
      const view = projection(this.pose, width, height);
      context.putImageData(this.rasterise(view, width, height, ratio, ink), 0, 0);
      context.lineWidth = 1.2 * ratio;
      context.globalAlpha = 0.85;
      for (const [frusta, colour] of [[this.frusta, "--c"], [this.queries, "--query"]]) {
        context.strokeStyle = style.getPropertyValue(colour).trim() || style.color;
        context.beginPath();
        frusta.forEach((lines) => lines.forEach(([a, b]) => stroke(context, view(a), view(b))));
        context.stroke();
      }
      context.globalAlpha = 1;
    }

    rasterise(view, width, height, ratio, ink) {
      const image = this.context.createImageData(width, height);
      const pixels = new Uint32Array(image.data.buffer);
      const { depth, points, colours } = this;
      depth.fill(Infinity);
      for (let i = 0; i < points.length; i += 3) {
        const [x, y, z] = view([points[i], points[i + 1], points[i + 2]]);
        if (z < NEAR) continue;
        const size = Math.max(1, Math.min(4 * ratio, Math.round((4.6 * ratio) / z)));
        const left = Math.round(x - size / 2);
        const top = Math.round(y - size / 2);
        const [r, g, b] = this.isGrey ? ink : colours.subarray(i, i + 3);
        const colour = (255 << 24) | (b << 16) | (g << 8) | r;
        for (let v = Math.max(top, 0); v < Math.min(top + size, height); v++) {
          for (let u = Math.max(left, 0); u < Math.min(left + size, width); u++) {
            const at = v * width + u;
            if (z < depth[at]) {
              depth[at] = z;
              pixels[at] = colour;
            }
          }
        }
      }
      return image;
    }
  }

  /** Map points of the scene (x right, y down, z forward) to pixels and depth. */
  function projection(pose, width, height) {
    const focal = (FOCAL * Math.min(width, height)) / 2;
    const turned = rotation(pose);
    return (point) => {
      const [across, down, depth] = turned(point);
      return [width / 2 + (focal * across) / depth, height / 2 + (focal * down) / depth, depth];
    };
  }

  /** Map points of the scene to those in front of the viewer. */
  function rotation({ yaw, pitch, distance, x: panX, y: panY }) {
    const [cosYaw, sinYaw, cosPitch, sinPitch] = [
      Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch),
    ];
    return ([x, y, z]) => {
      const turned = cosYaw * z - sinYaw * x;
      const across = cosYaw * x + sinYaw * z + panX;
      const down = cosPitch * y + sinPitch * turned + panY;
      return [across, down, cosPitch * turned - sinPitch * y + distance];
    };
  }

  /** Return the pose in which the scene is in the middle of the canvas and fills it. */
  function fittingPose(points, frusta, canvas) {
    const sides = [canvas.clientWidth, canvas.clientHeight];
    const pose = { ...START };
    const turned = rotation({ ...pose, distance: 0 });
    const step = 3 * Math.ceil(points.length / 3 / SAMPLE);
    const ofPoints = [];
    for (let i = 0; i < points.length; i += step) ofPoints.push(turned(points.subarray(i, i + 3)));
    const ofFrusta = frusta.flatMap((lines) => lines.flat().map(turned));
    const outliers = Math.floor(0.015 * ofPoints.length);
    // Which points are at the edges depends on the pose: a few rounds settle it.
    for (let round = 0; round < 8; round++) {
      let distance = 4 * NEAR - Math.min(...ofFrusta.map(([, , depth]) => depth));
      ["x", "y"].forEach((pan, axis) => {
        const place = (at) => (at[axis] + pose[pan]) / (at[2] + pose.distance);
        const sorted = (all) => all.sort((a, b) => place(a) - place(b));
        const most = sorted([...ofPoints]).slice(outliers, ofPoints.length - outliers);
        const inner = sorted([...most, ...ofFrusta]);
        const [first, last] = [inner[0], inner[inner.length - 1]];
        const [depth0, depth1] = [first[2] + pose.distance, last[2] + pose.distance];
        pose[pan] = -(first[axis] * depth1 + last[axis] * depth0) / (depth0 + depth1);
        const focal = (FOCAL * Math.min(...sides)) / (FILLED * sides[axis]);
        [first, last].forEach((at) => {
          distance = Math.max(distance, focal * Math.abs(at[axis] + pose[pan]) - at[2]);
        });
      });
      pose.distance = Math.min(Math.max(distance, 0.6), 8);
    }
    return pose;
  }

  function stroke(context, [x0, y0, z0], [x1, y1, z1]) {
    if (z0 < NEAR || z1 < NEAR) return;
    context.moveTo(x0, y0);
    context.lineTo(x1, y1);
  }

  /** Depth of the drawn pyramids: small enough for neighbours not to hide each other. */
  function frustumSize(cameras) {
    return Math.min(0.16, 0.9 / Math.sqrt(cameras.length + 4));
  }

  /** Lines of a camera's pyramid from its centre, the rows of cam_from_view and half its size. */
  function frustum(camera, size) {
    const centre = camera.slice(0, 3);
    const [halfWidth, halfHeight] = camera.slice(12);
    const corner = (sx, sy) =>
      [0, 1, 2].map(
        (i) =>
          centre[i] +
          size * (sx * halfWidth * camera[3 + i] + sy * halfHeight * camera[6 + i] + camera[9 + i]),
      );
    const corners = [corner(-1, -1), corner(1, -1), corner(1, 1), corner(-1, 1)];
    return corners.flatMap((at, i) => [[centre, at], [at, corners[(i + 1) % 4]]]);
  }

  function rgb(context, colour) {
    context.fillStyle = colour;
    const hex = context.fillStyle;
    return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  }

  // ---- what hands do: one model of a group is moved, all of it follow ------------------------

  function bind(view) {
    const { canvas } = view;
    const members = groups.get(canvas.dataset.group);
    const fingers = new Map();

    function move(change) {
      const pose = view.pose;
      change(pose);
      pose.pitch = Math.max(-1.55, Math.min(1.55, pose.pitch));
      pose.distance = Math.max(0.3, Math.min(20, pose.distance));
      members.forEach((member) => {
        member.pose = { ...pose };
        member.redraw();
      });
    }

    function pan(dx, dy) {
      const scale = (2 * view.pose.distance) / (FOCAL * Math.min(canvas.clientWidth, canvas.clientHeight));
      move((pose) => {
        pose.x += dx * scale;
        pose.y += dy * scale;
      });
    }

    const turn = (dx, dy) =>
      move((pose) => {
        pose.yaw += dx;
        pose.pitch += dy;
      });
    const zoom = (factor) =>
      move((pose) => {
        pose.distance *= factor;
      });
    const reset = () => move((pose) => Object.assign(pose, view.start));

    const spread = () => {
      const [a, b] = [...fingers.values()];
      return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, size: Math.hypot(a.x - b.x, a.y - b.y) };
    };

    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    });
    canvas.addEventListener("pointermove", (event) => {
      const last = fingers.get(event.pointerId);
      if (!last) return;
      const before = fingers.size === 2 ? spread() : null;
      const [dx, dy] = [event.clientX - last.x, event.clientY - last.y];
      fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      if (before) {
        const after = spread();
        zoom(before.size / Math.max(after.size, 1));
        pan(after.x - before.x, after.y - before.y);
      } else if (event.shiftKey || event.buttons === 4) {
        pan(dx, dy);
      } else {
        turn(-dx * 0.008, -dy * 0.008);
      }
    });
    ["pointerup", "pointercancel"].forEach((name) => {
      canvas.addEventListener(name, (event) => fingers.delete(event.pointerId));
    });
    canvas.addEventListener("dblclick", reset);
    canvas.addEventListener(
      "wheel",
      (event) => {
        // The wheel scrolls the page until a model has been chosen by a click.
        if (document.activeElement !== canvas) return;
        event.preventDefault();
        zoom(Math.exp(event.deltaY * 0.0012));
      },
      { passive: false },
    );
    const keys = {
      ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
    };
    canvas.addEventListener("keydown", (event) => {
      const [dx, dy] = keys[event.key] ?? [0, 0];
      if (dx || dy) {
        if (event.shiftKey) pan(24 * dx, 24 * dy);
        else turn(-0.1 * dx, -0.1 * dy);
      } else if (event.key === "+" || event.key === "=") zoom(0.88);
      else if (event.key === "-") zoom(1 / 0.88);
      else if (event.key === "0" || event.key === "Home") reset();
      else return;
      event.preventDefault();
    });
  }

  const views = new Map();
  function show(canvas) {
    if (views.has(canvas)) return;
    const view = new ModelView(canvas);
    const members = groups.get(canvas.dataset.group) ?? [];
    if (members.length) view.pose = { ...members[0].pose };
    groups.set(canvas.dataset.group, members);
    members.push(view);
    views.set(canvas, view);
    bind(view);
    resized.observe(canvas);
  }

  const resized = new ResizeObserver((entries) => {
    entries.forEach(({ target }) => views.get(target)?.redraw());
  });
  // A model is decoded when it first comes near the window.
  const seen = new IntersectionObserver(
    (entries) => {
      entries.forEach(({ target, isIntersecting }) => isIntersecting && show(target));
    },
    { rootMargin: "300px" },
  );
  const canvases = document.querySelectorAll("canvas[data-model]");
  canvases.forEach((canvas) => seen.observe(canvas));

  const redrawAll = () => views.forEach((view) => view.redraw());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);
  // Paper gets a picture of every model, also of those never looked at, in the colours of paper.
  addEventListener("beforeprint", () => {
    document.documentElement.classList.add("printing");
    canvases.forEach(show);
    views.forEach((view) => view.draw(2));
  });
  addEventListener("afterprint", () => {
    document.documentElement.classList.remove("printing");
    redrawAll();
  });
})();
