/* The view as a whole: what is looked at, what is drawn of it, and what the server is asked and answers. */
"use strict";
((W) => {
  const { h } = W;
  W.PLACES = Array.from({ length: 17 }, (_, i) => 5 * i); // of the measured curve, in percent

  /**
   * Build the view into an element. data: {replay, settings: of `W.strip`}; go(tab): leads to a tab.
   * -> {attach(host)}: from then on a server answers; without one it shows the stored run alone.
   */
  W.mount = (root, { replay, settings }, go) => {
    const known = new W.Known(replay);
    const address = W.readAddress();
    const state = {
      model: replay.made.name, title: replay.made.model, at: address.at ?? 45, prompt: address.prompt ?? replay.prompts[0].text,
      recipes: address.recipes ?? [W.recipe(), W.recipe({ method: "magnitude" })], settings: { ...W.PLAIN_ASK },
      wanted: address.model && address.model !== replay.made.name ? address.model : null, // a model that is being opened
      touched: false, run: 0, busy: false, sweep: null, status: null, problem: address.refused && W.say("view.link_refused", { given: address.refused }), expected: null, paper: false, window: replay.made.windows,
    };
    state.recipes.forEach((recipe, i) => { recipe.id = i + 1; });
    if (W.nOfM(state.recipes[0].pattern)) state.at = Math.round(W.atOf(state.recipes[0], state.at));
    let host = null;
    let nextId = state.recipes.length + 1;
    const live = new Map(); // column id or "dense" -> the last answer that came of what the column looked at then: {pieces, …, of, at}
    const heard = new W.Latest(60); // what is looked at, as of `ofNow` -> the answer that came of it
    const asked = new Map(); // column id or "dense" -> what the present run was asked to look at
    const now = new Map(); // column id or "dense" -> what the present run says of it, `of`: what it looks at

    const finding = h("h2", { class: "wl-finding-main", id: "finding" });
    const caption = h("p", { class: "wl-caption" });
    const typed = h("input", { type: "number", id: "wl-at", min: 0, max: 95, step: 1, "aria-label": W.say("view.removed_typed"), onchange: () => {
      const right = typed.value !== "" && typed.checkValidity();
      typed.setAttribute("aria-invalid", String(!right));
      if (right) return released(Number(typed.value));
      state.problem = W.say("view.removed_wrong", { given: typed.value || "…" });
      drawStatus();
      return typed.reportValidity();
    } });
    const bar = h("i");
    const said = h("p", { id: "status" });
    const cancel = h("button", { type: "button", class: "wl-secondary", id: "cancel", hidden: true, onclick: () => host.cancel({}) }, W.say("view.cancel"));
    const status = h("div", { class: "wl-status-line" }, h("div", { class: "wl-bar", "aria-hidden": "true" }, bar), said, cancel);
    const spoken = h("p", { class: "wl-hidden", role: "status" }); // what a reader of the screen is told: not every step
    const sweepButton = h("button", { type: "button", class: "wl-secondary", id: "measure", onclick: () => (state.sweep ? host.cancel_sweep({}) : sweep()) });
    const paper = h("input", { type: "checkbox", id: "wl-paper", onchange: () => { state.paper = paper.checked; drawCurve(); } });
    const columns = h("div", { class: "wl-cols" });
    const source = h("p", { class: "wl-source" });
    const why = W.why(go);

    const lookFor = () => ({ model: state.model, recipes: state.recipes.map(sent), at: state.at, ask: { prompt: state.prompt, ...state.settings } });
    const sent = ({ textName, ...recipe }) => ({ ...recipe, key: W.keyOf(recipe), at: W.atOf(recipe, state.at) });

    // What is shown ------------------------------------------------------------------------------------------------
    const plainAsk = () => JSON.stringify(state.settings) === JSON.stringify(W.PLAIN_ASK);
    const ofNow = (recipe) => JSON.stringify([state.model, recipe === W.DENSE ? "" : W.keyOf(recipe), recipe === W.DENSE ? 0 : W.atOf(recipe, state.at), state.prompt, state.settings]);
    /** The answer to show of a recipe or of DENSE: {pieces, probabilities, at, kind: "live" | "stored" | "old"}. */
    const answerOf = (id, recipe) => {
      const came = heard.get(ofNow(recipe));
      const at = recipe === W.DENSE ? 0 : W.atOf(recipe, state.at);
      const stored = plainAsk() ? known.storedAnswer(state.model, recipe, at, state.prompt) : null;
      const ahead = came && stored && !came.whole && W.shared(came.pieces, stored.pieces) === came.pieces.length; // it says the same again
      if (came && !ahead) return { ...came, kind: "live" };
      if (stored) return { ...stored, whole: true, kind: "stored" };
      const before = live.get(id);
      return before && before.model === state.model ? { ...before, kind: "old" } : null;
    };
    const knownAt = (recipe) => known.at(state.model, recipe, W.atOf(recipe, state.at));
    const costWords = (cost) => (cost ? `${cost.how === "between" ? "≈ " : ""}${W.number(cost.perplexity)}` : "–");
    const placeWords = () => [`${state.at}%`, ...state.recipes.map((recipe) => `${W.title(recipe, state.at)}: ${costWords(knownAt(recipe))}`)].join(", ");

    const shownColumns = new Map(); // id -> column
    const drawColumns = () => {
      const wanted = [[W.DENSE, W.DENSE, W.DENSE], ...state.recipes.map((recipe, i) => [recipe.id, recipe, i])];
      for (const [id, { column, which }] of shownColumns)
        if (!wanted.some(([other, , place]) => other === id && place === which)) {
          column.element.remove();
          shownColumns.delete(id);
        }
      const dense = answerOf(W.DENSE, W.DENSE);
      wanted.forEach(([id, recipe, which], place) => {
        if (!shownColumns.has(id)) {
          const removable = which !== W.DENSE && which > 0;
          const column = W.column(which, (index) => askWhy(id, recipe, index), removable ? () => against(null, id) : null);
          shownColumns.set(id, { column, which });
        }
        const { column } = shownColumns.get(id);
        if (columns.children[place] !== column.element) columns.insertBefore(column.element, columns.children[place] || null);
        const told = now.get(id);
        const said = told?.of === ofNow(recipe) ? told : {}; // a job of an earlier recipe runs on, and tells of that
        const answer = answerOf(id, recipe);
        const busy = state.busy && !said.ended && asked.get(id) === ofNow(recipe);
        const isDense = recipe === W.DENSE;
        const cost = isDense ? (known.densePerplexity(state.model) ? { perplexity: known.densePerplexity(state.model), how: "stored" } : null) : knownAt(recipe);
        column.show({
          title: isDense ? W.say("view.dense") : W.title(recipe, state.at), perplexity: costWords(cost), answer,
          dense: isDense || !dense || dense.kind === "old" !== (answer?.kind === "old") ? null : dense, busy, writes: busy && !(answer?.whole && answer.kind !== "old"), old: answer?.kind === "old",
          hint: busy ? W.say(isDense ? "view.coming_dense" : "view.coming") : W.say(host ? "view.hint" : "view.hint_stored"), problem: said.problem,
          foot: foot(recipe, answer, dense, said),
        });
      });
      columns.style.setProperty("--columns", wanted.length);
    };
    const foot = (recipe, answer, dense, said) => {
      const words = [];
      if (recipe === W.DENSE) words.push(W.say("view.as_trained"));
      else {
        if (answer && answer.pieces.length && !answer.pieces.join("").trim()) words.push(W.say("view.blank"));
        if (answer && answer.kind !== "old" && dense && dense.kind !== "old") words.push(W.parting(answer, dense));
        words.push(...W.apart(recipe));
      }
      if (answer?.kind === "stored" && recipe !== W.DENSE && answer.at !== W.atOf(recipe, state.at)) words.push(W.say("view.nearest", { at: `${answer.at}%` }));
      if (answer?.kind === "old") words.push(W.say("view.older"));
      if (said.measured) words.push(said.measured);
      return words.filter(Boolean).join(" · ");
    };

    /** The handle's place in percent: a pattern has one of its own. */
    const placed = () => W.atOf(state.recipes[0], state.at);
    const leavePattern = () => {
      const { pattern } = state.recipes[0];
      if (!W.nOfM(pattern)) return;
      setRecipes((recipe) => ({ ...recipe, pattern: "unstructured" }));
      state.done = W.say("view.pattern_left", { pattern });
    };
    const curve = W.curve((at) => {
      leavePattern();
      state.at = at;
      drawPlace();
      if (state.done) drawStatus();
    }, (at) => released(at));
    const curveLines = () => state.recipes.map((recipe) => {
      const key = W.keyOf(recipe);
      const patterned = Boolean(W.nOfM(recipe.pattern));
      const measured = known.measuredLine(state.model, recipe);
      return { stored: known.storedLine(state.model, recipe), measured: patterned ? measured : known.withDense(state.model, measured), name: W.short(recipe) + (patterned ? ` ${recipe.pattern}` : ""), patterned, key };
    });
    const places = () => state.recipes.map((recipe) => {
      const cost = knownAt(recipe);
      return cost && Number.isFinite(cost.perplexity) ? { at: W.atOf(recipe, state.at), perplexity: cost.perplexity } : null;
    });
    const drawCurve = () => curve.show({ dense: known.densePerplexity(state.model), recipes: curveLines(), at: placed(), places: places(), words: placeWords(), paper: state.paper });
    const drawFinding = () => {
      const word = replay.prompts.find(({ text }) => text === state.prompt)?.word ?? null;
      W.put(finding, W.finding({
        at: state.at, dense: known.densePerplexity(state.model), model: state.wanted || state.title, word,
        columns: state.recipes.map((recipe) => ({ recipe, known: knownAt(recipe), answer: answerOf(recipe.id, recipe) })),
      }));
    };
    let changedElsewhere = () => {}; // another view of the same recipes and the same handle
    /** Everything that a moved handle changes. */
    const drawPlace = () => {
      curve.move({ at: placed(), places: places(), words: placeWords() });
      if (document.activeElement !== typed) typed.value = state.at;
      drawFinding();
      drawColumns();
      changedElsewhere();
    };
    const drawStatus = () => {
      const progress = state.status || state.sweep?.status;
      status.classList.toggle("wl-running", Boolean(progress));
      bar.style.width = `${progress?.percent ?? 0}%`;
      const [recipe] = state.recipes;
      const quick = W.isQuick(recipe) ? "view.expected_quick" : "view.expected";
      const expected = state.expected?.seconds && `${W.say(quick, { title: W.title(recipe, state.at), time: W.time(state.expected.seconds) })} ${state.expected.words}`;
      const idle = state.done || (host ? expected || W.say("view.try") : W.say("view.static"));
      const words = state.problem || (progress ? progress.words : `${W.say(`view.method_help.${recipe.method}`)} ${idle}`);
      W.put(said, words);
      cancel.hidden = !(state.busy || state.wanted);
      W.put(spoken, state.problem || state.done || (state.busy ? W.say("view.coming") : ""));
      status.classList.toggle("wl-failed", Boolean(state.problem));
      const sweepSeconds = state.expected?.curve;
      W.put(sweepButton, W.say(state.sweep ? "view.sweep_stop" : sweepSeconds ? "view.sweep_about" : "view.sweep", { time: W.time(sweepSeconds || 0) }));
      sweepButton.disabled = !host;
    };
    const draw = () => {
      strip.show({ model: state.wanted || state.model, title: state.wanted || state.title, recipes: state.recipes });
      prompts.show(state);
      drawCurve();
      drawPlace();
      drawStatus();
      table.show(curveLines().map(({ name, stored, measured }) => ({ name, points: [...stored, ...measured] })));
      W.put(source, known.isStored(state.model) && !state.touched
        ? W.say("view.stored_run", { model: replay.made.model, date: replay.made.date, samples: replay.made.calibration.samples, seq_len: replay.made.calibration.seq_len, windows: replay.made.windows, tokens: replay.made.seq_len })
        : W.say("view.live_run", { model: state.title, windows: replay.made.windows, tokens: replay.made.seq_len }));
    };

    // What a person does ---------------------------------------------------------------------------------------------
    const setRecipes = (change) => {
      state.recipes = state.recipes.map(change);
      state.done = null;
    };
    const remember = W.later(() => {
      const plain = [W.recipe(), W.recipe({ method: "magnitude" })].map(W.keyOf).join(" ");
      const keys = state.recipes.map(W.keyOf);
      W.writeAddress({
        model: state.model === replay.made.name ? null : state.model, r: keys.join(" ") === plain ? null : keys, at: state.at === 45 ? null : String(state.at),
        ask: state.prompt === replay.prompts[0].text ? null : state.prompt,
      });
    }, 300);
    const changed = () => {
      state.problem = null;
      remember();
      draw();
      expect();
    };
    const expect = W.later(() => host && host.expect({ model: state.model, recipes: state.recipes.map(sent) }), 150);
    const released = (at) => {
      leavePattern();
      state.at = at;
      changed();
      if (state.recipes.every(W.isQuick)) look();
    };
    const look = () => {
      if (!host) return;
      state.touched = true;
      state.run += 1;
      state.busy = true;
      [state.problem, state.done] = [null, null];
      now.clear();
      asked.clear();
      for (const recipe of [W.DENSE, ...state.recipes]) asked.set(recipe === W.DENSE ? recipe : recipe.id, ofNow(recipe));
      host.look({ ...lookFor(), run: state.run });
      draw();
    };
    const against = (recipe, removed = null) => {
      why.hide(); // it tells of the recipes that were there
      if (state.why) state.why.run += 1; // and so does an answer that is on its way
      if (removed !== null) {
        state.recipes = state.recipes.filter(({ id }) => id !== removed);
        strip.element.querySelector("#wl-against").focus(); // its button goes with the column
      }
      else {
        const added = { ...recipe, id: nextId++ };
        if (recipe.pattern === "unstructured") added.pattern = state.recipes[0].pattern;
        state.recipes = [...state.recipes, added];
      }
      changed();
      if (removed === null && state.touched && state.recipes.every(W.isQuick)) look();
    };
    const sweep = () => {
      [state.touched, state.problem] = [true, null];
      state.sweep = { status: { words: W.say("view.sweep_starts"), percent: 0 } };
      const places = W.PLACES.slice(1);
      host.sweep({ ...lookFor(), run: (state.sweepRun = (state.sweepRun || 0) + 1), places });
      draw();
    };
    const askWhy = (id, recipe, index) => {
      const answer = answerOf(id, recipe);
      if (!answer) return;
      const token = answer.pieces[index];
      const title = recipe === W.DENSE ? W.say("view.dense") : W.title(recipe, state.at);
      const say = (p) => W.say("view.why.came", { token: token.trim() || JSON.stringify(token), title, p: W.percent(p, 1) });
      const sentence = say(answer.probabilities[index] ?? 0);
      const close = () => shownColumns.get(id)?.column.element.querySelector(".wl-answer").focus();
      why.show({ sentence: host ? `${sentence} ${W.say("view.why.asking")}` : sentence, close });
      const titles = new Map(state.recipes.map((one) => [one.id, W.title(one, W.atOf(one, state.at))]));
      state.why = { run: (state.why?.run || 0) + 1, sentence, titles, close, title, say, id, token };
      const recipes = state.recipes.map((one) => (one === recipe ? { ...sent(one), at: answer.at ?? W.atOf(one, state.at) } : sent(one)));
      if (host) host.why({ model: state.model, run: state.why.run, recipes, ask: { prompt: state.prompt, ...state.settings }, index, tokens: answer.tokens || null, text: answer.pieces.slice(0, index).join(""), rest: answer.pieces.slice(index).join("") });
    };
    const open = (name) => {
      state.wanted = name;
      state.opening = { words: W.say("view.opening", { model: name }), percent: 0 };
      host.open({ model: name });
      draw();
    };

    const strip = W.strip({
      ...settings,
      on: {
        recipe: (changes) => {
          const [first] = state.recipes;
          const pattern = changes.pattern;
          setRecipes((recipe) => (recipe === first ? { ...recipe, ...changes } : pattern ? { ...recipe, pattern } : recipe));
          if (pattern && W.nOfM(pattern)) state.at = Math.round(W.atOf(state.recipes[0], state.at));
          changed();
        },
        against: (recipe) => against(recipe),
        model: (name) => {
          state.problem = null;
          if (host) open(name);
        },
        prune: () => look(),
        refused: (words) => { state.problem = words; drawStatus(); },
        upload: async (file) => {
          if (!host) return;
          if (file.size > settings.upload_bytes) {
            const [given, most] = [file.size, settings.upload_bytes].map((bytes) => (bytes / 2 ** 20).toFixed(1));
            state.problem = W.say("view.upload_large", { name: file.name.slice(0, 100), given, most });
            drawStatus();
            return;
          }
          try {
            const stored = await host.upload(file);
            host.text({ path: stored.path, name: file.name.slice(0, 100) });
          } catch {
            state.problem = W.say("view.upload_failed");
            drawStatus();
          }
        },
      },
    });
    const prompts = W.prompts(replay.prompts, settings.prompt_characters, {
      prompt: (text, chosen) => {
        state.prompt = text;
        if (chosen) {
          changed();
          if (state.touched && state.recipes.every(W.isQuick)) look();
        } else {
          remember();
          drawPlace();
        }
      },
      settings: (changes) => { Object.assign(state.settings, changes); draw(); },
      ask: look,
    });
    const own = W.ownPrompts({ run: (given) => {
      if (!host) return;
      state.own = { run: (state.own?.run || 0) + 1, total: given.length };
      host.own({ ...lookFor(), run: state.own.run, prompts: given });
    } });
    const table = W.curveTable();
    table.element.addEventListener("toggle", () => draw());

    root.append(
      strip.element, status, spoken, finding, caption, curve.element,
      h("div", { class: "wl-row wl-under-curve" }, h("label", { class: "wl-number" }, W.say("view.removed"), typed, "%"), sweepButton, h("label", { class: "wl-number wl-quiet" }, paper, W.say("view.paper")), table.element),
      columns, h("p", { class: "wl-note wl-read" }, W.say("view.read_columns")), why.element, prompts.element, own.element, W.doors(replay, go), source,
    );
    caption.textContent = W.say("view.caption");
    draw();

    // What the server says --------------------------------------------------------------------------------------------
    let waiting = false;
    /** Draw once a frame, however many messages come. */
    const drawSoon = (whole) => {
      drawSoon.whole = drawSoon.whole || whole;
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => {
        waiting = false;
        if (drawSoon.whole) draw();
        else {
          drawCurve();
          drawPlace();
          drawStatus();
        }
        drawSoon.whole = false;
      });
    };
    /** Have a server answer. given: {look, sweep, …: called with data; watch(name, call); upload; head(text)}. */
    const attach = (given) => {
      host = given;
      state.head = given.head;
      const told = { agreed: (message) => agreed(message), ofNow, state, known, live, heard, now, why, own, draw, drawSoon, drawStatus, changed, expect, remember, setRecipes };
      for (const [name, hear] of Object.entries(W.heard(told))) given.watch(name, hear);
      open(state.wanted || state.model);
      if (!state.wanted || state.wanted === state.model) state.wanted = null;
      draw();
    };
    let agreed = () => {};
    /** What another view of the same recipes needs of this one. on: {changed(), agreed(message)}. */
    const beside = (on) => {
      changedElsewhere = on.changed;
      agreed = on.agreed;
      let [run, titles] = [0, []];
      const masks = () => {
        if (!host) return;
        if (state.comparing) return host.cancel_masks({});
        state.comparing = true;
        run += 1;
        titles = state.recipes.map((recipe) => W.title(recipe, W.atOf(recipe, state.at)));
        host.masks({ ...lookFor(), run });
        return agreed({ titles, progress: { words: W.say("view.sweep_starts") } });
      };
      agreed = (message) => {
        if (message.run !== undefined && message.run !== run) return;
        state.comparing = !message.ended;
        on.agreed({ titles, ...message });
      };
      return {
        state: () => ({ model: state.model, title: state.title, at: state.at, recipes: state.recipes.map(sent), live: Boolean(host && state.ready) }),
        moved: (at) => { state.at = at; draw(); remember(); },
        prune: () => look(), reopen: () => host?.open({ model: state.model }), remember, masks,
      };
    };
    return { attach, state, beside };
  };
})(window.WandaLab);
