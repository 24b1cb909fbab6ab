/* A run as a file to take along: what it is looked at by, what it says, what the file is called and holds. */
"use strict";
((W) => {
  const MOST_TITLE = 200; // characters

  /** The lines of a run: [{key, line, recipe, name}], recipe null where the name is of no recipe known here; an own text is
   * called what the run calls it. */
  W.linesOf = (run) => run.lines.map((line) => {
    const recipe = W.recipeOf(line.key);
    if (recipe?.text) recipe.textName = (line.calibration || run.made.calibration).source;
    return { key: line.key, line, recipe, name: recipe ? W.nameOf(recipe) : line.key };
  });
  /** A recipe without its amount, told from all others: `Wanda`, `Wanda 2:4`, `Wanda (in-flight)`. */
  W.nameOf = (recipe) => {
    const apart = W.apart(recipe);
    return `${W.capital(W.short(recipe))}${W.nOfM(recipe.pattern) ? ` ${recipe.pattern}` : ""}${apart.length ? ` (${apart.join(", ")})` : ""}`;
  };

  /** The place of a line that is nearest to a percent. */
  W.nearest = (line, at) => [...line.at].sort((a, b) => Math.abs(a - at) - Math.abs(b - at) || a - b)[0];

  /**
   * By what a run is looked at: as it says itself in `shown`, {at, keys, prompt}, else its first lines near one half.
   * -> {at, recipes, prompt}, recipes empty where none is known here, prompt null where it has none.
   */
  W.lookedAt = (run) => {
    const lines = W.linesOf(run).filter(({ recipe }) => recipe);
    const shown = run.shown || {};
    const named = (shown.keys || []).map((key) => lines.find((one) => one.key === key)).filter(Boolean);
    const free = lines.filter(({ recipe }) => !W.nOfM(recipe.pattern));
    const chosen = (named.length ? named : free.length ? free.slice(0, 2) : lines.slice(0, 2)).slice(0, W.MOST_RECIPES);
    const prompts = run.prompts || [];
    const prompt = prompts.find(({ text }) => text === shown.prompt) || prompts[0];
    const at = Number.isFinite(shown.at) ? shown.at : chosen.length ? W.nearest(chosen[0].line, 50) : 50;
    return { at, recipes: chosen.map(({ recipe }) => recipe), prompt: prompt ? prompt.text : null };
  };

  /** The finding of a run, as the view words it at the same place. */
  W.findingOf = (run) => {
    const { at, recipes, prompt } = W.lookedAt(run);
    const known = new W.Known(run);
    const { name, model } = run.made;
    if (!recipes.length) return model; // by none of its recipes can it be looked at here
    return W.finding({
      at, model, dense: run.dense.perplexity, word: (run.prompts || []).find(({ text }) => text === prompt)?.word ?? null,
      columns: recipes.map((recipe) => ({ recipe, known: known.at(name, recipe, W.atOf(recipe, at)), answer: prompt === null ? null : known.storedAnswer(name, recipe, W.atOf(recipe, at), prompt) })),
    });
  };

  /** The name of a run's file: its model, its first recipe and the amount, and what kind of file it is. */
  W.fileName = (run, kind) => {
    const { at, recipes: [recipe] } = W.lookedAt(run);
    return W.stem(run.made.model, recipe ? W.recipeStem(recipe, W.atOf(recipe, at)) : null, kind);
  };

  /** A run as JSON that can stand in a page: nothing in it ends the element around it. */
  W.asJson = (run) => JSON.stringify(run).replace(/[<\u2028\u2029]/g, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`);

  /** A page of its own that holds a run. shell: of the server's question `report`; the words are of this page's language. */
  W.reportFile = (shell, run) => {
    const title = [...new Set([W.findingOf(run), run.made.model])].join(" · ").replace(/\p{C}+/gu, " ").slice(0, MOST_TITLE);
    const escaped = title.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
    return shell.replace(/<title>[^<]*/, () => `<title>${escaped}`)
      .replace(/(<script type="application\/json" id="wl-run">)[^<]*/, (_, opening) => opening + W.asJson(run));
  };
})(window.WandaLab);
