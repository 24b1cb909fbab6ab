/* Take it with you: a recipe as checkpoint, command and Python, the page as report and run, and a run brought back. */
"use strict";
((W) => {
  const { h } = W;
  const WAIT = 400, AGAIN = 1000; // milliseconds before a changed recipe is asked for, and before one asks again

  /** What one run holds, as rows of a table. */
  W.pointRows = (run) => [["recipe", "removed_percent", "perplexity", "top1_agreement", "kl_nats", "prune_seconds"],
    ...(run.dense ? [[W.DENSE, 0, run.dense.perplexity]] : []),
    ...run.lines.flatMap((line) => line.at.map((at, i) => [line.key, at, ...["perplexity", "top1", "kl", "seconds"].map((name) => line[name]?.[i])]))];

  /**
   * Build the section. page: {state(): {model, title, at, prompt, recipes and ask as they are sent}, known, answers(), host():
   * what a server answers by, null before; look(): prunes what is on the page -> a promise of what went wrong; open(model);
   * showRun(run): puts its lines on the page; tell({done, problem}): in the line above the curve}.
   * -> {element, changed(), asks(), pushed(message)}
   */
  W.away = (page) => {
    const state = { shown: null, asked: "", key: "", note: "", problem: "", dtype: null, chosen: null, last: "", shownKey: "", of: "", opened: "", seen: false, working: false, push: null, coming: null };

    // Elements ---------------------------------------------------------------------------------------------------------
    const recipe = h("select", { id: "take-recipe", onchange: () => { state.chosen = Number(recipe.value); draw(); } });
    const recipeBox = h("label", { class: "wl-chip-box" }, h("span", {}, W.say("view.away.recipe")), recipe);
    const size = h("span", { class: "wl-away-size" });
    const opener = (name, ...words) => h("button", { type: "button", class: "wl-suggest", id: `take-${name}`, "aria-expanded": "false", "aria-controls": "take-panel", hidden: true, onclick: () => {
      state.opened = state.opened === name ? "" : name;
      draw();
      ask();
    } }, ...words);
    const openers = { checkpoint: opener("checkpoint", W.say("view.away.checkpoint"), size), command: opener("command", W.say("view.away.command")), python: opener("python", "Python") };
    const file = (name, call) => h("button", { type: "button", class: "wl-suggest", id: `take-${name}`, hidden: true, onclick: call }, W.say(`view.away.${name}`));
    const files = { report: file("report", () => saveReport()), run: file("run", () => saveRun()), points: file("points", () => savePoints()) };
    const brought = h("input", { type: "file", accept: ".json,application/json", class: "wl-hidden", tabindex: -1, "aria-hidden": "true", onchange: () => { if (brought.files[0]) openRun(brought.files[0]); brought.value = ""; } });
    const bring = h("button", { type: "button", class: "wl-suggest", id: "take-open", title: W.say("view.away.open_help"), onclick: () => brought.click() }, W.say("view.away.open"));
    const said = h("p", { class: "wl-note", id: "take-said", role: "status" });
    const other = h("button", { type: "button", class: "wl-secondary", id: "take-other", hidden: true });

    const dtypes = W.segments("take-dtype", W.say("view.away.dtype"), (value) => { state.dtype = value; draw(); });
    const download = h("button", { type: "button", class: "wl-secondary", id: "take-download", onclick: () => saveCheckpoint() });
    const about = h("p", { class: "wl-note" });
    const push = W.pushForm((given) => startPush(given), () => page.host().cancel_push({}));
    const offered = h("div", { class: "wl-away-offered" }, about, h("div", { class: "wl-row" }, dtypes.element, download), push.element);
    const why = h("p", { class: "wl-note", id: "take-why" });
    const instead = W.codeBlock("take-instead", W.say("view.away.instead"));
    const code = { command: W.codeBlock("take-code-command", W.say("view.away.command")), python: W.codeBlock("take-code-python", "Python") };
    const wait = h("p", { class: "wl-note", id: "take-wait" });
    const needs = h("p", { class: "wl-note" }, W.say("view.away.needs"));
    const panel = h("div", { class: "wl-away-panel", id: "take-panel", hidden: true }, wait, offered, h("div", {}, why, instead.element), code.command.element, code.python.element, needs);
    const element = h("section", { class: "wl-away", id: "take-away", "aria-labelledby": "take-title" },
      h("div", { class: "wl-away-row" }, h("h3", { id: "take-title" }, W.say("view.away.title")), recipeBox,
        h("div", { class: "wl-suggests" }, Object.values(openers), Object.values(files), bring, brought)),
      panel, h("div", { class: "wl-row" }, said, other));

    // What is shown ------------------------------------------------------------------------------------------------------
    const tell = (words, problem = false) => {
      W.put(said, words);
      said.classList.toggle("wl-problem-words", problem);
      other.hidden = true;
    };
    const aboutOf = () => (state.shown && state.of === page.state().model ? state.shown.about : page.known.isStored(page.state().model) ? page.known.replay.made : null);
    /** What the server tells of the recipe that is chosen, null where it tells nothing yet. */
    const sizeOf = (bytes) => (bytes ? W.size(bytes) : "… MB"); // of what is not made yet nobody knows it
    const told = () => state.shown?.recipes.find(({ id }) => id === state.chosen) || null;
    const draw = () => {
      const { recipes } = page.state();
      const ready = Boolean(page.host());
      if (!recipes.some(({ id }) => id === state.chosen)) state.chosen = recipes[0]?.id ?? null;
      const options = recipes.map((one) => [one.id, W.title(one, one.at)]);
      if (recipe.dataset.of !== JSON.stringify(options)) {
        recipe.dataset.of = JSON.stringify(options);
        recipe.replaceChildren(...options.map(([id, title]) => h("option", { value: id }, title)));
      }
      recipe.value = state.chosen;
      recipeBox.hidden = recipes.length < 2 || !ready;
      const { shown } = state;
      const now = told();
      const own = now?.bytes ? { ...shown.checkpoint, bytes: now.bytes } : shown?.checkpoint; // those of a smaller model
      const old = Boolean(now) && state.key !== state.shownKey;
      if (own && !(state.dtype in own.bytes)) state.dtype = own.own in own.bytes ? own.own : Object.keys(own.bytes)[0];
      W.put(size, own && !own.offered ? "" : ` · ${sizeOf(own?.bytes[state.dtype])}`);
      // Options of the command line cannot say every recipe; Python can.
      const opened = state.opened === "command" && now && !now.command ? "python" : state.opened;
      for (const [name, button] of Object.entries(openers)) {
        button.hidden = !ready || (name === "command" && Boolean(now) && !now.command);
        button.setAttribute("aria-expanded", String(opened === name));
      }
      const whole = Boolean(aboutOf() && page.known.densePerplexity(page.state().model) !== null);
      files.report.hidden = !(ready && whole);
      files.run.hidden = files.points.hidden = !whole;
      panel.hidden = !state.opened;
      panel.classList.toggle("wl-stale", old);
      panel.setAttribute("aria-busy", String(Boolean(state.asked)));
      wait.hidden = Boolean(now) && !state.problem;
      W.put(wait, state.problem || state.note || W.say("view.away.asking"));
      wait.classList.toggle("wl-problem-words", Boolean(state.problem));
      offered.hidden = !(now && opened === "checkpoint" && own.offered);
      why.parentElement.hidden = !(now && opened === "checkpoint" && !own.offered);
      for (const [name, block] of Object.entries(code)) block.element.hidden = !(now && opened === name);
      needs.hidden = !(now && (opened in code || (opened === "checkpoint" && !own.offered)));
      if (!now) return;
      code.command.show(now.command);
      code.python.show(now.python);
      instead.show(now.command || now.python);
      W.put(why, own.why || "");
      W.put(about, W.say("view.away.checkpoint_help", { name: now.name }));
      dtypes.show(Object.entries(own.bytes).map(([dtype, bytes]) => [dtype, W.say(dtype === own.own ? "view.away.dtype_own" : "view.away.dtype_of", { dtype, size: sizeOf(bytes) })]), state.dtype);
      W.put(download, W.say(state.working ? "view.away.working" : now.made ? "view.away.download" : "view.away.prune_download"));
      download.disabled = state.working || old;
      push.show({ offered: Boolean(page.host()?.push), push: state.push, name: now.name, old });
    };

    // Asking -------------------------------------------------------------------------------------------------------------
    const wanted = () => state.opened || state.seen;
    const keyOf = () => {
      const { model, recipes, ask: asking } = page.state();
      return JSON.stringify([model, recipes.map((one) => [one.id, W.keyOf(one), one.at]), asking]);
    };
    const asked = async (key, given) => {
      const answer = await W.post("take", given);
      if (state.asked !== key) return; // the recipes have changed meanwhile
      state.asked = "";
      state.problem = answer.problem || "";
      state.note = answer.wait ? W.say("view.away.wait") : "";
      if (answer.wait) setTimeout(() => ask(), AGAIN);
      if (answer.ready) [state.shown, state.shownKey, state.of] = [answer, key, given.model];
      draw();
    };
    /** Ask what can be taken, unless that is known. -> a promise that it is */
    const ask = (again = false) => {
      state.key = keyOf();
      const { model, recipes, ask: asking } = page.state();
      const known = state.key === state.asked || (state.key === state.shownKey && !again);
      if (page.host() && wanted() && recipes.length && !known) {
        state.asked = state.last = state.key;
        state.coming = asked(state.key, { model, recipes, ask: asking });
      }
      draw();
      return state.coming;
    };
    const askSoon = W.later(() => ask(), WAIT);
    new IntersectionObserver(([{ isIntersecting }]) => {
      state.seen = isIntersecting;
      if (isIntersecting) ask();
    }, { rootMargin: "200px" }).observe(element);

    // What a person does -------------------------------------------------------------------------------------------------
    const chosen = () => page.state().recipes.find(({ id }) => id === state.chosen);
    const saveCheckpoint = async () => {
      if (state.working) return;
      const [given, { title }] = [{ model: page.state().model, recipe: chosen(), dtype: state.dtype }, told()];
      state.working = true;
      draw();
      let answer = await W.post("checkpoint", given);
      if (answer.missing) {
        tell(W.say("view.away.pruning", { title }));
        const problem = await page.look();
        answer = problem ? { problem } : await W.post("checkpoint", given);
      }
      state.working = false;
      if (answer.address) {
        W.fetchFile(answer.address, answer.name);
        tell(W.say("view.away.saving", { name: answer.name, size: W.size(answer.bytes) }));
      } else tell(answer.problem || W.say("view.away.not_made", { title }), true);
      ask(true);
    };
    const startPush = (given) => {
      state.push = { run: (state.push?.run || 0) + 1, progress: { words: W.say("view.away.push_starts"), percent: 0 } };
      page.host().push({ run: state.push.run, model: page.state().model, recipe: chosen(), dtype: state.dtype, ...given });
      draw();
    };
    /** All that the page knows of the model as one run, or of the recipes on the page alone. */
    const runOf = (recipes = null) => {
      const { model, at, prompt, recipes: looked } = page.state();
      const specs = Object.fromEntries((state.of === model ? state.shown.recipes : []).filter(({ recipe }) => recipe).map(({ id, recipe: { sparsity, ...spec } }) => [looked.find((one) => one.id === id)?.key, spec]));
      const run = W.runOf({ known: page.known, model, recipes, specs, about: aboutOf(), answers: page.answers() });
      const told = state.of === model && state.shownKey === keyOf() ? state.shown.recipes : [];
      const repeat = told.map(({ id, title, command, python }) => ({ key: looked.find((one) => one.id === id)?.key, title, command, python }));
      return { ...run, shown: { at, keys: looked.map(({ key }) => key), prompt }, ...(repeat.length ? { repeat } : {}) };
    };
    const named = (kind) => W.stem(page.state().title, kind);
    const saveRun = async () => {
      await ask(); // what makes the recipes again is part of it
      W.save(`${named("run")}.json`, JSON.stringify(runOf()), "application/json");
    };
    const savePoints = () => W.save(`${named("points")}.csv`, W.csv(W.pointRows(runOf())), "text/csv;charset=utf-8");
    const saveReport = async () => {
      tell(W.say("view.away.writing"));
      await ask();
      const answer = await W.post("report", { language: document.documentElement.lang });
      if (answer.problem) return tell(answer.problem, true);
      W.save(`${named("report")}.html`, W.reportFile(answer.html, runOf(page.state().recipes)), "text/html;charset=utf-8");
      return tell("");
    };
    const openRun = async (given) => {
      const name = given.name.slice(0, 100);
      const wrong = (words) => { tell(words, true); page.tell({ problem: words }); };
      if (given.size > W.MOST_RUN) return wrong(W.say("view.away.run_large", { name, given: W.size(given.size), most: W.size(W.MOST_RUN) }));
      const { run, problem } = W.readRun(await given.text());
      const why = problem || page.known.addRun(run);
      if (why) return wrong(W.say("view.away.no_run", { name, why }));
      const { name: model, date } = run.made;
      const called = page.known.called(model);
      const same = page.known.isStored(model) && model === page.state().model;
      const words = W.say(same ? "view.away.opened" : "view.away.opened_other", { model: called, date });
      page.showRun(run);
      page.tell({ done: words });
      tell(words);
      if (same || !page.host()) return null;
      other.onclick = () => { other.hidden = true; page.open(model); };
      W.put(other, W.say("view.away.open_model", { model: called }));
      other.hidden = false;
      return null;
    };

    // A run may be dropped anywhere on the page; fields for files take what is dropped on them.
    const carriesFile = (event) => element.checkVisibility() && [...(event.dataTransfer?.types || [])].includes("Files") && !event.target.closest?.("input, textarea");
    addEventListener("dragover", (event) => {
      if (!carriesFile(event)) return;
      event.preventDefault();
      element.classList.add("wl-dropping");
    });
    addEventListener("dragleave", (event) => { if (!event.relatedTarget) element.classList.remove("wl-dropping"); });
    addEventListener("drop", (event) => {
      element.classList.remove("wl-dropping");
      if (!carriesFile(event)) return;
      event.preventDefault();
      if (event.dataTransfer.files[0]) openRun(event.dataTransfer.files[0]);
    });

    draw();
    return {
      element,
      /** Recipes, handle, model or what is known have changed. */
      changed: () => {
        state.key = keyOf();
        draw();
        if (wanted() && state.key !== state.last) askSoon();
      },
      /** A server answers from now on, or has made what it was asked for. */
      asks: () => ask(true),
      /** {run, progress, ended, url, problem} of a push. */
      pushed: (message) => {
        if (!message || !state.push || message.run !== state.push.run) return;
        Object.assign(state.push, { progress: message.progress || state.push.progress, ended: message.ended, url: message.url, problem: message.problem, done: message.done });
        draw();
      },
    };
  };
})(window.WandaLab);
