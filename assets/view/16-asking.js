/* Why a weight is kept: the sentences about a weight, its column and its row, computed from their numbers. */
"use strict";
((W) => {
  const { h } = W;

  const scopeWords = (fate) => {
    if (fate.scope.includes(":") && /^\d/.test(fate.scope)) return W.say("view.scores.scope.pattern", { count: fate.of });
    const [along, size] = fate.scope.split(":");
    return W.say(`view.scores.scope.${size ? `${along}_part` : along}`, { count: fate.of });
  };

  /** What one recipe does to a weight, in a sentence. */
  const fateWords = (fate, by) => {
    const values = { by: W.capital(by), where: scopeWords(fate), cut: W.short3(fate.cut ?? 0), rank: fate.rank === null ? "" : W.ordinal(fate.rank), of: fate.of.toLocaleString("en"), gone: fate.removed_there.toLocaleString("en") };
    if (fate.rank === null) return W.say(fate.removed ? "view.scores.removes" : "view.scores.keeps", values);
    if (!fate.removed_there) return W.say("view.scores.removes_none", values);
    return W.say(`view.scores.${fate.removed ? "removes" : "keeps"}_by_${fate.metric}`, values);
  };

  const APART = 1.5; // times the median, from which an input is called loud, or quiet below its inverse
  const loudnessOf = ({ norm, median }) => (norm > APART * median ? "loud" : norm * APART < median ? "quiet" : "usual");

  /** A short heading that says who keeps it. */
  const heading = (told, names) => {
    const [first, second] = told.fates;
    const values = { first: names[0], second: names[1] };
    if (!second) return W.say(first.removed ? "view.scores.ask_removed" : "view.scores.ask_kept", { first: W.capital(names[0]) });
    if (first.removed === second.removed) return first.removed ? W.say("view.scores.ask_none", values) : W.say("view.scores.ask_both", { ...values, first: W.capital(names[0]) });
    const [keeper, other] = first.removed ? [1, 0] : [0, 1];
    const who = { first: names[keeper], second: names[other] };
    const loudness = loudnessOf(told);
    const metrics = [told.fates[keeper].metric, told.fates[other].metric].join();
    if (metrics === "score,size" && loudness === "loud") return W.say("view.scores.ask_loud", who);
    if (metrics === "size,score" && loudness === "quiet") return W.say("view.scores.ask_quiet", who);
    return W.say("view.scores.ask_one", { ...who, first: W.capital(who.first) });
  };

  const normWords = (told) => {
    const values = { norm: W.short3(told.norm), column: told.column, median: W.short3(told.median), place: W.ordinal(told.loudness), columns: told.columns.toLocaleString("en"), times: W.short3(told.median ? told.norm / told.median : 0) };
    if (!told.norm) return W.say("view.scores.norm_dead", values);
    if (told.loudness === 1 && told.columns > 1) return W.say("view.scores.norm_loudest", values);
    return W.say(`view.scores.norm_${loudnessOf(told)}`, values);
  };

  /** Whether the channel that a column reads is an outlier feature; nothing for a column that reads none. */
  const featureWords = ({ column, feature }) => (feature ? ` ${W.say(`view.scores.feature_${feature.meets ? "yes" : "no"}`, {
    column, magnitude: W.short3(feature.magnitude), layers: W.percent(feature.layers), positions: W.percent(feature.positions, 1), least_layers: W.percent(feature.least[0]), least_positions: W.percent(feature.least[1]),
  })}` : "");

  /** All sentences about a weight. told: {weight, column, row}; names: of the recipes. */
  W.weightWords = ({ weight, column, row }, names) => {
    const values = { row: weight.row, column: weight.column, value: W.short3(weight.value), size: W.short3(Math.abs(weight.value)), score: W.short3(weight.score), by_size: W.ordinal(weight.by_size), by_score: W.ordinal(weight.by_score), columns: weight.columns.toLocaleString("en") };
    const size = W.say("view.scores.size_words", values);
    const score = W.say(weight.by_score === 1 ? "view.scores.score_highest" : "view.scores.score_words", values);
    const shares = (kept) => names.map((by, i) => W.say("view.scores.keeps_share", { by, share: W.percent(kept[i]) })).join(", ");
    return {
      heading: heading(weight, names),
      weight: [size, normWords(weight), score, ...weight.fates.map((fate, i) => fateWords(fate, names[i]))],
      column: W.say("view.scores.column_words", { column: column.column, rows: column.rows.toLocaleString("en"), norm: W.short3(column.norm), place: W.ordinal(column.loudness), shares: shares(column.kept) }) + featureWords(column),
      row: W.say("view.scores.row_words", { row: row.row, columns: row.columns.toLocaleString("en"), shares: shares(row.kept) }),
    };
  };

  /** The two ranks as bars: the weight's place between removed and kept. */
  const rankBar = (name, words, share, cut, kind) => h("div", { class: `wl-rank wl-rank-${kind}` },
    h("p", {}, h("span", {}, name), h("b", {}, words)),
    h("div", { class: "wl-rank-bar", "aria-hidden": "true" }, h("i", { style: `width:${(100 * cut).toFixed(2)}%` }), h("em", { style: `left:${(100 * share).toFixed(2)}%` })),
    h("p", { class: "wl-rank-ends", "aria-hidden": "true" }, h("span", {}, W.say("view.scores.removed")), h("span", {}, W.say("view.scores.kept"))));

  /** Build the panel. asked({row, column} | {how}): what is to be told next. */
  W.asking = (asked) => {
    const field = (id, words) => h("input", { id, type: "number", min: 0, step: 1, "aria-label": words });
    const [row, column] = [field("ask-row", W.say("view.scores.row")), field("ask-column", W.say("view.scores.column"))];
    const [title, words, about, bars, said] = [h("h3"), h("p", { class: "wl-ask-words", id: "ask-words" }), h("p", { class: "wl-note", id: "ask-about" }), h("div", { class: "wl-ranks" }), h("p", { class: "wl-note", role: "status" })];
    const button = (id, key, how) => h("button", { type: "button", class: "wl-suggest", id, onclick: () => asked({ how }) }, W.say(key));
    const typed = () => row.value !== "" && column.value !== "" && asked({ row: Number(row.value), column: Number(column.value) });
    for (const input of [row, column]) input.addEventListener("change", () => input.reportValidity() && typed());
    const element = h("section", { class: "wl-ask", id: "ask-weight", "aria-live": "polite" },
      h("div", {}, title, h("div", { class: "wl-row" }, h("label", { class: "wl-number" }, W.say("view.scores.row"), row), h("label", { class: "wl-number" }, W.say("view.scores.column"), column),
        button("ask-next", "view.scores.next", "next"), button("ask-telling", "view.scores.telling", "telling")), words, said),
      h("div", {}, bars, about));
    const show = (told, names, rows, columns) => {
      [row.max, column.max] = [rows - 1, columns - 1];
      W.put(said, "");
      if (!told) return;
      if (document.activeElement !== row) row.value = told.weight.row;
      if (document.activeElement !== column) column.value = told.weight.column;
      const text = W.weightWords(told, names);
      W.put(title, text.heading);
      words.replaceChildren(...text.weight.map((sentence, i) => h("span", {}, `${i ? " " : ""}${sentence}`)));
      about.replaceChildren(h("span", {}, text.column), " ", h("span", {}, text.row));
      const of = (rank, all) => (all > 1 ? (all - rank) / (all - 1) : 1);
      bars.replaceChildren(...told.weight.fates.map((fate, i) => {
        const words = W.say(fate.removed ? "view.scores.is_removed" : "view.scores.is_kept", { by: W.capital(names[i]) });
        if (fate.rank === null) return h("div", { class: "wl-rank" }, h("p", {}, h("b", {}, words)));
        const name = W.say(`view.scores.rank_by_${fate.metric}`, { where: scopeWords(fate), rank: W.ordinal(fate.rank), of: fate.of.toLocaleString("en") });
        return rankBar(name, words, of(fate.rank, fate.of), fate.removed_there / fate.of, i);
      }));
    };
    return { element, show, problem: (sentence) => W.put(said, sentence) };
  };
})(window.WandaLab);
