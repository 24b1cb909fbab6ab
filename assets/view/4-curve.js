/* The curve: perplexity against the share of weights removed, a line a recipe, and the handle that is dragged along. */
"use strict";
((W) => {
  const { h, s } = W;
  const TOP = 14, BOTTOM = 44, LEFT = 64, RIGHT = 18; // pixels around the plot
  const MOST = 80; // percent drawn; beyond it every method leaves noise
  const FARTHEST = 95;
  const LABELS = [72, 52, 62]; // percent where the first, second, third line is named
  const CEILING = 1.2e5; // perplexities above are drawn at the edge

  /** Values of the paper's table, LLaMA-2-7B on WikiText-2, at 50%: Sun et al. 2023, arXiv 2306.11695. */
  W.PAPER = { dense: 5.12, points: [["Wanda", 50, 6.42], ["SparseGPT", 50, 6.51], ["magnitude", 50, 14.89]] };

  /**
   * The curve as rows of a table. dense: perplexity, null where it is not known; recipes: [{key, stored, measured}], of
   * `W.curve`; paper: whether the published points are shown.
   */
  W.curveRows = ({ dense, recipes, paper }) => {
    const row = (name, at, { perplexity, windows, top1, kl, seconds }, source) => [name, at, perplexity, source, windows, top1, kl, seconds];
    const published = paper ? [["dense", 0, W.PAPER.dense], ...W.PAPER.points].map(([name, at, perplexity]) => row(`LLaMA-2-7B, ${name}`, at, { perplexity }, "published")) : [];
    return [["recipe", "removed_percent", "perplexity", "source", "windows", "top1_agreement", "kl_nats", "prune_seconds"],
      ...(dense === null ? [] : [row(W.DENSE, 0, { perplexity: dense }, "dense")]),
      ...recipes.flatMap(({ key, stored, measured }) => [...stored.map(([at, point]) => row(key, at, point, "stored")), ...measured.filter(([, point]) => point.windows).map(([at, point]) => row(key, at, point, "measured"))]),
      ...published];
  };

  /** Build the curve. moved(percent): while the handle moves; released(percent): when it is let go. */
  W.curve = (moved, released) => {
    let [width, height, most, scale, now, data] = [960, 230, MOST, null, 45, null];
    const lines = s("g"), axes = s("g"), paper = s("g"), places = s("g");
    const rule = s("line", { class: "wl-rule", y1: TOP });
    const pill = s("rect", { class: "wl-pill", height: 26, rx: 13, width: 54, x: -27 });
    const number = s("text", { class: "wl-pill-text", "text-anchor": "middle", y: 18 });
    const grip = s("g", {}, pill, number);
    const handle = s("g", {
      class: "wl-handle", role: "slider", tabindex: 0, "aria-label": W.say("view.handle"), "aria-valuemin": 0,
      "aria-valuemax": FARTHEST, "aria-orientation": "horizontal",
    }, grip);
    const svg = s("svg", { class: "wl-svg", "aria-label": W.say("view.curve"), role: "group" }, axes, paper, rule, lines, places, handle); // the rule runs below the names
    const element = h("div", { class: "wl-curve" }, svg);

    const x = (percent) => LEFT + ((width - LEFT - RIGHT) * percent) / most;
    const y = (value) => {
      const share = (Math.log(Math.min(value, CEILING)) - scale[0]) / (scale[1] - scale[0]);
      return height - BOTTOM - (height - BOTTOM - TOP) * Math.max(0, Math.min(1, share));
    };

    const letGo = W.later((percent) => percent === now && released(percent), 300); // unless the handle went on by other means
    const go = (percent, at_once = false) => {
      const place = Math.max(0, Math.min(FARTHEST, Math.round(percent)));
      if (place !== now || at_once) moved(place);
      return place;
    };
    const KEYS = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10 };
    handle.addEventListener("keydown", (event) => {
      const ends = { Home: 0, End: MOST }[event.key];
      if (!(event.key in KEYS) && ends === undefined) return;
      event.preventDefault();
      letGo(go(ends ?? now + KEYS[event.key]));
    });
    let held = false;
    const percentOf = (event) => {
      const box = svg.getBoundingClientRect();
      return (most * (event.clientX - box.left - LEFT)) / (width - LEFT - RIGHT);
    };
    const inside = (event) => Math.max(0, Math.min(most, percentOf(event)));
    svg.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      held = true;
      svg.setPointerCapture(event.pointerId);
      handle.focus({ preventScroll: true });
      go(inside(event), true);
    });
    svg.addEventListener("pointermove", (event) => held && go(inside(event)));
    const end = (event) => {
      if (!held) return;
      held = false;
      if (event.type === "pointerup") released(go(inside(event)));
    };
    svg.addEventListener("pointerup", end);
    svg.addEventListener("pointercancel", end);

    const drawAxes = () => {
      const marks = [];
      for (let power = 0; power <= 5; power += 1) {
        const value = 10 ** power;
        if (Math.log(value) < scale[0] - 0.01 || Math.log(value) > scale[1]) continue;
        marks.push(s("line", { class: "wl-grid", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }));
        marks.push(s("text", { class: "wl-tick", x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, value.toLocaleString("en")));
      }
      for (let place = 0; place <= most; place += width < 560 ? 20 : 10)
        marks.push(s("text", { class: "wl-tick", x: x(place), y: height - 6, "text-anchor": "middle" }, `${place}%`));
      axes.replaceChildren(...marks);
    };

    const path = (points) =>
      points.map(([place, { perplexity }], i) => `${i ? "L" : "M"}${x(place).toFixed(1)} ${y(perplexity).toFixed(1)}`).join("");

    const drawLines = () => {
      const drawn = [];
      if (data.dense !== null) {
        drawn.push(s("line", { class: "wl-line wl-of-dense", x1: x(0), x2: x(most), y1: y(data.dense), y2: y(data.dense) }));
        const words = W.say("view.dense_label", { perplexity: W.number(data.dense) });
        drawn.push(s("text", { class: "wl-name wl-of-dense", x: width - RIGHT, y: y(data.dense) + (y(data.dense) > height - BOTTOM - 8 ? -7 : -6), "text-anchor": "end" }, words));
      }
      data.recipes.forEach(({ stored, measured, name, patterned }, i) => {
        const shown = (points) => points.filter(([place]) => place <= most);
        if (!patterned && stored.length) drawn.push(s("path", { class: `wl-line wl-of-${i}`, d: path(shown(stored)) }));
        if (!patterned && !stored.length && measured.length > 1)
          drawn.push(s("path", { class: `wl-line wl-thin wl-of-${i}`, d: path(shown(measured)) }));
        if (patterned)
          for (const [place, { perplexity }] of stored)
            drawn.push(s("circle", { class: `wl-open wl-of-${i}`, cx: x(place), cy: y(perplexity), r: 5 }));
        for (const [place, point] of shown(measured))
          if (point.windows) drawn.push(s("circle", { class: `wl-point wl-of-${i}`, cx: x(place), cy: y(point.perplexity), r: 3.5 }));
        const named = (stored.length > 1 ? stored : measured).filter(([place]) => place <= (patterned ? 100 : LABELS[i]));
        if (!named.length || (patterned && stored.length + measured.length === 0)) return;
        const [place, { perplexity }] = named[named.length - 1];
        if (!place) return; // the dense model alone
        const below = i === 0 ? 20 : -10;
        const [cx, cy] = [x(place) + (i === 0 ? 8 : -8), y(perplexity) + below];
        drawn.push(s("text", { class: `wl-name wl-of-${i}`, x: Math.min(cx, width - RIGHT - 4), y: Math.max(TOP + 8, Math.min(height - BOTTOM - 12, cy)), "text-anchor": i === 0 && cx < width - 120 ? "start" : "end" }, name));
      });
      const beyond = data.recipes.some(({ stored, measured }) => [...stored, ...measured].some(([place, { perplexity }]) => place <= most && perplexity > CEILING));
      if (beyond) drawn.push(s("text", { class: "wl-tick", x: width - RIGHT, y: y(CEILING) - 4, "text-anchor": "end" }, W.say("view.beyond", { perplexity: W.number(CEILING) })));
      lines.replaceChildren(...drawn);
      paper.replaceChildren(...(data.paper ? drawPaper() : []));
    };

    const drawPaper = () => {
      const marks = [s("line", { class: "wl-line wl-of-paper", x1: x(0), x2: x(most), y1: y(W.PAPER.dense), y2: y(W.PAPER.dense) })];
      for (const [name, place, value] of W.PAPER.points) {
        marks.push(s("circle", { class: "wl-open wl-of-paper", cx: x(place), cy: y(value), r: 4 }));
        if (name !== "SparseGPT") marks.push(s("text", { class: "wl-name wl-of-paper", x: x(place) + 9, y: y(value) + 4 }, `${name} ${value}`));
      }
      marks.push(s("text", { class: "wl-name wl-of-paper", x: x(1), y: y(W.PAPER.dense) - 5 }, W.say("view.paper_label")));
      return marks;
    };

    /** Draw all of it. shown: {dense, recipes: [{stored, measured, name, patterned}], at, places, words, paper}. */
    const show = (shown) => {
      data = shown;
      most = shown.at > MOST ? FARTHEST : MOST;
      const values = [shown.dense, ...shown.recipes.flatMap(({ stored, measured }) => [...stored, ...measured].map(([, point]) => point.perplexity))]
        .filter((value) => value && Number.isFinite(value));
      if (shown.paper) values.push(W.PAPER.dense);
      const low = values.length ? Math.min(...values) : 10;
      const high = Math.min(CEILING, Math.max(low * 30, ...values, 1000));
      scale = [Math.log(low * 0.82), Math.log(high * 1.15)];
      svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      drawAxes();
      drawLines();
      move(shown);
    };

    /** Move the handle alone. places: perplexity of each recipe there, null where unknown; words: of the whole place. */
    const move = ({ at, places: values, words }) => {
      now = at;
      if ((at > MOST) !== (most > MOST)) return show({ ...data, at, places: values, words });
      const cx = x(at);
      rule.setAttribute("x1", cx);
      rule.setAttribute("x2", cx);
      rule.setAttribute("y2", height - BOTTOM + 8);
      grip.setAttribute("transform", `translate(${Math.max(28, Math.min(width - 28, cx))} ${height - BOTTOM + 2})`);
      W.put(number, `${Math.round(10 * at) / 10}%`);
      places.replaceChildren(...values.flatMap((value, i) =>
        value === null ? [] : [s("circle", { class: `wl-place wl-of-${i}`, cx: x(value.at), cy: y(value.perplexity), r: 5.5 })]));
      handle.setAttribute("aria-valuenow", at);
      handle.setAttribute("aria-valuetext", words);
    };

    new ResizeObserver(() => {
      const [w, tall] = [element.clientWidth, Math.round(svg.getBoundingClientRect().height)];
      if (!w || (w === width && tall === height)) return;
      [width, height] = [w, tall];
      if (data) show(data);
    }).observe(element);
    return { element, show, move, focus: () => handle.focus() };
  };
})(window.WandaLab);
