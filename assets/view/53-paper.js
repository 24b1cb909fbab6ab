/* What a page without a server is made of, be it report or site: its head, its figures, what can be taken from it. */
"use strict";
((W) => {
  const { h, s } = W;
  const SHOWN = 40; // characters of a name inside a drawing
  const LEAST = 460; // pixels that the words of a plane need

  /** A number as it stands in the run, to five digits, with a mark at thousands. */
  W.exact = (value) => {
    if (value === null || value === undefined) return "–";
    return value >= 1e300 ? "∞" : value.toLocaleString("en", { maximumSignificantDigits: 5 });
  };
  W.cut = (text, most = SHOWN) => (text.length > most ? `${text.slice(0, most)}…` : text);
  /** The percent of a place as it is said: 45%, 33.3%. */
  W.place = (at) => `${Math.round(at * 10) / 10}%`;

  /** Draw again whenever the width changes. draw(width): an element. */
  W.fitted = (draw, kind = "") => {
    const element = h("div", { class: `wl-fitted ${kind}` });
    let width = 0;
    const show = (now) => {
      if (!now || now === width) return;
      width = now;
      element.replaceChildren(draw(now));
    };
    new ResizeObserver(([{ contentRect }]) => show(Math.round(contentRect.width))).observe(element);
    return element;
  };

  /** The head of a page without a server. leaf: {language, languages, change(language)}; links: [[id, words]]. */
  W.leafHead = (leaf, run, { links, print }) => {
    const codes = Object.keys(leaf.languages);
    const next = codes[(codes.indexOf(leaf.language) + 1) % codes.length];
    const quiet = (id, words, onclick, more = {}) => h("button", { type: "button", class: "wl-quiet", id, onclick, ...more }, words);
    return h("header", { class: "wl-head-in wl-leaf-head" },
      h("p", { class: "wl-brand" }, W.say("leaf.name")),
      links.length ? h("nav", { class: "wl-leaf-links", "aria-label": W.say("leaf.parts") }, links.map(([id, words]) => h("a", { href: `#${id}`, onclick: (event) => { event.preventDefault(); W.goTo(id); } }, words))) : null,
      h("div", { class: "wl-switches" },
        quiet("save-run", W.say("leaf.save"), () => W.save(`${W.fileName(run, "run")}.json`, JSON.stringify(run), "application/json")),
        print ? quiet("print", W.say("leaf.print"), () => window.print()) : null,
        next === leaf.language ? null : quiet("language-switch", leaf.languages[next].name, () => leaf.change(next), { lang: next }),
        quiet("theme-switch", "◐", () => { leaf.dark = document.body.classList.toggle("dark"); }, { "aria-label": W.say("page.theme"), title: W.say("page.theme") })));
  };
  /** Bring a part of the page into sight, and the reader of the screen to its heading. */
  W.goTo = (id) => {
    const part = document.getElementById(id);
    if (!part) return;
    part.scrollIntoView({ block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    const heading = part.querySelector("h2");
    heading?.setAttribute("tabindex", "-1");
    heading?.focus({ preventScroll: true });
  };

  /** A part of the page, null where it has nothing to show. */
  W.part = (id, heading, ...children) => {
    const held = children.flat().filter(Boolean);
    return held.length ? h("section", { class: "wl-part", id }, h("h2", {}, heading), held) : null;
  };
  /** A figure with its control to take it away. told: {title, text, twin, data} of `W.tellings`; draw(width): its drawing, or an element. */
  W.pictured = (name, { title, text, twin, data }, draw, kind = "") => {
    const figure = W.figure(name);
    figure.show({ heading: title, caption: [text, twin].filter(Boolean).join(" "), drawing: draw instanceof Element ? draw : W.fitted(draw), told: "", data });
    if (kind) figure.element.classList.add(kind);
    return figure.element;
  };
  /** A plane as wide as there is room; below some width its words become smaller instead of lying over each other. */
  W.fittedPlane = (plane, height, more) => W.fitted((width) => W.plane(plane, { width: Math.max(LEAST, width), height, ...more }).svg);
  /** What the colours of a plane mean. names: of its two recipes. */
  W.legend = (names) => h("ul", { class: "wl-legend", "aria-label": W.say("view.scores.legend") }, ["both", "first", "second", "neither"].map((kind, i) =>
    h("li", {}, h("i", { class: `wl-swatch wl-cell-${kind}` }), W.say(`view.scores.${["both", "alone", "alone", "neither"][i]}`, { by: names[i - 1] }))));
  /** Where the masks of a run's first pair differ, null where it does not tell. */
  W.masksPicture = (run) => {
    const { masks, scores, linears } = run;
    if (!masks) return null;
    const at = scores?.sparsity ?? linears?.[0]?.sparsity ?? null;
    const recipes = ["wanda", "magnitude"].map((method) => W.recipe({ method }));
    const titles = recipes.map((recipe) => (at === null ? W.capital(W.short(recipe)) : W.title(recipe, at)));
    const told = {
      title: W.say("view.masks.title", { a: titles[0], b: titles[1], share: W.percent(masks.overall[0], 1) }), text: W.say("view.masks.text", W.mostApart(masks, 0)),
      data: W.maskData(masks, run.made.model, titles, recipes.map((recipe) => W.recipeStem(recipe, at ?? 0))),
    };
    return W.pictured("masks", told, h("div", { class: "wl-scroll", tabindex: 0, role: "region", "aria-label": W.say("leaf.masks") }, W.maskPicture(masks, 0)), "wl-wide");
  };

  W.BUILTIN_SOURCE = null; // what the engine calls the built-in text
  /** What a calibration was drawn from, in words. */
  W.sourceOf = ({ source }) => (source === W.BUILTIN_SOURCE ? W.say("leaf.builtin_text") : source);
  /** In a sentence how a run was measured; parts that it does not tell are left out. */
  W.measuredWords = ({ made }) => {
    const drawn = made.calibration;
    return [
      W.say("leaf.run_of", { model: made.model, date: made.date }),
      drawn ? W.say("leaf.calibrated", { source: W.sourceOf(drawn), samples: drawn.samples, seq_len: drawn.seq_len }) : null,
      made.windows ? W.say("leaf.measured", { windows: made.windows, tokens: made.seq_len }) : null,
    ].filter(Boolean).join(" ");
  };

  // The curve of all lines ------------------------------------------------------------------------------------------
  const TOP = 16, BOTTOM = 44, LEFT = 64, RIGHT = 18, CEILING = 1.2e5, APART = 15; // pixels, perplexity
  const LETTER = 8.6, WIDE = 14; // pixels of a letter, and of one of Korean or Chinese

  /** Move labels apart that would lie over each other: [{x, y, width}] by y. */
  const spread = (labels) => {
    const placed = [];
    for (const label of labels.sort((a, b) => a.y - b.y)) {
      const over = () => placed.find((other) => Math.abs(other.y - label.y) < APART && label.x < other.x + other.width && other.x < label.x + label.width);
      for (let hit = over(); hit; hit = over()) label.y = hit.y + APART;
      placed.push(label);
    }
    return placed;
  };

  /** Draw every line of a run, in a picture that needs no hand. lines: of `W.linesOf`, the `looked` ones that are looked
   * at, at a percent, first. */
  W.curvePicture = ({ dense, lines, looked, at }, width) => {
    const height = width < 560 ? 300 : 360;
    const places = lines.flatMap(({ line }) => line.at);
    const most = Math.max(10, Math.ceil(Math.max(...places, at) / 10) * 10);
    const values = [dense, ...lines.flatMap(({ line }) => line.perplexity)];
    const low = Math.min(...values), high = Math.min(CEILING, Math.max(low * 3, ...values));
    const scale = [Math.log(low * 0.86), Math.log(high * 1.15)];
    const x = (place) => LEFT + ((width - LEFT - RIGHT) * place) / most;
    const y = (value) => height - BOTTOM - (height - BOTTOM - TOP) * ((Math.log(Math.min(value, CEILING)) - scale[0]) / (scale[1] - scale[0]));
    const marks = [], drawn = [], labels = [];
    /** Name a line beside its last point, or where there is no room, above it or below. */
    const label = (text, kind, px, py, beside) => {
      const shown = W.cut(text);
      const wide = [...shown].reduce((sum, letter) => sum + (letter > "\u2e80" ? WIDE : LETTER), 0);
      const fits = beside && px + 9 + wide < width;
      const y = fits ? py + 4 : py < TOP + 24 ? py + 20 : py - 10;
      labels.push({ text: shown, kind, x: Math.max(LEFT + 4, fits ? px + 9 : Math.min(px, width - RIGHT) - wide), y, width: wide });
    };
    for (const [power, words] of W.ticks(scale[0] / Math.LN10, scale[1] / Math.LN10, 7)) {
      const level = y(10 ** power);
      marks.push(s("line", { class: "wl-grid", x1: LEFT, x2: width - RIGHT, y1: level, y2: level }), s("text", { class: "wl-tick", x: LEFT - 8, y: level + 4, "text-anchor": "end" }, words));
    }
    for (let place = 0; place <= most; place += width < 560 ? 20 : 10) marks.push(s("text", { class: "wl-tick", x: x(place), y: height - 22, "text-anchor": "middle" }, `${place}%`));
    marks.push(s("text", { class: "wl-tick", x: (LEFT + width - RIGHT) / 2, y: height - 4, "text-anchor": "middle" }, W.say("leaf.removed_axis")));
    drawn.push(s("line", { class: "wl-line wl-of-dense", x1: x(0), x2: x(most), y1: y(dense), y2: y(dense) }));
    label(W.say("view.dense_label", { perplexity: W.number(dense) }), "dense", x(most), y(dense) + 3, false);
    lines.forEach(({ line, name }, i) => {
      const points = line.at.map((place, j) => [x(place), y(line.perplexity[j])]);
      const kind = i < looked ? i : Math.min(7, Math.max(3, i));
      if (points.length > 1) drawn.push(s("path", { class: `wl-line wl-of-${kind}`, d: points.map(([px, py], j) => `${j ? "L" : "M"}${px.toFixed(1)} ${py.toFixed(1)}`).join("") }));
      points.forEach(([px, py], j) => {
        const here = i < looked && line.at[j] === at;
        drawn.push(s("circle", { class: `${points.length > 1 ? (here ? "wl-place" : "wl-point") : "wl-open"} wl-of-${kind}`, cx: px.toFixed(1), cy: py.toFixed(1), r: points.length > 1 && !here ? 2.4 : 5 }));
      });
      label(name, kind, ...points[points.length - 1], true);
    });
    const rule = !looked ? [] : [s("line", { class: "wl-rule", x1: x(at), x2: x(at), y1: TOP, y2: height - BOTTOM }), s("text", { class: "wl-tick wl-here", x: x(at), y: TOP - 4, "text-anchor": "middle" }, W.place(at))];
    return s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, class: "wl-run-curve", "aria-hidden": "true" }, ...marks, ...rule, ...drawn,
      ...spread(labels).map(({ text, kind, x: left, y: base }) => s("text", { class: `wl-name wl-of-${kind}`, x: left.toFixed(1), y: Math.min(height - BOTTOM - 4, base).toFixed(1) }, text)));
  };
})(window.WandaLab);
