/* The columns of the view: what each model on the page says, what that costs, and why a token came. */
"use strict";
((W) => {
  const { h } = W;

  /**
   * Build the columns. page: {state, known, live, heard, asked, now: of the view; why: `W.why`; bare: whether no answer is
   * stored; host(); sent(recipe), as a server is asked; remove(id)}.
   * -> {element, draw(), of(id, recipe), ofNow(recipe): what is looked at, knownAt(recipe), plain()}
   */
  W.answers = ({ state, known, live, heard, asked, now, why, bare, host, sent, remove }) => {
    const element = h("div", { class: `wl-cols${bare ? " wl-bare" : ""}` });
    const shown = new Map(); // id -> {column, which}
    const plain = () => JSON.stringify(state.settings) === JSON.stringify(W.PLAIN_ASK);
    const atOf = (recipe) => (recipe === W.DENSE ? 0 : W.atOf(recipe, state.at));
    const titleOf = (recipe) => (recipe === W.DENSE ? W.say("view.dense") : W.title(recipe, state.at));
    const ofNow = (recipe) => JSON.stringify([state.model, recipe === W.DENSE ? "" : W.keyOf(recipe), atOf(recipe), state.prompt, state.settings]);
    const knownAt = (recipe) => known.at(state.model, recipe, W.atOf(recipe, state.at));

    /** The answer to show of a recipe or of DENSE: {pieces, probabilities, at, kind: "live" | "stored" | "old"}. */
    const of = (id, recipe) => {
      const came = heard.get(ofNow(recipe));
      const stored = plain() ? known.storedAnswer(state.model, recipe, atOf(recipe), state.prompt) : null;
      const again = came && stored && !came.whole && W.shared(came.pieces, stored.pieces) === came.pieces.length; // so far
      if (came && !again) return { ...came, kind: "live" };
      if (stored) return { ...stored, whole: true, kind: "stored" };
      const before = live.get(id);
      return before && before.model === state.model ? { ...before, kind: "old" } : null;
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
    const ask = (id, recipe, index) => {
      const answer = of(id, recipe);
      if (!answer) return;
      const token = answer.pieces[index];
      const title = titleOf(recipe);
      const say = (p) => W.say("view.why.came", { token: token.trim() || JSON.stringify(token), title, p: W.percent(p, 1) });
      const sentence = say(answer.probabilities[index] ?? 0);
      const close = () => shown.get(id)?.column.element.querySelector(".wl-answer").focus();
      why.show({ sentence: host() ? `${sentence} ${W.say("view.why.asking")}` : sentence, close });
      const titles = new Map(state.recipes.map((one) => [one.id, W.title(one, W.atOf(one, state.at))]));
      const { title: model, stems, foot: below } = W.looked();
      state.why = { run: (state.why?.run || 0) + 1, sentence, titles, close, title, say, id, token, names: [model, stems], of: below };
      const recipes = state.recipes.map((one) => (one === recipe ? { ...sent(one), at: answer.at ?? W.atOf(one, state.at) } : sent(one)));
      host()?.why({ model: state.model, run: state.why.run, recipes, ask: { prompt: state.prompt, ...state.settings }, index, tokens: answer.tokens || null, text: answer.pieces.slice(0, index).join(""), rest: answer.pieces.slice(index).join("") });
    };

    const draw = () => {
      const wanted = [[W.DENSE, W.DENSE, W.DENSE], ...state.recipes.map((recipe, i) => [recipe.id, recipe, i])];
      for (const [id, { column, which }] of shown)
        if (!wanted.some(([other, , place]) => other === id && place === which)) {
          column.element.remove();
          shown.delete(id);
        }
      const dense = of(W.DENSE, W.DENSE);
      wanted.forEach(([id, recipe, which], place) => {
        if (!shown.has(id)) {
          const removable = which !== W.DENSE && which > 0;
          shown.set(id, { column: W.column(which, (index) => ask(id, recipe, index), removable ? () => remove(id) : null), which });
        }
        const { column } = shown.get(id);
        if (element.children[place] !== column.element) element.insertBefore(column.element, element.children[place] || null);
        const told = now.get(id);
        const said = told?.of === ofNow(recipe) ? told : {}; // a job of an earlier recipe runs on, and tells of that
        const answer = of(id, recipe);
        const busy = state.busy && !said.ended && asked.get(id) === ofNow(recipe);
        const isDense = recipe === W.DENSE;
        const perplexity = known.densePerplexity(state.model);
        const cost = isDense ? (perplexity ? { perplexity, how: "stored" } : null) : knownAt(recipe);
        column.show({
          title: titleOf(recipe), perplexity: W.costWords(cost), answer,
          dense: isDense || !dense || dense.kind === "old" !== (answer?.kind === "old") ? null : dense, busy,
          writes: busy && !(answer?.whole && answer.kind !== "old"), old: answer?.kind === "old",
          hint: busy ? W.say(answer ? "view.reading" : isDense ? "view.coming_dense" : "view.coming") : W.say(host() ? "view.hint" : "view.hint_stored"), problem: said.problem,
          foot: foot(recipe, answer, dense, said),
        });
      });
      element.style.setProperty("--columns", wanted.length);
    };
    return { element, draw, of, ofNow, knownAt, plain };
  };
})(window.WandaLab);
