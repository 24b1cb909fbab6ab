/* The view as a whole: what is looked at, what is drawn of it, and what the server is asked and answers. */
"use strict";
((W) => {
  const { h } = W;
  W.PLACES = Array.from({ length: 17 }, (_, i) => 5 * i); // of the measured curve, in percent

  /**
   * Build the view into an element. data: {replay, settings: of `W.strip`; still: of a page that no server will ever
   * answer, `W.still`}; go(tab): leads to a tab.
   * -> {attach(host)}: from then on a server answers; without one it shows the stored run alone.
   */
  W.mount = (root, { replay, settings, still = null }, go) => {
    const known = new W.Known(replay);
    const address = still ? still.address(W.readAddress()) : W.readAddress();
    const start = still || { at: 45, recipes: [W.recipe(), W.recipe({ method: "magnitude" })], prompt: replay.prompts[0].text };
    const state = {
      model: replay.made.name, title: replay.made.model, at: address.at ?? start.at, prompt: address.prompt ?? start.prompt,
      recipes: address.recipes ?? start.recipes.map((recipe) => ({ ...recipe })), settings: { ...W.PLAIN_ASK },
      wanted: address.model && address.model !== replay.made.name ? address.model : null, // a model that is being opened
      touched: false, run: 0, busy: false, unopened: false, refusals: 0, early: false, // the page's own model was refused; Prune was pressed before a server could hear it
      offered: address.offer,
      sweep: null, status: null, problem: address.offer ? W.say("view.offered", { model: address.offer }) : address.refused && W.say("view.link_refused", { given: address.refused }), expected: null, paper: false, window: replay.made.windows,
    };
    state.recipes.forEach((recipe, i) => { recipe.id = i + 1; });
    if (W.nOfM(state.recipes[0]?.pattern)) state.at = Math.round(W.atOf(state.recipes[0], state.at));
    if (still) state.at = still.place(state.recipes, state.at);
    let host = null;
    /** What the page shows: {model, title, stems, foot}: names for files, and a line for below a figure. */
    W.looked = () => ({
      model: state.model, title: state.title, stems: state.recipes.map((recipe) => W.recipeStem(recipe, state.at)),
      foot: [state.title, state.recipes.map((recipe) => W.title(recipe, state.at)).join(", ")].join(" · "),
    });
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
    const offered = W.offered(() => host && open(state.offered));
    const status = h("div", { class: "wl-status-line" }, h("div", { class: "wl-bar", "aria-hidden": "true" }, bar), said, offered.element, cancel);
    const spoken = h("p", { class: "wl-hidden", role: "status" }); // what a reader of the screen is told: not every step
    const gated = still ? null : W.gated((name, token) => open(name, token));
    const sweepButton = h("button", { type: "button", class: "wl-secondary", id: "measure", onclick: () => (state.sweep ? host.cancel_sweep({}) : sweep()) });
    const paper = h("input", { type: "checkbox", id: "wl-paper", onchange: () => { state.paper = paper.checked; drawCurve(); } });
    const bare = Object.keys(replay.answers || {}).length === 0; // no answer is stored
    const source = h("p", { class: "wl-source" });
    const why = W.why(go);

    const lookFor = () => ({ model: state.model, recipes: state.recipes.map(sent), at: state.at, ask: { prompt: state.prompt, ...state.settings } });
    const sent = ({ textName, ...recipe }) => ({ ...recipe, key: W.keyOf(recipe), at: W.atOf(recipe, state.at) });

    // What is shown ------------------------------------------------------------------------------------------------
    const answers = W.answers({ state, known, live, heard, asked, now, why, bare, host: () => host, sent, remove: (id) => against(null, id) });
    const { knownAt, ofNow } = answers;
    const placeWords = () => [`${state.at}%`, ...state.recipes.map((recipe) => `${W.title(recipe, state.at)}: ${W.costWords(knownAt(recipe))}`)].join(", ");

    /** The handle's place in percent: a pattern has one of its own. */
    const placed = () => (still || !state.recipes.length ? state.at : W.atOf(state.recipes[0], state.at));
    /** Put the handle somewhere: a pattern goes, or as far as a still page knows. */
    const place = (at) => {
      const pattern = state.recipes[0]?.pattern;
      if (!still && W.nOfM(pattern)) {
        setRecipes((recipe) => ({ ...recipe, pattern: "unstructured" }));
        state.done = W.say("view.pattern_left", { pattern });
      }
      state.at = still ? still.place(state.recipes, at) : at;
    };
    const curve = W.curve((at) => {
      place(at);
      drawPlace();
      if (state.done) drawStatus();
    }, (at) => released(at));
    const curveLines = () => state.recipes.map((recipe) => {
      const key = W.keyOf(recipe);
      const patterned = Boolean(W.nOfM(recipe.pattern));
      const measured = known.withDense(state.model, recipe, known.measuredLine(state.model, recipe));
      return { stored: known.storedLine(state.model, recipe), measured, name: W.short(recipe) + (patterned ? ` ${recipe.pattern}` : "") + W.after(recipe), patterned, key };
    });
    const places = () => state.recipes.map((recipe) => {
      const cost = knownAt(recipe);
      return cost && Number.isFinite(cost.perplexity) ? { at: W.atOf(recipe, state.at), perplexity: cost.perplexity } : null;
    });
    const ofCurve = () => ({ dense: known.densePerplexity(state.model), recipes: curveLines(), paper: state.paper });
    const drawCurve = () => curve.show({ ...ofCurve(), at: placed(), places: places(), words: placeWords() });
    const take = W.take({ node: () => curve.element, title: () => finding.textContent, caption: () => W.say("view.curve"), name: () => [state.title, "perplexity-curve"], rows: () => W.curveRows(ofCurve()), foot: () => W.looked().foot });
    take.named(W.say("view.curve"));
    const drawFinding = () => {
      const word = (replay.prompts || []).find(({ text }) => text === state.prompt)?.word ?? null;
      W.put(finding, W.finding({
        at: state.at, dense: known.densePerplexity(state.model), model: state.wanted || state.title, word,
        columns: state.recipes.map((recipe) => ({ recipe, known: knownAt(recipe), answer: answers.of(recipe.id, recipe) })),
      }));
    };
    let changedElsewhere = () => {}; // another view of the same recipes and the same handle
    let away = { changed: () => {} }; // the section that takes it away, once it stands
    const buys = still ? null : W.buys((run) => host.buys({ ...lookFor(), recipes: [sent(state.recipes[0])], run }), () => host.cancel_buys({}));
    const drawBuys = () => {
      const [recipe] = state.recipes;
      const at = W.atOf(recipe, state.at);
      buys?.show({ model: state.model, title: state.title, recipe, at, cost: knownAt(recipe), dense: known.densePerplexity(state.model), ready: Boolean(host && state.ready), stem: W.recipeStem(recipe, at) });
    };
    /** Everything that a moved handle changes. */
    const drawPlace = () => {
      curve.move({ at: placed(), places: places(), words: placeWords() });
      if (document.activeElement !== typed) typed.value = state.at;
      drawFinding();
      answers.draw();
      drawBuys();
      changedElsewhere();
      away.changed();
    };
    const drawStatus = () => {
      const progress = state.status || state.sweep?.status;
      status.classList.toggle("wl-running", Boolean(progress));
      bar.style.width = `${progress?.percent ?? 0}%`;
      const [recipe] = state.recipes;
      const quick = W.isQuick(recipe) ? "view.expected_quick" : W.shrinks(recipe) ? "view.expected_shrink" : "view.expected";
      const expected = state.expected?.seconds && `${W.say(quick, { title: W.title(recipe, state.at), time: W.time(state.expected.seconds) })} ${state.expected.words}`;
      const idle = state.done || (host ? expected || W.say("view.try") : W.say(state.early ? "view.early" : "view.static"));
      const resting = `${W.say(`view.method_help.${recipe.method}`)} ${idle}`;
      W.put(said, state.problem || progress?.words || (state.busy ? W.say("view.coming") : resting)); // Cancel stands beside it while busy, so it is short then
      cancel.hidden = !(state.busy || state.wanted);
      offered.show(state.offered && !state.busy);
      W.put(spoken, state.problem || state.done || (state.busy ? W.say("view.coming") : ""));
      status.classList.toggle("wl-failed", Boolean(state.problem));
      gated?.show(state.gated);
      const sweepSeconds = state.expected?.curve;
      W.put(sweepButton, W.say(state.sweep ? "view.sweep_stop" : sweepSeconds ? "view.sweep_about" : "view.sweep", { time: W.time(sweepSeconds || 0) }));
      sweepButton.disabled = !host;
    };
    const draw = () => {
      strip.show({ model: state.wanted || state.model, title: state.wanted || state.title, recipes: state.recipes });
      prompts.show(state);
      W.put(caption, still?.caption ?? W.say(state.recipes.some(W.shrinks) ? "view.caption_parts" : "view.caption"));
      drawCurve();
      drawPlace();
      drawStatus();
      table.show(curveLines().map(({ name, stored, measured }) => ({ name, points: [...stored, ...measured] })));
      W.put(source, known.isStored(state.model) && !state.touched
        ? still?.source ?? W.say("view.stored_run", { model: replay.made.model, date: replay.made.date, samples: replay.made.calibration.samples, seq_len: replay.made.calibration.seq_len, windows: replay.made.windows, tokens: replay.made.seq_len })
        : W.say("view.live_run", { model: state.title, windows: replay.made.windows, tokens: replay.made.seq_len }));
    };

    // What a person does ---------------------------------------------------------------------------------------------
    const setRecipes = (change) => {
      state.recipes = state.recipes.map(change);
      state.done = null;
    };
    const remember = W.later(() => {
      const plain = start.recipes.map(W.keyOf).join(" ");
      const keys = state.recipes.map(W.keyOf);
      const prompt = W.linked(state.prompt);
      W.writeAddress({
        model: state.model === replay.made.name ? null : state.model, r: keys.join(" ") === plain ? null : keys, at: state.at === start.at ? null : String(state.at),
        ask: prompt === start.prompt ? null : prompt,
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
      place(at);
      changed();
      if (state.recipes.every(W.isQuick)) look();
    };
    /** at_hand: whether smaller models are wanted in memory, also where all is known of them. */
    const look = (atHand = false) => {
      if (!host) {
        state.early = !still;
        return drawStatus();
      }
      state.touched = true;
      state.run += 1;
      state.busy = true;
      [state.problem, state.done] = [null, null];
      now.clear();
      asked.clear();
      for (const recipe of [W.DENSE, ...state.recipes]) asked.set(recipe === W.DENSE ? recipe : recipe.id, ofNow(recipe));
      if (state.unopened && !state.wanted) reopen();
      host.look({ ...lookFor(), run: state.run, ...(atHand ? { at_hand: true } : {}) });
      draw();
    };
    const reopen = () => host?.open({ model: state.model });
    const against = (recipe, removed = null) => {
      why.hide(); // it tells of the recipes that were there
      if (state.why) state.why.run += 1; // and so does an answer that is on its way
      if (removed !== null) {
        state.recipes = state.recipes.filter(({ id }) => id !== removed);
        strip.element.querySelector("#wl-against").focus(); // its button goes with the column
      }
      else {
        const added = { ...recipe, id: nextId++ };
        if (!still && recipe.pattern === "unstructured" && !W.shrinks(recipe)) added.pattern = state.recipes[0].pattern;
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
    let ends = []; // who waits for the end of a look
    const lookEnded = () => {
      const waiting = ends;
      ends = [];
      waiting.forEach((end) => end(state.problem));
      away.asks();
    };
    /** Put the lines of a run on the page, unless some stand there already. */
    const showRun = (run) => {
      state.touched = true;
      const lines = W.linesOf(run);
      const recipes = lines.map(({ recipe }) => recipe).filter(Boolean).slice(0, W.MOST_RECIPES);
      if (run.made.name === state.model && recipes.length && !state.recipes.some((recipe) => lines.some(({ key }) => key === W.keyOf(recipe))))
        state.recipes = recipes.map((recipe) => ({ ...recipe, id: nextId++ }));
      changed();
    };
    /** What is taken away of the page, and a run that is brought to it. */
    const takeAway = () => {
      away = W.away({
        known, host: () => host, showRun, open: (name) => open(name), look: () => (look(true), new Promise((end) => ends.push(end))),
        state: () => ({ model: state.model, title: state.title, at: state.at, prompt: state.prompt, recipes: state.recipes.map((one) => ({ ...sent(one), ...(one.textName ? { textName: one.textName } : {}) })), ask: { prompt: state.prompt, ...state.settings } }),
        answers: () => [[W.DENSE, W.DENSE], ...state.recipes.map((recipe) => [recipe.id, recipe])].map(([id, recipe]) => ({ ...answers.of(id, recipe), prompt: state.prompt, key: recipe === W.DENSE ? recipe : W.keyOf(recipe), at: recipe === W.DENSE ? 0 : W.atOf(recipe, state.at) }))
          .filter(({ kind, whole }) => kind === "live" && whole && answers.plain()),
        tell: (said) => { Object.assign(state, { problem: null, done: null }, said); drawStatus(); },
      });
      return away;
    };
    const open = (name, token = null) => {
      if (name === state.offered) {
        state.offered = null;
        W.writeAddress({ offer: null });
      }
      state.wanted = name;
      state.status = { words: W.say("view.opening", { model: name }), percent: 0 };
      [state.problem, state.gated] = [null, null];
      host.open({ model: name, ...(token ? { token } : {}) });
      draw();
    };

    const stripOf = still ? still.strip : W.strip;
    const strip = stripOf({
      ...settings,
      on: {
        first: (recipe) => {
          const { id } = state.recipes[0];
          setRecipes((before, i) => (i ? before : { ...recipe, id }));
          place(state.at);
          changed();
        },
        recipe: (changes) => {
          const [first] = state.recipes;
          const pattern = changes.pattern;
          setRecipes((recipe) => (recipe === first ? { ...recipe, ...changes } : pattern && !W.shrinks(recipe) && !("method" in changes) ? { ...recipe, pattern } : recipe));
          if (pattern && W.nOfM(pattern)) state.at = Math.round(W.atOf(state.recipes[0], state.at));
          changed();
        },
        against: (recipe) => against(recipe),
        model: (name) => host && open(name),
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
          } catch (error) {
            const [, said] = /^HTTP \d+: ([^<>\n]{1,400})$/.exec(error.message) || []; // the gate's own sentence
            state.problem = said || W.say("view.upload_failed");
            drawStatus();
          }
        },
      },
    });
    const promptsOf = still ? still.prompts : W.prompts;
    const prompts = promptsOf(replay.prompts || [], settings?.prompt_characters, {
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
      ask: () => look(),
    });
    const own = W.ownPrompts({ run: (given) => {
      if (!host) return;
      state.own = { run: (state.own?.run || 0) + 1, total: given.length };
      host.own({ ...lookFor(), run: state.own.run, prompts: given });
    } });
    const table = W.curveTable();
    table.element.addEventListener("toggle", () => draw());

    root.append(...[
      strip.element, ...(still ? [] : [status, spoken, gated.element]), finding, caption, curve.element,
      h("div", { class: "wl-row wl-under-curve" }, h("label", { class: "wl-number" }, W.say("view.removed"), typed, "%"), still ? null : sweepButton, h("label", { class: "wl-number wl-quiet" }, paper, W.say("view.paper")), table.element, take.element),
      still ? prompts.element : null, answers.element, bare ? null : h("p", { class: "wl-note wl-read" }, W.say("view.read_columns")), why.element, ...(still ? [] : [prompts.element, own.element, buys.element]), W.doors(replay, go, still?.doors), still ? null : takeAway().element, still ? null : W.where(settings.runtimes), source,
    ].filter(Boolean));
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
      const told = { agreed: (message) => agreed(message), lookEnded, ofNow, state, known, live, heard, now, why, own, draw, drawSoon, drawStatus, changed, expect, remember, setRecipes, reopen };
      for (const [name, hear] of Object.entries(W.heard(told))) given.watch(name, hear);
      const { problem } = state; // of the address
      open(state.wanted || state.model);
      state.problem = problem;
      if (!state.wanted || state.wanted === state.model) [state.status, state.wanted] = [null, null]; // the stored run stands meanwhile
      given.watch("pushed", away.pushed);
      given.watch("bought", buys.heard);
      draw();
      away.asks();
      if (state.early && !state.wanted) look();
      state.early = false;
    };
    let agreed = () => {};
    /** What another view of the same recipes needs of this one. on: {changed(), agreed(message)}. */
    const beside = (on) => {
      changedElsewhere = on.changed;
      agreed = on.agreed;
      let [run, titles, stems] = [0, [], []];
      const masks = () => {
        if (!host) return;
        if (state.comparing) return host.cancel_masks({});
        state.comparing = true;
        run += 1;
        titles = state.recipes.map((recipe) => W.title(recipe, W.atOf(recipe, state.at)));
        stems = W.looked().stems;
        host.masks({ ...lookFor(), run });
        return agreed({ titles, progress: { words: W.say("view.sweep_starts") } });
      };
      agreed = (message) => {
        if (message.run !== undefined && message.run !== run) return;
        state.comparing = !message.ended;
        on.agreed({ titles, stems, ...message });
      };
      return {
        state: () => ({ model: state.model, title: state.title, at: state.at, recipes: state.recipes.map(sent), live: Boolean(host && state.ready) }),
        moved: (at) => { state.at = at; draw(); remember(); },
        prune: () => look(), reopen, remember, masks,
      };
    };
    return { attach, state, beside };
  };
})(window.WandaLab);
