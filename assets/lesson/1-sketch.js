/* Draw the prediction: a curve, bars or a mask is sketched before it is shown, then both are laid over each other. */
"use strict";
((W) => {
  const { h, s } = W;
  const [WIDE, HIGH, LEFT, BASE, TOP] = [560, 250, 84, 42, 16]; // pixels of the drawing, and what stands around the plot
  const TICK = 0.1; // powers of ten that an arrow key moves by; page keys a whole one
  const AGREES = 1.6; // times the measured value within which a sketch is called right
  const [MOST_POWER, INFINITE] = [9, 1e300]; // where the axis ends at the latest; what stands for an infinite perplexity

  const power = (value) => Math.log10(Math.max(value, 1e-9));
  const rounded = (value) => Number(value.toPrecision(2));
  /** As the lesson's own figures have it, so that one value reads the same in both: 44.3, 158,090. */
  const plain = (value) => { if (value >= INFINITE) return "∞"; const digits = value < 1000 ? 1 : 0; return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }); };

  /** A drawing of values over names. spec: {kind: "bars" | "curve", names, at, given: {place: value}, low, high};
   * at: where the names stand, evenly without. */
  const values = (spec, told) => {
    const { kind, names, given = {} } = spec;
    const drawn = names.map((_, place) => given[place] ?? spec.before?.[place] ?? null);
    let [low, high, truth] = [power(spec.low), power(spec.high), null];
    const plot = s("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, class: "wl-sketch-plot", role: "group", "aria-label": spec.label });
    const even = (WIDE - LEFT - 12) / names.length;
    const span = (WIDE - LEFT - 12 - even) / (spec.at ? spec.at.at(-1) - spec.at[0] : names.length - 1);
    const middle = (place) => LEFT + even / 2 + span * (spec.at ? spec.at[place] - spec.at[0] : place);
    const step = Math.min(even, ...names.slice(1).map((_, place) => middle(place + 1) - middle(place))); // of the nearest two
    const y = (value) => TOP + ((high - Math.min(high, Math.max(low, power(value)))) / (high - low)) * (HIGH - BASE - TOP);
    const set = (place, value) => {
      if (truth || place in given) return;
      drawn[place] = rounded(Math.min(10 ** high, Math.max(10 ** low, value)));
      show();
      told(drawn);
    };
    const key = (event, place) => {
      const by = { ArrowUp: TICK, ArrowRight: TICK, ArrowDown: -TICK, ArrowLeft: -TICK, PageUp: 1, PageDown: -1 }[event.key];
      const to = { Home: low, End: high }[event.key] ?? (by === undefined ? undefined : (drawn[place] === null ? (low + high) / 2 : power(drawn[place]) + by));
      if (to === undefined) return;
      event.preventDefault();
      set(place, 10 ** to);
    };
    const handles = names.map((name, place) => s("g", { class: "wl-sketch-handle", role: "slider", tabindex: place in given ? null : 0, "aria-label": name, "aria-valuemin": spec.low, onkeydown: (event) => key(event, place) },
      s("rect", { x: middle(place) - step * 0.36, y: TOP, width: step * 0.72, height: HIGH - BASE - TOP, class: "wl-sketch-hit" }), s("line", { class: "wl-sketch-mark" })));
    const under = s("g", {}), over = s("g", { class: "wl-sketch-mine" });
    plot.append(under, ...handles, over);
    let holds = false;
    const draw = (event) => {
      const box = plot.getBoundingClientRect();
      const [x, at] = [((event.clientX - box.left) / box.width) * WIDE, ((event.clientY - box.top) / box.height) * HIGH];
      const place = names.reduce((near, _, each) => (Math.abs(middle(each) - x) < Math.abs(middle(near) - x) ? each : near), 0);
      set(place, 10 ** (high - ((at - TOP) / (HIGH - BASE - TOP)) * (high - low)));
    };
    plot.addEventListener("pointerdown", (event) => { holds = !truth; if (holds) { plot.setPointerCapture(event.pointerId); draw(event); } });
    plot.addEventListener("pointermove", (event) => holds && draw(event));
    for (const name of ["pointerup", "pointercancel"]) plot.addEventListener(name, () => { holds = false; });

    const path = (list) => list.flatMap((value, place) => (value === null ? [] : [`${middle(place)},${y(value)}`])).join(" ");
    const show = () => {
      under.replaceChildren();
      for (let exponent = Math.ceil(low); exponent <= high; exponent += 1) {
        under.append(s("line", { x1: LEFT, x2: WIDE - 12, y1: y(10 ** exponent), y2: y(10 ** exponent), class: "wl-sketch-grid" }),
          s("text", { x: LEFT - 8, y: y(10 ** exponent) + 4, "text-anchor": "end" }, (10 ** exponent).toLocaleString("en")));
      }
      names.forEach((name, place) => name.split("\n").forEach((line, k) => under.append(s("text", { x: middle(place), y: HIGH - BASE + 18 + 17 * k, "text-anchor": "middle" }, line))));
      if (truth && kind === "bars") truth.forEach((value, place) => value !== null && under.append(s("rect", { x: middle(place) - step * 0.28, y: y(value), width: step * 0.56, height: Math.max(1, HIGH - BASE - y(value)), class: "wl-sketch-bar" })));
      if (truth && kind === "curve") under.append(s("polyline", { points: path(truth), class: "wl-sketch-curve" }));
      if (truth) truth.forEach((value, place) => value !== null && under.append(s("text", { x: middle(place) - (kind === "curve" ? 7 : 0), y: y(value) - 6, "text-anchor": kind === "curve" ? "end" : "middle", class: "wl-sketch-value" }, plain(value))));
      over.replaceChildren(...(kind === "curve" ? [s("polyline", { points: path(drawn) })] : []));
      handles.forEach((handle, place) => {
        const value = drawn[place], mark = handle.lastChild;
        handle.setAttribute("aria-valuenow", String(value ?? spec.low));
        handle.setAttribute("aria-valuetext", value === null ? W.say("try.sketch.empty") : W.number(value));
        handle.classList.toggle("wl-fixed", place in given || truth !== null);
        mark.style.display = value === null ? "none" : "";
        if (value !== null) for (const [name, at] of [["x1", middle(place) - step * 0.34], ["x2", middle(place) + step * 0.34], ["y1", y(value)], ["y2", y(value)]]) mark.setAttribute(name, at);
      });
    };
    show();
    return {
      element: plot,
      /** Lay the measured values under the sketch. -> what they say of each other, null where nothing was drawn. */
      reveal: (measured) => {
        truth = measured;
        const all = [...measured, ...drawn].filter((value) => value !== null && Number.isFinite(value) && value > 0);
        low = Math.min(low, Math.floor(power(Math.min(...all)))); high = Math.max(high, Math.min(MOST_POWER, Math.ceil(power(Math.max(...all)))));
        show();
        const pairs = measured.flatMap((value, place) => (drawn[place] === null || place in given || value === null ? [] : [[Math.max(value / drawn[place], drawn[place] / value), place]]));
        if (!pairs.length) return null;
        const [times, place] = pairs.reduce((far, pair) => (pair[0] > far[0] ? pair : far));
        const close = pairs.filter(([factor]) => factor <= AGREES).length;
        return W.say(times <= AGREES ? "try.sketch.close" : measured[place] > drawn[place] ? "try.sketch.higher" : "try.sketch.lower",
          { name: names[place].replace("\n", " "), drawn: plain(drawn[place]), measured: plain(measured[place]), times: W.number(measured[place] >= INFINITE ? Infinity : times), close, of: pairs.length });
      },
    };
  };

  /** A mask over a small matrix. spec: {kind: "mask", w: rows, heads: names of columns, budget: of each row} */
  const mask = (spec, told) => {
    const { w, heads, rows, budget } = spec;
    const mine = w.map((row, i) => row.map((_, j) => spec.before?.[i][j] ?? false));
    let truth = null;
    const said = h("p", { class: "wl-sketch-count", role: "status" });
    const cells = w.map((row, i) => row.map((value, j) => h("button", { type: "button", tabindex: i + j === 0 ? 0 : -1, onclick: () => press(i, j), onkeydown: (event) => move(event, i, j) }, String(value).replace("-", "−"))));
    const press = (i, j) => {
      if (truth) return;
      if (!mine[i][j] && mine[i].filter(Boolean).length >= budget) {
        W.put(said, W.say("try.sketch.row_full", { row: rows[i], budget }));
        return;
      }
      mine[i][j] = !mine[i][j];
      show();
      told(mine);
    };
    const move = (event, i, j) => {
      const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
      const to = step && cells[i + step[0]]?.[j + step[1]];
      if (!to) return;
      event.preventDefault();
      for (const cell of cells.flat()) cell.tabIndex = cell === to ? 0 : -1;
      to.focus();
    };
    const show = () => {
      cells.forEach((line, i) => line.forEach((cell, j) => {
        cell.setAttribute("aria-pressed", String(mine[i][j]));
        cell.className = `${mine[i][j] ? "wl-gone" : ""} ${truth && truth[i][j] ? "wl-truth" : ""} ${truth && truth[i][j] !== mine[i][j] ? "wl-apart" : ""}`;
        if (truth) cell.setAttribute("aria-label", `${w[i][j]}: ${W.say(mine[i][j] ? "try.sketch.you_cut" : "try.sketch.you_keep")}, ${W.say(truth[i][j] ? "try.sketch.wanda_cuts" : "try.sketch.wanda_keeps")}`);
      }));
      if (!truth) W.put(said, W.say("try.sketch.to_go", { left: w.length * budget - mine.flat().filter(Boolean).length }));
    };
    const table = h("table", {}, h("thead", {}, h("tr", {}, h("td", {}), heads.map((head) => h("th", { scope: "col" }, head)))),
      h("tbody", {}, cells.map((line, i) => h("tr", {}, h("th", { scope: "row" }, rows[i]), line.map((cell) => h("td", {}, cell))))));
    show();
    return {
      element: h("div", { class: "wl-sketch-mask" }, table, said),
      reveal: (measured) => {
        truth = measured;
        show();
        const count = mine.flat().filter(Boolean).length;
        W.put(said, "");
        const same = mine.flat().filter((gone, place) => gone && truth.flat()[place]).length;
        return count ? W.say("try.sketch.agreed", { same, of: truth.flat().filter(Boolean).length }) : null;
      },
    };
  };

  /** What was drawn before, by a page that this tab showed; null where it has not the form of this drawing. */
  const before = ({ step, kind, w, names }) => {
    const drawn = step && W.kept.get(W.kept.SKETCH)?.[step];
    if (!Array.isArray(drawn) || drawn.length !== (kind === "mask" ? w : names).length) return null;
    const known = kind === "mask" ? (row, i) => Array.isArray(row) && row.length === w[i].length : (value) => value === null || value > 0;
    return drawn.every(known) ? drawn : null;
  };

  /** A place to sketch in. spec: of `values` or `mask`, with `ask`, its question, and `step`, by which the drawing is
   * kept. -> {reveal(truth)} */
  W.sketch = (element, spec, told = () => {}) => {
    const keep = (drawn) => spec.step && W.kept.set(W.kept.SKETCH, { ...W.kept.get(W.kept.SKETCH), [spec.step]: drawn });
    const said = h("p", { class: "wl-sketch-said", role: "status" });
    const build = () => {
      const made = (spec.kind === "mask" ? mask : values)({ ...spec, before: before(spec) }, (drawn) => { keep(drawn); told(drawn); });
      const again = h("button", { type: "button", class: "wl-sketch-again", onclick: () => { keep(null); pad = build(); W.put(said, ""); } }, W.say("try.sketch.again"));
      element.replaceChildren(h("details", { class: "wl-sketch", open: true }, h("summary", {}, spec.ask), h("p", { class: "wl-sketch-how" }, W.say(`try.sketch.how_${spec.kind === "mask" ? "mask" : "values"}`)), made.element,
        h("p", { class: "wl-sketch-key" }, h("span", { class: "wl-key-mine" }, W.say("try.sketch.mine")), h("span", { class: "wl-key-truth" }, W.say("try.sketch.measured"))), said, again));
      return made;
    };
    let pad = build();
    return {
      reveal: (truth) => {
        const words = pad.reveal(truth);
        element.firstChild.classList.add("wl-shown");
        element.firstChild.classList.toggle("wl-undrawn", !words);
        W.put(said, words || W.say(`try.sketch.nothing_${spec.kind === "mask" ? "mask" : "values"}`));
      },
    };
  };
})(window.WandaLab);
