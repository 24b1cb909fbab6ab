/* The static page: the first view over a stored run, the linears it holds, the channel that towers, and two weights. */
"use strict";
((W) => {
  const { h } = W;
  const FLAT = 240, TALL = 340; // pixels

  /** The strip of a still page: which lines of the run are looked at. It stands for `W.strip`. */
  const strip = (run) => ({ on }) => {
    const lines = W.linesOf(run).filter(({ recipe }) => recipe);
    let state = null;
    const first = h("select", { id: "wl-first", onchange: () => on.first(W.recipeOf(first.value)) });
    const against = h("select", { id: "wl-against", onchange: () => against.value && on.against(W.recipeOf(against.value)) });
    const chip = (words, control) => h("label", { class: "wl-chip-box" }, h("span", {}, words), control);
    const other = chip(W.say("view.against"), against);
    const element = h("div", { class: "wl-set wl-still" }, h("div", { class: "wl-strip wl-always", role: "group", "aria-label": W.say("view.recipe") },
      h("span", { class: "wl-chip-box wl-chip-model" }, h("span", {}, W.say("view.model")), h("b", { tabindex: String(run.made.model).length > 200 ? 0 : null }, run.made.model)),
      chip(W.say("view.recipe"), first), other));
    const option = ({ key, name }, selected) => h("option", { value: key, selected }, W.cut(name, 60));
    const show = (next) => {
      state = next;
      const [key, ...others] = state.recipes.map(W.keyOf);
      first.replaceChildren(...lines.map((line) => option(line, line.key === key)));
      const free = lines.filter((line) => line.key !== key && !others.includes(line.key));
      const summary = others.length ? state.recipes.slice(1).map(W.nameOf).join(", ") : W.say("view.against_nothing");
      const full = state.recipes.length >= W.MOST_RECIPES;
      against.replaceChildren(h("option", { value: "", selected: true }, W.cut(summary, 60)), ...(full ? [h("optgroup", { label: W.say("view.against_full") })] : free.map((line) => option(line, false))));
      other.hidden = lines.length < 2;
    };
    return { element, show };
  };

  /** The prompts of a still page: what was asked, and what else was. It stands for `W.prompts`. */
  const prompts = (given, _, on) => {
    const asked = h("p", { class: "wl-asked", id: "wl-asked", tabindex: 0, role: "group", "aria-label": W.say("view.prompt") });
    const chips = given.map((prompt) => [prompt, h("button", { type: "button", class: "wl-suggest", onclick: () => on.prompt(prompt.text, true) },
      prompt.id && W.has(`view.prompt_of.${prompt.id}`) ? W.say(`view.prompt_of.${prompt.id}`) : W.cut(prompt.text))]);
    const element = h("div", { class: "wl-row wl-asking wl-still-asking" }, asked, h("div", { class: "wl-suggests" }, chips.map(([, button]) => button)));
    const show = (state) => {
      W.put(asked, state.prompt ?? "");
      for (const [prompt, button] of chips) button.hidden = prompt.text === state.prompt;
      element.hidden = state.prompt === null;
    };
    return { element, show };
  };

  /** What the first view is told of a page that no server answers. learn: words of the door to the two weights. */
  W.still = (run) => {
    const start = W.lookedAt(run);
    const stored = new Map(W.linesOf(run).filter(({ recipe }) => recipe).map(({ key, line }) => [key, line]));
    const texts = (run.prompts || []).map(({ text }) => text);
    return {
      ...start,
      strip: strip(run), prompts, caption: W.say("leaf.site.caption"), source: W.measuredWords(run),
      doors: { href: (tab) => `#${tab}`, learn: W.say("leaf.site.learn") },
      /** What of an address is in this run. */
      address: (given) => {
        const recipes = (given.recipes || []).filter((recipe) => stored.has(W.keyOf(recipe)));
        return { ...given, recipes: recipes.length ? recipes : null, prompt: texts.includes(given.prompt) ? given.prompt : null };
      },
      /** The place nearest to a percent at which anything is known. */
      place: (recipes, at) => {
        if (W.nOfM(recipes[0].pattern)) return Math.round(W.atOf(recipes[0], at));
        const ends = recipes.map((recipe) => stored.get(W.keyOf(recipe))).filter((line) => line && line.at.length).map((line) => Math.max(...line.at));
        return Math.max(0, Math.min(Math.round(at), ...(ends.length ? [Math.max(...ends)] : [])));
      },
    };
  };

  /** The stored linears, one at a time: plane, all blocks, histograms, and why one weight is kept. */
  const scores = (run) => {
    const { linears, scores: all, made: { model } } = run;
    if (!linears?.length) return [];
    const recipes = ["wanda", "magnitude"].map((method) => W.recipe({ method })); // that its pictures show
    const names = recipes.map(W.short);
    const metrics = ["score", "size"];
    const finding = h("h3", { class: "wl-part-finding", id: "scores-finding" });
    const legend = W.legend(names);
    const figures = Object.fromEntries(["plane", "blocks", "by-score", "by-size"].map((name) => [name, W.figure(name)]));
    const told = h("section", { class: "wl-figure wl-told", id: "told" });
    const chosen = h("select", { id: "wl-linear", onchange: () => draw(linears[Number(chosen.value)]) }, linears.map(({ kind, block, sparsity }, i) =>
      h("option", { value: i }, W.say("leaf.site.linear", { kind, block, at: W.place(sparsity) }))));

    const draw = (linear) => {
      const { plane, kind, block } = linear;
      const where = { kind, block };
      const stems = recipes.map((recipe) => W.recipeStem(recipe, linear.sparsity));
      const taken = (name, rows) => ({ name: [model, name, kind, block, stems], rows, foot: `${model} · ${recipes.map((recipe) => W.title(recipe, linear.sparsity)).join(", ")}` });
      const loud = { first: W.percent(plane.loudest_tenth.first), second: W.percent(plane.loudest_tenth.second) };
      W.put(finding, plane.differ ? W.say("view.scores.finding", { differ: W.percent(plane.differ, 1), a: names[0], b: names[1], ...loud }) : W.say("view.scores.finding_same", { first: names[0], second: names[1] }));
      const marked = linear.told && { norm: Math.log10(linear.told.weight.norm), size: Math.log10(Math.abs(linear.told.weight.value)) };
      figures.plane.show({
        heading: W.say("view.scores.plane_slants", { first: names[0] }), caption: W.say("leaf.plane_text", where),
        drawing: W.fittedPlane(plane, TALL, { names, marked }),
        told: W.say("view.scores.plane_told", { column: plane.loudest.column, first: W.percent(plane.loudest.first), second: W.percent(plane.loudest.second), a: names[0], b: names[1] }),
        data: { ...taken("plane", () => W.planeRows(plane, stems)), legend: W.fateLegend(names) },
      });
      if (all) {
        const spread = W.spread(all, "score");
        figures.blocks.show({
          heading: spread ? W.say(spread.cut ? "view.scores.blocks_cut" : "view.scores.blocks_median", { factor: W.short3(spread.factor) }) : W.say("view.scores.blocks_none"),
          caption: spread ? W.say("leaf.site.blocks_text", { kind: all.kind, low: spread.low, high: spread.high }) : "",
          drawing: W.fitted((width) => W.blocks(all, "score", all.kind === kind ? block : null, { width, height: TALL, chosen: () => {} })),
          told: "", data: { ...taken("blocks-score", () => W.blockRows(all, "score")), name: [model, "blocks-score", all.kind] },
        });
      }
      figures.blocks.element.hidden = !all;
      for (const metric of metrics) {
        const counts = linear[metric];
        figures[`by-${metric}`].show({
          heading: W.say(counts.misplaced < 0.005 ? `view.scores.histogram_clean_${metric}` : `view.scores.histogram_${metric}`, { share: W.percent(counts.misplaced, 1), by: names[0] }),
          caption: W.say("view.scores.histogram_text", { ...where, by: W.capital(names[0]) }),
          drawing: W.fitted((width) => W.histogram(counts, metric, plane.cuts, { width, height: FLAT })),
          told: "", data: taken(`histogram-${metric}`, () => W.histogramRows(counts)),
        });
      }
      told.hidden = !linear.told;
      if (linear.told) {
        const words = W.weightWords(linear.told, names);
        told.replaceChildren(h("header", {}, h("h3", {}, words.heading)), h("p", { class: "wl-told-weight" }, words.weight.join(" ")), h("p", { class: "wl-twin" }, words.column), h("p", { class: "wl-twin" }, words.row));
      }
    };
    draw(linears[0]);
    return [h("div", { class: "wl-row wl-part-set" }, linears.length > 1 ? h("label", { class: "wl-chip-box" }, h("span", {}, W.say("view.scores.kind")), chosen) : null, legend), finding,
      h("div", { class: "wl-pairs" }, Object.values(figures).map(({ element }) => element)), told, W.masksPicture(run)];
  };

  /** Build the static page. leaf: of `59-start.js`. */
  W.site = (root, run, leaf) => {
    const told = W.tellings(run);
    const [w, x] = leaf.twoWeights;
    const tab = (name) => W.say(`page.tab.${name}`);
    const view = h("section", { class: "wl-part wl-part-first", id: "compare" });
    const parts = [
      W.part("scores", tab("scores"), scores(run)),
      W.part("outliers", tab("outliers"), [
        h("div", { class: "wl-pairs" }, [told.stream && W.pictured("stream", told.stream, (width) => W.streamFigure(run.stream, width, TALL)),
          told.ablation && W.pictured("ablation", told.ablation, W.ablationFigure(run.ablation))].filter(Boolean))].filter(() => told.stream || told.ablation)),
      W.part("learn", tab("learn"), h("p", { class: "wl-lead" }, W.say("leaf.toy.lead")), W.toy(run.toy || { w, x })),
    ].filter(Boolean);
    const links = [["compare", tab("compare")], ...parts.map(({ id }) => [id, tab(id)])];
    root.append(W.leafHead(leaf, run, { links, print: false }),
      h("main", { class: "wl-site" }, h("h1", { class: "wl-hidden" }, W.say("leaf.site.title", { model: run.made.model })), view, ...parts,
        h("footer", { class: "wl-leaf-foot" }, h("p", {}, W.say("leaf.site.made_by")), h("p", {}, h("code", {}, "wanda-lab app"), " · ", h("a", { href: "https://arxiv.org/abs/2306.11695", rel: "noreferrer" }, "arXiv 2306.11695")))));
    document.title = `${W.cut(run.made.model, 100)} · ${W.say("leaf.name")}`;
    if (W.linesOf(run).some(({ recipe }) => recipe)) W.mount(view, { replay: run, still: W.still(run) }, W.goTo);
    else view.append(h("h2", {}, run.made.model), h("p", {}, W.say("leaf.unknown_recipes")), W.pointTables(run));
  };
})(window.WandaLab);
