/* One linear's weights as a canvas: from means over blocks of weights down to single weights, moved and zoomed. */
"use strict";
((W) => {
  const { h } = W;
  W.TILE = 96; // cells of a tile along either side
  const MOST_TILES = 12; // asked for at once
  const MOST_HELD = 600; // kept, with their pictures 40 MB; the oldest go
  const LARGEST = 44, GRID_FROM = 9; // pixels a weight at most; pixels a cell from which cells are set apart
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

  /** Colours of the theme as [r, g, b], by what becomes of a weight. */
  const palette = (element) => {
    const probe = h("i", { style: "display:none" });
    element.append(probe);
    const rgb = (name) => {
      probe.style.color = `var(--wl-${name})`;
      return getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number);
    };
    const found = Object.fromEntries(["blue", "gold", "second", "neither", "page", "ink"].map((name) => [name, rgb(name)]));
    probe.remove();
    return found;
  };

  /**
   * The pieces of a matrix that have come, and their pictures. fetch(level, places, sorted): asks for tiles, and the
   * answer is handed to `add`.
   */
  W.Tiles = class {
    constructor(fetch) {
      this.fetch = fetch;
      this.clear(0, 0);
    }

    clear(rows, columns) {
      Object.assign(this, { rows, columns, held: new Map(), asked: new Set(), pictures: new Map() });
      this.top = 0;
      while (Math.max(rows, columns) > W.TILE * 2 ** this.top) this.top += 1;
    }

    recolour() {
      this.pictures.clear();
    }

    key(level, across, down, sorted) {
      return `${level} ${across} ${down} ${sorted}`;
    }

    add(level, sorted, of) {
      for (const { at, width, height, size, kept } of of)
        this.held.set(this.key(level, ...at, sorted), { width, height, size: bytes(size), kept: kept.map(bytes) });
      for (const key of [...this.held.keys()].slice(0, Math.max(0, this.held.size - MOST_HELD))) {
        this.held.delete(key);
        this.asked.delete(key);
        for (const name of [...this.pictures.keys()]) if (name.startsWith(`${key} `)) this.pictures.delete(name);
      }
    }

    /** Ask for what is lacking of a list of tiles. */
    want(level, places, sorted) {
      const lacking = places.filter(([across, down]) => {
        const key = this.key(level, across, down, sorted);
        return !this.held.has(key) && !this.asked.has(key);
      }).slice(0, MOST_TILES);
      if (!lacking.length) return;
      lacking.forEach(([across, down]) => this.asked.add(this.key(level, across, down, sorted)));
      this.fetch(level, lacking, sorted);
    }

    /** A tile as a small canvas of a pixel a cell, null where it has not come. paint(size, kept[], level): [r, g, b, a]. */
    picture(level, across, down, sorted, mode, paint) {
      const key = this.key(level, across, down, sorted);
      const tile = this.held.get(key);
      if (!tile) return null;
      const name = `${key} ${mode}`;
      if (!this.pictures.has(name)) {
        const canvas = h("canvas", { width: tile.width, height: tile.height });
        const context = canvas.getContext("2d");
        const image = context.createImageData(tile.width, tile.height);
        for (let i = 0; i < tile.size.length; i += 1)
          image.data.set(paint(tile.size[i], tile.kept.map((kept) => kept[i]), level), 4 * i);
        context.putImageData(image, 0, 0);
        this.pictures.set(name, canvas);
      }
      return this.pictures.get(name);
    }
  };

  /** How a cell is painted, by what is looked at: "differ", or the place of a recipe. */
  W.painter = (mode, colours) => (size, kept, level) => {
    const strength = 40 + (215 * size) / 255;
    if (mode === "differ" && kept.length > 1) {
      if (level) {
        const apart = (kept[0] - kept[1]) / 255;
        return [...(apart > 0 ? colours.gold : colours.second), Math.min(255, Math.abs(apart) * 700)];
      }
      if (kept[0] && kept[1]) return [...colours.blue, strength];
      if (kept[0]) return [...colours.gold, 90 + strength * 0.6];
      return kept[1] ? [...colours.second, 90 + strength * 0.6] : [...colours.neither, 30 + strength * 0.5];
    }
    const share = (kept[mode === "differ" ? 0 : mode] ?? 0) / 255;
    if (level) return [...colours.blue, share * 255];
    return share ? [...colours.blue, strength] : [...colours.neither, 30 + strength * 0.5];
  };
  W.onlyDiffering = (paint) => (size, kept, level) => (level || kept[0] !== kept[1] ? paint(size, kept, level) : [0, 0, 0, 0]);

  /**
   * The cells in sight as rows of a table, as they came: a cell stands for the weights from its row and column on to
   * the next ones; size: of 255, on a logarithmic scale between two quantiles of the matrix; the share that each
   * recipe keeps. Columns are counted from the quietest input where they are sorted.
   */
  W.tileRows = (tiles, { level, left, top, right, bottom }, sorted, names) => {
    const [side, step] = [W.TILE * 2 ** level, 2 ** level];
    const rows = [];
    for (let down = Math.floor(top / side); down * side < bottom; down += 1)
      for (let across = Math.floor(left / side); across * side < right; across += 1) {
        const tile = tiles.held.get(tiles.key(level, across, down, sorted));
        for (let i = 0; i < (tile ? tile.size.length : 0); i += 1) {
          const [row, column] = [down * side + step * Math.floor(i / tile.width), across * side + step * (i % tile.width)];
          if (row + step > top && row < bottom && column + step > left && column < right)
            rows.push([row, Math.min(tiles.rows, row + step) - 1, column, Math.min(tiles.columns, column + step) - 1, tile.size[i], ...tile.kept.map((kept) => kept[i] / 255)]);
        }
      }
    rows.sort((a, b) => a[0] - b[0] || a[2] - b[2]);
    const place = sorted ? "column_by_input_norm" : "column";
    return [["row", "last_row", place, `last_${place}`, "size_of_255", ...names.map((name) => `kept_by_${name}`)], ...rows];
  };

  /**
   * A canvas over tiles. tiles: W.Tiles; look(): {sorted, mode, only, mark: [row, place], window: [left, top, width,
   * height] in weights}; on: {asked(row, place), moved(view)}; still: whether it always shows the whole matrix.
   */
  W.matrix = (tiles, look, on, { label, still = false }) => {
    const canvas = h("canvas", { class: "wl-matrix", tabindex: 0, role: "application", "aria-label": label });
    const element = h("div", { class: "wl-matrix-box" }, canvas);
    const view = { left: 0, top: 0, cell: 28 }; // the place of the upper left corner, in weights; pixels a weight
    let [colours, width, height, waiting, cursor, steps] = [null, 0, 0, false, [0, 0], [1, 1]];

    const clamp = () => {
      const [across, down] = [width / view.cell, height / view.cell];
      view.left = Math.max(0, Math.min(tiles.columns - across, view.left));
      view.top = Math.max(0, Math.min(tiles.rows - down, view.top));
      if (across >= tiles.columns) view.left = 0;
      if (down >= tiles.rows) view.top = 0;
    };
    /** Pixels a weight, along and down: of the still one the matrix fills the canvas. */
    const scale = () => (still ? [width / tiles.columns, height / tiles.rows] : [view.cell, view.cell]);

    /** The level of tiles whose cells are drawn. */
    const levelOf = ([across, down]) => Math.min(tiles.top, still ? tiles.top : Math.max(0, Math.floor(Math.log2(3 / Math.min(across, down)))));
    /** What is in sight: {level, left, top, right, bottom}, in weights. */
    const inSight = () => {
      const [across, down] = scale();
      return { level: levelOf([across, down]), left: view.left, top: view.top, right: Math.min(tiles.columns, view.left + width / across), bottom: Math.min(tiles.rows, view.top + height / down) };
    };

    const draw = () => {
      waiting = false;
      if (!tiles.rows || !width) return;
      const context = canvas.getContext("2d");
      colours = colours || palette(element);
      const { sorted, mode, only, mark, window: shown } = look();
      const ratio = canvas.width / width;
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.clearRect(0, 0, width, height);
      context.imageSmoothingEnabled = false;
      const [sx, sy] = steps = scale();
      const base = W.painter(mode, colours);
      const paint = only ? W.onlyDiffering(base) : base;
      const style = `${mode} ${only}`;
      const { level, right, bottom } = inSight();
      const lacking = [];
      const put = (at, across, down) => {
        const picture = tiles.picture(at, across, down, sorted, style, paint);
        if (!picture) return false;
        const side = W.TILE * 2 ** at;
        const [wide, tall] = [Math.min(side, tiles.columns - across * side), Math.min(side, tiles.rows - down * side)];
        context.drawImage(picture, (across * side - view.left) * sx, (down * side - view.top) * sy, wide * sx, tall * sy);
        return true;
      };
      const side = W.TILE * 2 ** level;
      if (level < tiles.top && !put(tiles.top, 0, 0)) tiles.want(tiles.top, [[0, 0]], sorted); // until the finer ones come
      for (let down = Math.floor(view.top / side); down * side < bottom; down += 1)
        for (let across = Math.floor(view.left / side); across * side < right; across += 1) {
          if (level < tiles.top && tiles.held.has(tiles.key(level, across, down, sorted)))
            context.clearRect((across * side - view.left) * sx, (down * side - view.top) * sy, side * sx, side * sy);
          if (!put(level, across, down)) lacking.push([across, down]);
        }
      tiles.want(level, lacking, sorted);
      if (!still && sx >= GRID_FROM && level === 0) {
        context.fillStyle = `rgb(${colours.page})`;
        for (let i = Math.ceil(view.left); i <= right; i += 1) context.fillRect((i - view.left) * sx - 1, 0, 2, height);
        for (let i = Math.ceil(view.top); i <= bottom; i += 1) context.fillRect(0, (i - view.top) * sy - 1, width, 2);
      }
      context.strokeStyle = `rgb(${colours.ink})`;
      context.lineWidth = 2;
      if (shown) context.strokeRect((shown[0] - view.left) * sx, (shown[1] - view.top) * sy, Math.max(6, shown[2] * sx), Math.max(6, shown[3] * sy));
      if (mark && !still) context.strokeRect((mark[1] - view.left) * sx + 1, (mark[0] - view.top) * sy + 1, Math.max(4, sx - 2), Math.max(4, sy - 2));
      if (document.activeElement === canvas && !still) {
        context.setLineDash([4, 3]);
        context.strokeRect((cursor[1] - view.left) * sx - 1, (cursor[0] - view.top) * sy - 1, Math.max(6, sx + 2), Math.max(6, sy + 2));
        context.setLineDash([]);
      }
    };
    const drawSoon = () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(draw);
    };

    const placeOf = (event) => {
      const box = canvas.getBoundingClientRect();
      return [view.top + (event.clientY - box.top) / steps[1], view.left + (event.clientX - box.left) / steps[0]];
    };
    const within = ([row, place]) => [Math.max(0, Math.min(tiles.rows - 1, Math.floor(row))), Math.max(0, Math.min(tiles.columns - 1, Math.floor(place)))];
    const told = () => {
      clamp();
      on.moved({ left: view.left, top: view.top, width: width / view.cell, height: height / view.cell });
      drawSoon();
    };
    /** Zoom by a factor around a place, which stays where it is. */
    const zoom = (factor, row, place) => {
      const least = Math.min(width / tiles.columns, height / tiles.rows, 1);
      const cell = Math.max(least, Math.min(LARGEST, view.cell * factor));
      view.left = place - ((place - view.left) * view.cell) / cell;
      view.top = row - ((row - view.top) * view.cell) / cell;
      view.cell = cell;
      told();
    };

    // One finger or the mouse moves, two fingers or the wheel zoom, a tap asks.
    const fingers = new Map();
    let [moved, apart] = [0, 0];
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      canvas.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
      [moved, apart] = [fingers.size > 1 ? 100 : 0, 0];
      if (still) on.asked(...within(placeOf(event)));
    });
    canvas.addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId);
      if (!before) return;
      const now = [event.clientX, event.clientY];
      fingers.set(event.pointerId, now);
      moved += Math.abs(now[0] - before[0]) + Math.abs(now[1] - before[1]);
      if (still) return on.asked(...within(placeOf(event)));
      if (fingers.size > 1) {
        const [a, b] = [...fingers.values()];
        const distance = Math.hypot(a[0] - b[0], a[1] - b[1]);
        if (apart) zoom(distance / apart, ...placeOf({ clientX: (a[0] + b[0]) / 2, clientY: (a[1] + b[1]) / 2 }));
        apart = distance;
        return null;
      }
      view.left -= (now[0] - before[0]) / view.cell;
      view.top -= (now[1] - before[1]) / view.cell;
      told();
      return null;
    });
    const end = (event) => {
      if (!fingers.delete(event.pointerId) || still || event.type !== "pointerup" || moved > 5) return;
      cursor = within(placeOf(event));
      on.asked(...cursor);
    };
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", end);
    canvas.addEventListener("wheel", (event) => {
      if (still || (!event.ctrlKey && document.activeElement !== canvas)) return; // else the page could not be scrolled past it
      event.preventDefault();
      zoom(Math.exp(-event.deltaY / 300), ...placeOf(event));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const step = event.shiftKey ? 10 : 1;
      const move = { ArrowUp: [-step, 0], ArrowDown: [step, 0], ArrowLeft: [0, -step], ArrowRight: [0, step], Home: [0, -1e9], End: [0, 1e9], PageUp: [-20, 0], PageDown: [20, 0] }[event.key];
      if (move) cursor = within([cursor[0] + move[0], cursor[1] + move[1]]);
      else if (event.key === "Enter" || event.key === " ") on.asked(...cursor);
      else if (["+", "=", "-"].includes(event.key) && !still) zoom(event.key === "-" ? 1 / 1.5 : 1.5, cursor[0] + 0.5, cursor[1] + 0.5);
      else return;
      event.preventDefault();
      if (move && on.told) on.told(...cursor);
      if (move && still) on.asked(...cursor);
      else if (move) reveal(...cursor);
    });
    for (const name of ["focus", "blur"]) canvas.addEventListener(name, drawSoon);

    /** Move just so far that a weight is in sight; anew: to the middle, at the size of a single weight. */
    const reveal = (row, place, anew = false) => {
      if (anew) {
        view.cell = 28;
        [view.top, view.left] = [row + 0.5 - height / 2 / view.cell, place + 0.5 - width / 2 / view.cell];
      }
      const [across, down] = [width / view.cell, height / view.cell];
      view.left = Math.min(Math.max(view.left, place + 1 - across), place);
      view.top = Math.min(Math.max(view.top, row + 1 - down), row);
      cursor = [row, place];
      told();
    };
    const resize = () => {
      const box = canvas.getBoundingClientRect();
      if (!box.width) return;
      [width, height] = [box.width, box.height];
      const ratio = Math.min(3, window.devicePixelRatio || 1);
      [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
      if (tiles.rows && !still) told();
      drawSoon();
    };
    new ResizeObserver(resize).observe(canvas);
    new MutationObserver(() => {
      colours = null;
      tiles.recolour();
      drawSoon();
    }).observe(document.body, { attributes: true, attributeFilter: ["class"] });
    return { element, canvas, drawSoon, reveal, shown: inSight, zoom: (factor) => zoom(factor, view.top + height / 2 / view.cell, view.left + width / 2 / view.cell) };
  };
})(window.WandaLab);
