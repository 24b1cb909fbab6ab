/* Where the masks of the recipes on the page part: every block and kind of linear, and the whole model. */
"use strict";
((W) => {
  const { h, s } = W;
  const [WIDTH, ROW, LEFT, TOP] = [1120, 24, 190, 6];

  const draw = (masks, place) => {
    const differ = masks.differ[place];
    const blocks = differ[0].length;
    const w = (WIDTH - LEFT - 8) / blocks;
    const bottom = TOP + ROW * masks.kinds.length;
    const most = Math.max(1e-6, ...differ.flat().filter((value) => value !== null));
    const cells = differ.map((row, i) => row.map((value, j) => value === null ? null : s("rect", { class: "wl-cell wl-cell-first", x: (LEFT + w * j).toFixed(1), y: TOP + ROW * i, width: (w - 1).toFixed(1), height: ROW - 1, opacity: (0.05 + (0.95 * value) / most).toFixed(2) }, s("title", {}, W.say("view.masks.cell", { kind: masks.kinds[i], block: j, share: W.percent(value, 1) })))));
    const every = Math.ceil(blocks / 16);
    return s("svg", { viewBox: `0 0 ${WIDTH} ${bottom + 40}`, class: "wl-masks", "aria-hidden": "true" }, ...cells.flat().filter(Boolean),
      ...masks.kinds.map((kind, i) => s("text", { class: "wl-tick", x: LEFT - 8, y: TOP + ROW * (i + 0.5) + 4, "text-anchor": "end" }, kind)),
      ...Array.from({ length: blocks }, (_, j) => (j % every ? null : s("text", { class: "wl-tick", x: LEFT + w * (j + 0.5), y: bottom + 16, "text-anchor": "middle" }, j))).filter(Boolean),
      s("text", { class: "wl-tick", x: (LEFT + WIDTH) / 2, y: bottom + 34, "text-anchor": "middle" }, W.say("view.scores.block_axis")));
  };

  /** Build the figure. start(): compares the recipes of the page. */
  W.maskFigure = (start) => {
    const figure = W.figure("masks");
    const pair = h("select", { id: "masks-pair", "aria-label": W.say("view.masks.pair"), onchange: () => last && show(...last) });
    const go = h("button", { type: "button", class: "wl-secondary", id: "compare-masks", onclick: start });
    figure.more.prepend(h("label", { class: "wl-chip-box" }, pair), go);
    let last = null;
    /** message: {titles, masks, progress, problem} of the recipes on the page, null before; replay: the stored run. */
    const show = (message, replay) => {
      last = [message, replay];
      const stored = replay.masks;
      const masks = message?.masks || stored;
      const at = replay.scores.sparsity;
      const asStored = ["wanda", "magnitude"].map((method) => W.recipe({ method }));
      const titles = message?.masks ? message.titles : asStored.map((recipe) => W.title(recipe, at));
      const model = message?.masks ? W.looked().title : replay.made.model;
      const stems = message?.masks ? message.stems : asStored.map((recipe) => W.recipeStem(recipe, at));
      const options = masks.pairs.map(([a, b]) => `${titles[a]} – ${titles[b]}`);
      if (pair.dataset.of !== options.join("|")) {
        pair.dataset.of = options.join("|");
        pair.replaceChildren(...options.map((words, i) => h("option", { value: i }, words)));
      }
      pair.parentElement.hidden = options.length < 2;
      const place = Number(pair.value) || 0;
      const [a, b] = masks.pairs[place].map((which) => titles[which]);
      const flat = masks.differ[place].flatMap((row, i) => row.map((value, j) => [value, masks.kinds[i], j])).filter(([value]) => value !== null);
      const top = flat.reduce((best, one) => (one[0] > best[0] ? one : best));
      W.put(go, W.say(message && !message.ended ? "view.masks.stop" : "view.masks.compare"));
      const under = Boolean(message && !message.ended);
      figure.element.classList.toggle("wl-stale", under);
      figure.element.setAttribute("aria-busy", String(under));
      figure.show({
        heading: W.say("view.masks.title", { a, b, share: W.percent(masks.overall[place], 1) }),
        caption: message?.problem || message?.progress?.words || W.say(message?.masks ? "view.masks.text" : "view.masks.text_stored", { kind: top[1], block: top[2], share: W.percent(top[0], 1) }),
        drawing: draw(masks, place), told: "",
        data: {
          name: [model, "masks", stems], foot: `${model} · ${titles.join(", ")}`,
          rows: () => [["kind", "block", ...masks.pairs.map((which) => `differ_${which.map((i) => stems[i]).join("_")}`)], ...masks.kinds.flatMap((kind, i) => masks.differ[0][i].map((_, j) => [kind, j, ...masks.differ.map((of) => of[i][j])]))],
        },
      });
    };
    return { element: figure.element, show };
  };
})(window.WandaLab);
