/* The largest words of the view: a sentence computed from what is known at the handle's place. */
"use strict";
((W) => {
  // A model is called what its perplexity makes it, in times the dense model's.
  const STATES = [[1.08, "same"], [1.6, "well"], [3, "stumbles"], [12, "babbles"], [Infinity, "nothing"]];
  const stateOf = (perplexity, dense) => STATES.find(([most]) => perplexity / dense < most)[1];

  /** Whether an answer holds the word that is asked for: `Paris`, `4`. */
  const holds = (answer, word) => {
    const plain = word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"); // it is a word, whatever signs it has
    return answer !== null && new RegExp(`(^|\\W)${plain}(\\W|$)`, "i").test(answer.pieces.join(""));
  };

  /**
   * The finding. columns: of the recipes, [{recipe, known, answer}], the one looked at first, known null where nothing
   * is; word: what a right answer holds, null where none is known.
   */
  W.finding = ({ at, dense, columns, word, model }) => {
    const [first, other] = columns.filter(({ known }) => known);
    const second = other && !W.shrinks(other.recipe) ? other : undefined; // parts that go are not weights that were chosen
    if (dense === null) return W.say("view.finding.waiting", { model });
    if (!first) return W.say(columns.every(({ recipe }) => W.isQuick(recipe) && !W.nOfM(recipe.pattern)) ? "view.finding.unmeasured" : W.shrinks(columns[0].recipe) ? "view.finding.unshrunk" : "view.finding.unpruned", { model, dense: W.number(dense) });
    if (at === 0 && W.startsDense(first.recipe)) return W.say("view.finding.whole", { dense: W.number(dense) });
    const named = ({ recipe, known }) => ({
      by: W.short(recipe),
      perplexity: W.costWords(known),
      state: stateOf(known.perplexity, dense),
    });
    const [a, b] = [named(first), second && named(second)];
    const place = W.nOfM(first.recipe.pattern) ? W.say("view.finding.pattern", { at: `${Math.round(10 * W.atOf(first.recipe, at)) / 10}%`, pattern: first.recipe.pattern }) : W.amount(first.recipe, at);
    const values = { at: place, by: a.by, perplexity: a.perplexity, dense: W.number(dense) };
    const knew = word && first.answer ? (holds(first.answer, word) ? "view.finding.knows_one" : "view.finding.forgot_one") : null;
    if (W.shrinks(first.recipe)) {
      const zeros = W.nOfM(first.recipe.zeros) ? W.say("view.finding.pattern", { at: `${W.atOf({ pattern: first.recipe.zeros })}%`, pattern: first.recipe.zeros }) : W.zeros(first.recipe);
      return W.say(`view.finding.${first.recipe.method}${zeros ? "_zeros" : ""}`, { ...values, zeros, state: W.say(`view.state.${a.state}`) });
    }
    if (!b) return W.say(knew || "view.finding.one", { word, ...values, state: W.say(`view.state.${a.state}`) });
    const both = { ...values, other: b.by, others: b.perplexity };
    if (word && first.answer && second.answer) {
      const right = [holds(first.answer, word), holds(second.answer, word)];
      if (right[0] !== right[1]) return W.say(right[0] ? "view.finding.knows" : "view.finding.forgot", { ...both, word });
    }
    if (a.state === b.state) return W.say("view.finding.alike", { ...both, state: W.say(`view.state.${a.state}`) });
    return W.say("view.finding.differ", {
      ...both, state: W.say(`view.state.${a.state}`), otherState: W.say(`view.state.${b.state}`),
    });
  };
})(window.WandaLab);
