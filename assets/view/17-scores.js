/* Scores: why two recipes keep different weights, from all blocks down to a single weight. */
"use strict";
((W) => {
  const { h } = W;
  const WAIT = 120, AGAIN = 800; // milliseconds before a changed place is asked for, and before one asks again
  const FIGURE = [560, 340], FLAT = [560, 240];

  /**
   * Build the view. page: {state(): {model, title, at, recipes as they are sent, live, stored}, moved(at), prune(), masks(
   * start)}; address: {kind, block, weight: [row, column]} to begin with. -> {changed(), opened(), agreed(message)}
   */
  W.scores = (root, replay, page, address) => {
    const stored = replay.linears;
    const first = stored.find(({ block, kind }) => kind === (address.kind || kind) && block === address.block) || stored[0];
    const state = {
      kind: address.kind || first.kind, block: address.block ?? first.block, weight: address.weight, metric: "score", mode: "differ", sorted: true, only: false,
      linear: null, all: null, told: null, shown: null, old: false, waiting: false, note: "",
    };
    let [asked, askedAll, number, open] = ["", "", 0, 0];
    /** Ask, and say meanwhile that more is to come. */
    const question = async (data) => {
      open += 1;
      root.setAttribute("aria-busy", "true");
      const answer = await W.post("scores", data);
      open -= 1;
      root.setAttribute("aria-busy", String(open > 0));
      return answer;
    };

    // What is shown: {names, metrics, linear, live}
    const names = (recipes) => recipes.map((recipe, i) => (recipes.some((other, j) => j !== i && other.method === recipe.method) ? W.title(recipe, recipe.at) : W.short(recipe)));
    const pair = () => {
      const { recipes } = page.state();
      return recipes;
    };
    const asStored = () => {
      const held = stored.find(({ kind, block }) => kind === state.kind && block === state.block) || stored[0];
      const recipes = ["wanda", "magnitude"].map((method) => ({ ...W.recipe({ method }), at: held.sparsity }));
      return { linear: held, all: replay.scores, told: held.told || null, recipes, at: held.sparsity, kind: held.kind, block: held.block };
    };
    const shown = () => state.shown || asStored();

    // Elements --------------------------------------------------------------------------------------------------------
    const select = (id, words, change) => {
      const box = h("select", { id, onchange: () => change(box.value) });
      return { box, element: h("label", { class: "wl-chip-box" }, h("span", {}, words), box) };
    };
    const fill = (box, options, value) => {
      const key = JSON.stringify(options);
      if (box.dataset.of !== key) {
        box.dataset.of = key;
        box.replaceChildren(...options.map(([name, words]) => h("option", { value: name }, words)));
      }
      box.value = value;
    };
    const which = h("span", { class: "wl-chip-words", id: "scores-pair" });
    const blockBox = select("scores-block", W.say("view.scores.block"), (value) => choose({ block: Number(value) }));
    const kindBox = select("scores-kind", W.say("view.scores.kind"), (value) => choose({ kind: value }));
    const at = h("input", { type: "range", id: "scores-at", min: 0, max: 95, step: 1, "aria-label": W.say("view.handle") });
    const atWords = h("b", {});
    at.addEventListener("input", () => page.moved(Number(at.value)));
    const legend = h("ul", { class: "wl-legend", "aria-label": W.say("view.scores.legend") });
    const note = h("p", { class: "wl-note", id: "scores-note", role: "status" });
    const finding = h("h2", { class: "wl-finding-main", id: "scores-finding" });
    const plane = W.figure("plane");
    const planeWhy = h("span", {});
    const planeSaid = h("p", { class: "wl-note", id: "plane-asked", hidden: true }, planeWhy, " ",
      h("a", { href: "#ask-weight", class: "wl-go-on", onclick: (event) => { event.preventDefault(); asking.element.scrollIntoView({ block: "center" }); asking.element.querySelector("input").focus({ preventScroll: true }); } }, W.say("view.scores.why_below")));
    plane.element.append(planeSaid);
    const blocks = W.figure("blocks");
    const [byScore, bySize] = [W.figure("by-score"), W.figure("by-size")];
    const metricBox = select("scores-metric", W.say("view.scores.metric"), (value) => { state.metric = value; draw(); });
    blocks.more.prepend(metricBox.element);
    const asking = W.asking((how) => askWeight(how));

    const tiles = new W.Tiles((level, places, sorted) => fetchTiles(level, places, sorted));
    const look = () => {
      const { told } = shown();
      const mark = told ? [told.weight.row, state.sorted ? told.place ?? null : told.weight.column] : null;
      return { sorted: state.sorted, mode: state.mode, only: state.only, mark: mark && mark[1] !== null ? mark : null };
    };
    let windowOf = null;
    const near = W.matrix(tiles, look, {
      asked: (row, place) => askWeight({ how: "place", row, place }),
      told: (row, place) => W.put(nearCell, W.say(state.sorted ? "view.scores.cell_sorted" : "view.scores.cell", { row, place: W.ordinal(tiles.columns - place), column: place, columns: tiles.columns.toLocaleString("en") })),
      moved: (view) => { windowOf = [view.left, view.top, view.width, view.height]; whole.drawSoon(); tellNear(view); },
    }, { label: W.say("view.scores.near_label") });
    const whole = W.matrix(tiles, () => ({ ...look(), only: false, window: windowOf }), {
      asked: (row, place) => near.reveal(row, place, true), moved: () => {},
    }, { label: W.say("view.scores.whole_label"), still: true });
    const modeBox = select("scores-mode", W.say("view.scores.show"), (value) => { state.mode = value === "differ" || value === "only" ? "differ" : Number(value); state.only = value === "only"; tiles.recolour(); redraw(); });
    const orderBox = select("scores-order", W.say("view.scores.columns"), (value) => { state.sorted = value === "norm"; draw(); goTo(false); });
    const zoomOut = h("button", { type: "button", class: "wl-suggest", "aria-label": W.say("view.scores.zoom_out"), onclick: () => near.zoom(1 / 1.6) }, "−");
    const zoomIn = h("button", { type: "button", class: "wl-suggest", "aria-label": W.say("view.scores.zoom_in"), onclick: () => near.zoom(1.6) }, "+");
    const [wholeTitle, wholeWords, nearTitle, nearWords, nearCell] = [h("h3"), h("p"), h("h3", {}, W.say("view.scores.near_title")), h("p"), h("p", { class: "wl-hidden", role: "status" })];
    const ends = h("p", { class: "wl-rank-ends", "aria-hidden": "true" }, h("span"), h("span"));
    let takenOf = null; // what is taken away of the weights
    const saver = (matrix, title, caption, whole) => {
      const of = () => takenOf(whole);
      const take = W.take({ node: () => matrix.canvas, title: () => title.textContent, caption: () => caption.textContent, name: () => of().name, rows: () => of().rows(matrix.shown()), legend: () => (matrix.shown().level ? [] : of().legend), foot: () => of().foot });
      take.named(title.textContent);
      return take;
    };
    const [wholeTake, nearTake] = [saver(whole, wholeTitle, wholeWords, true), saver(near, nearTitle, nearWords, false)];
    const masks = W.maskFigure(() => page.masks());
    const source = h("p", { class: "wl-source" });

    root.append(
      h("div", { class: "wl-set wl-scores-strip" }, h("div", { class: "wl-strip wl-always" }, which,
        h("label", { class: "wl-chip-box wl-at" }, h("span", {}, W.say("view.removed")), at, atWords), blockBox.element, kindBox.element), legend),
      note, finding,
      h("div", { class: "wl-pairs" }, plane.element, blocks.element, byScore.element, bySize.element),
      h("div", { class: "wl-pairs wl-weights" },
        h("section", { class: "wl-figure" }, h("header", {}, wholeTitle, wholeTake.element), wholeWords, whole.element, ends),
        h("section", { class: "wl-figure" }, h("header", {}, nearTitle, nearTake.element), nearWords, near.element, nearCell, h("div", { class: "wl-row wl-near-set" }, modeBox.element, orderBox.element, zoomOut, zoomIn))),
      asking.element, masks.element, source,
    );

    // Drawing ---------------------------------------------------------------------------------------------------------
    const findingOf = ({ linear }, them) => {
      const { plane: of } = linear;
      const loud = { first: W.percent(of.loudest_tenth.first), second: W.percent(of.loudest_tenth.second) };
      if (them.length < 2) return W.say("view.scores.finding_one", { by: W.capital(them[0]), removed: W.percent(1 - linear.kept[0]), loud: loud.first });
      if (!of.differ) return W.say("view.scores.finding_same", { first: them[0], second: them[1] });
      return W.say("view.scores.finding", { differ: W.percent(of.differ, 1), a: them[0], b: them[1], first: loud.first, second: loud.second });
    };

    const sensitiveWords = (all) => {
      const found = W.sensitivity(all);
      return found ? ` ${W.say("view.scores.sensitive", { most: found.most.block, loss: W.short3(found.most.loss), share: W.percent(found.most.share), least: found.least.block, less: W.short3(found.least.loss), more: W.percent(found.least.share) })}` : "";
    };

    const draw = () => {
      const view = shown();
      const { linear, all, told, recipes } = view;
      const them = names(recipes);
      const two = recipes.length > 1;
      if (!two && state.mode === "differ") [state.mode, state.only] = [0, false];
      const { title, model, at: percent, recipes: wanted } = page.state();
      root.classList.toggle("wl-stale", state.old);
      W.put(which, wanted.map((recipe, i) => W.say(i ? "view.scores.against" : "view.scores.looked_at", { title: W.title(recipe, recipe.at) })).join(" "));
      if (document.activeElement !== at) at.value = percent;
      at.disabled = wanted.every((recipe) => W.nOfM(recipe.pattern));
      W.put(atWords, `${percent}%`);
      const kinds = state.kinds || [...new Set(stored.map(({ kind }) => kind))];
      fill(kindBox.box, kinds.map((kind) => [kind, kind]), state.kinds ? state.kind : view.kind);
      fill(blockBox.box, (state.blocks || stored.map(({ block }) => block).sort((a, b) => a - b)).map((block) => [block, block]), state.blocks ? state.block : view.block);
      fill(metricBox.box, [["score", "|W|·‖X‖"], ["size", "|W|"]], state.metric);
      fill(modeBox.box, [...(two ? [["differ", W.say("view.scores.show_both")], ["only", W.say("view.scores.show_only")]] : []), ...recipes.map((recipe, i) => [String(i), W.title(recipe, recipe.at)])], state.only ? "only" : String(state.mode));
      fill(orderBox.box, [["norm", W.say("view.scores.by_norm")], ["stored", W.say("view.scores.as_stored")]], state.sorted ? "norm" : "stored");
      orderBox.box.disabled = modeBox.box.disabled = !state.shown;
      legend.replaceChildren(...W.fateLegend(them).map(([colour, words]) => h("li", {}, h("i", { class: "wl-swatch", style: `background:var(--wl-${colour})` }), words)));
      W.put(finding, findingOf(view, them));
      W.put(note, state.note || (state.shown ? "" : W.say("view.scores.stored", { model: replay.made.model, at: `${view.at}%`, date: replay.made.date })));

      const where = { kind: view.kind, block: view.block };
      const stems = recipes.map((recipe) => W.recipeStem(recipe, recipe.at));
      const of = state.shown ? title || model : replay.made.model;
      const taken = (...name) => ({ name: [of, name], foot: [of, recipes.map((recipe) => W.title(recipe, recipe.at)).join(", ")].join(" · ") });
      takenOf = (level) => ({ ...taken(level ? "weights" : "single-weights", view.kind, view.block, stems), rows: (shown) => W.tileRows(tiles, shown, state.sorted, stems), legend: W.fateLegend(state.mode === "differ" ? them : [them[state.mode]]) });
      const [a, b] = linear.plane.cuts;
      const slants = a?.metric === "score" && b?.metric === "size";
      const marked = told && { norm: Math.log10(told.weight.norm), size: Math.log10(Math.abs(told.weight.value)) };
      const rowCut = told && a?.metric === "score" && a.high > a.low ? told.row.score_cuts[0] : 0;
      const drawn = W.plane(linear.plane, { width: FIGURE[0], height: FIGURE[1], names: them.slice(0, 2), marked, row: rowCut > 0 ? { metric: "score", at: Math.log10(rowCut) } : null });
      drawn.svg.addEventListener("click", (event) => {
        const place = drawn.place(event);
        if (place) askWeight({ how: "plane", norm: place[0], size: place[1] });
      });
      plane.show({
        heading: W.say(slants ? "view.scores.plane_slants" : two ? "view.scores.plane_two" : "view.scores.plane_one", { first: them[0], second: them[1] }),
        caption: W.say("view.scores.plane_text", where) + (rowCut > 0 ? ` ${W.say("view.scores.plane_lines")}` : ""), drawing: drawn.svg,
        told: W.say("view.scores.plane_told", { column: linear.plane.loudest.column, first: W.percent(linear.plane.loudest.first), second: W.percent(linear.plane.loudest.second), a: them[0], b: them[1] ?? them[0] }),
        data: { ...taken("plane", view.kind, view.block, stems.slice(0, 2)), rows: () => W.planeRows(linear.plane, stems), legend: W.fateLegend(them) },
      });
      const spread = W.spread(all, state.metric);
      const late = Boolean(state.shown) && state.shown.allOf !== state.key; // of what was looked at before
      blocks.show({
        heading: late ? W.say("view.scores.blocks_wait", { kind: view.kind }) : spread ? W.say(spread.cut ? "view.scores.blocks_cut" : "view.scores.blocks_median", { factor: W.short3(spread.factor) }) : W.say("view.scores.blocks_none"),
        caption: spread && !late ? W.say(spread.cut ? "view.scores.blocks_text" : "view.scores.blocks_text_whole", { kind: all.kind, low: spread.low, high: spread.high }) + sensitiveWords(all) : "",
        drawing: W.blocks(all, state.metric, late ? null : state.block, { width: FIGURE[0], height: FIGURE[1], chosen: (block) => choose({ block }) }),
        told: "", data: { ...taken("blocks", all.kind, state.metric, stems.slice(0, 2)), rows: () => W.blockRows(all, state.metric), legend: W.fateLegend(them.slice(0, 1)) },
      });
      const histogram = (figure, metric, counts) => figure.show({
        heading: W.say(counts.misplaced < 0.005 ? `view.scores.histogram_clean_${metric}` : `view.scores.histogram_${metric}`, { share: W.percent(counts.misplaced, 1), by: them[0] }),
        caption: W.say("view.scores.histogram_text", { ...where, by: W.capital(them[0]) })
          + (linear.plane.cuts.slice(0, recipes.length).some((cut) => W.cutOn(cut, metric) !== null) ? ` ${W.say("view.scores.histogram_lines")}` : W.nOfM(recipes[0].pattern) ? ` ${W.say("view.scores.histogram_pattern")}` : ""),
        drawing: W.histogram(counts, metric, linear.plane.cuts, { width: FLAT[0], height: FLAT[1] }), told: "",
        data: { ...taken("histogram", metric, view.kind, view.block, stems[0]), rows: () => W.histogramRows(counts), legend: W.fateLegend(them.slice(0, 1)) },
      });
      blocks.element.classList.toggle("wl-stale", late);
      histogram(byScore, "score", linear.score);
      histogram(bySize, "size", linear.size);
      W.put(wholeTitle, two ? wholeHeading(linear.plane, them) : W.say("view.scores.whole_one", { by: them[0] }));
      wholeTake.named(wholeTitle.textContent);
      W.put(wholeWords, W.say(state.mode === "differ" && two ? "view.scores.whole_text" : "view.scores.whole_text_one", { rows: linear.rows.toLocaleString("en"), columns: linear.columns.toLocaleString("en"), first: them[0], second: them[1] }));
      ends.replaceChildren(h("span", {}, W.say(state.sorted ? "view.scores.quiet_end" : "view.scores.first_end")), h("span", {}, W.say(state.sorted ? "view.scores.loud_end" : "view.scores.last_end")));
      asking.show(told, them, linear.rows, linear.columns);
      planeSaid.hidden = !told;
      if (told) W.put(planeWhy, W.say("view.scores.plane_asked", { row: told.weight.row, column: told.weight.column, words: W.weightWords(told, them).heading }));
      masks.show(state.agreed, replay);
      W.put(source, state.shown ? W.say("view.scores.live", { model: title || model }) : W.say("view.stored_run", { model: replay.made.model, date: replay.made.date, samples: replay.made.calibration.samples, seq_len: replay.made.calibration.seq_len, windows: replay.made.windows, tokens: replay.made.seq_len }));
      redraw();
    };
    const wholeHeading = ({ loudest_tenth: loud }, them) => W.say(
      Math.abs(loud.first - loud.second) < 0.005 ? "view.scores.whole_alike" : "view.scores.whole_loud", { by: loud.first > loud.second ? them[0] : them[1] });
    const redraw = () => { near.drawSoon(); whole.drawSoon(); };
    const tellNear = (view) => {
      const [top, bottom] = [Math.ceil(view.top), Math.floor(Math.min(tiles.rows, view.top + view.height)) - 1];
      const [left, right] = [Math.ceil(view.left), Math.floor(Math.min(tiles.columns, view.left + view.width)) - 1];
      W.put(nearWords, W.say(state.sorted ? "view.scores.near_text" : "view.scores.near_text_stored", { top, bottom, left, right, count: Math.max(1, right - left + 1), columns: tiles.columns.toLocaleString("en") }));
    };

    // Asking ----------------------------------------------------------------------------------------------------------
    const about = () => {
      const { model, recipes } = page.state();
      return { model, recipes, kind: state.kind, block: state.block };
    };
    const keyOf = ({ model, recipes, kind, block }) => JSON.stringify([model, recipes.map((recipe) => [W.keyOf(recipe), recipe.at]), kind, block]);
    const refresh = async () => {
      const { live, recipes } = page.state();
      if (!page.open() || !live || !recipes.length) return;
      const given = about();
      const key = keyOf(given);
      if (key === asked) return;
      asked = key;
      state.old = true;
      root.classList.add("wl-stale");
      const answer = await question({ what: "linear", ...given });
      if (asked !== key) return; // the place has changed meanwhile
      if (answer.wait || answer.missing || answer.problem) {
        asked = "";
        state.note = answer.problem || W.say(answer.wait ? "view.scores.wait" : "view.scores.missing", { title: (answer.missing || []).map((id) => recipes.find((recipe) => recipe.id === id)).filter(Boolean).map((recipe) => W.title(recipe, recipe.at)).join(", ") });
        if (answer.wait) setTimeout(refresh, AGAIN);
        if (answer.wait && !answer.loaded && state.missed !== given.model) { // it made room for another visitor's
          state.missed = given.model;
          page.reopen();
        }
        state.blocked = answer.missing ? key : "";
        if (answer.kinds) [state.kinds, state.blocks] = [answer.kinds, answer.blocks];
        return draw();
      }
      const before = shown();
      const moved = !state.shown || before.kind !== answer.kind || before.block !== answer.block || state.of !== given.model;
      Object.assign(state, { kind: answer.kind, block: answer.block, kinds: answer.kinds, blocks: answer.blocks, old: false, note: "", missed: "", of: given.model, key });
      state.asked = { ...given, kind: answer.kind, block: answer.block };
      const { all } = before;
      const sameAll = state.shown?.allOf && JSON.stringify([given.model, given.recipes.slice(0, 2), answer.kind]) === askedAll;
      state.shown = { linear: answer.linear, all, allOf: sameAll ? key : "", told: moved ? null : before.told, recipes, at: page.state().at, kind: answer.kind, block: answer.block };
      if (state.mode !== "differ" && (state.mode >= recipes.length || (state.single && recipes.length > 1))) state.mode = "differ";
      state.single = recipes.length < 2;
      asked = keyOf(about());
      tiles.clear(answer.linear.rows, answer.linear.columns);
      state.agreed = state.agreed && state.agreed.of === JSON.stringify(recipes) ? state.agreed : null;
      draw();
      page.remember();
      const weight = state.weight || (moved || !before.told ? null : [before.told.weight.row, before.told.weight.column]);
      await askWeight(weight ? { row: weight[0], column: weight[1] } : { how: "telling" }, moved || Boolean(state.weight));
      state.weight = null;
      const of = JSON.stringify([given.model, given.recipes.slice(0, 2), answer.kind]);
      if (of === askedAll) return;
      askedAll = of;
      const picture = await question({ what: "blocks", ...state.asked });
      if (askedAll !== of) return;
      if (picture.all && state.shown) {
        [state.shown.all, state.shown.allOf] = [picture.all, state.key];
        draw();
      } else askedAll = "";
    };
    const soon = W.later(refresh, WAIT);

    const askWeight = async (how, go = true) => {
      if (!state.shown) {
        asking.problem(W.say("view.scores.not_live"));
        return;
      }
      const [mine, key] = [(number += 1), state.key];
      const from = state.shown.told?.weight;
      const given = how.how === "next" ? { row: from?.row ?? 0, column: from?.column ?? 0, how: "next" } : how;
      const answer = await question({ what: "weight", ...state.asked, sorted: state.sorted, ...given });
      if (mine !== number || key !== state.key) return;
      if (answer.problem) asking.problem(answer.problem);
      if (!answer.weight) return;
      state.shown.told = answer.weight;
      draw();
      page.remember();
      if (go && how.how !== "place") goTo(how.how === "telling" || go === true);
    };
    const goTo = (anew) => {
      const { told } = shown();
      if (told) near.reveal(told.weight.row, state.sorted ? told.place : told.weight.column, anew);
    };
    const fetchTiles = async (level, places, sorted) => {
      if (!state.shown) return; // what is stored is there already
      const key = state.key;
      const answer = await question({ what: "tiles", ...state.asked, level, places, sorted });
      if (key !== state.key || !answer.tiles) return;
      tiles.add(level, sorted, answer.tiles.of);
      redraw();
    };
    const choose = (changes) => {
      Object.assign(state, changes);
      state.weight = null;
      if (!page.state().live) {
        const held = stored.find(({ kind, block }) => kind === state.kind && block === state.block);
        if (held) showStored(held);
        else state.note = W.say("view.scores.not_live");
      }
      draw();
      soon();
    };
    const showStored = (held) => {
      tiles.clear(held.rows, held.columns);
      if (held.overview) {
        tiles.add(held.levels, true, [{ at: [0, 0], ...held.overview }]);
        tiles.add(0, true, [held.near]);
      }
      const { told } = held;
      if (told) near.reveal(told.weight.row, told.place, true);
    };

    showStored(first);
    return {
      /** Recipes, handle or model have changed. */
      changed: () => {
        if (!page.open()) return;
        const { model } = page.state();
        if (state.of && state.of !== model) [state.kinds, state.blocks] = [null, null];
        draw();
        soon();
      },
      /** The tab is in sight. */
      opened: () => {
        draw();
        soon();
      },
      agreed: (message) => {
        state.agreed = message;
        masks.show(message, replay);
      },
      address: () => (state.shown ? { kind: state.kind, block: String(state.block), weight: state.shown.told ? `${state.shown.told.weight.row},${state.shown.told.weight.column}` : null } : {}),
    };
  };
})(window.WandaLab);
