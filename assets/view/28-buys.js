/* What pruning buys: which runtimes make anything of zeros, of 2:4 and of smaller matrices. */
"use strict";
((W) => {
  const { h } = W;

  /** The table of runtimes, folded. runtimes: {checked, rows: [{name, scattered, two_of_four, smaller, source, address}]} */
  W.where = ({ checked, rows }) => {
    const uses = ["scattered", "two_of_four", "smaller"];
    const head = h("tr", {}, ["runtime", ...uses, "source"].map((name) => h("th", { scope: "col" }, W.say(`view.where.${name}`))));
    const body = rows.map((row) => h("tr", {}, h("th", { scope: "row" }, row.name), uses.map((use) => h("td", { class: `wl-use-${row[use]}` }, W.say(`view.where.${row[use]}`))),
      h("td", {}, h("a", { href: row.address, target: "_blank", rel: "noopener noreferrer" }, row.source))));
    return h("details", { class: "wl-details", id: "where" }, h("summary", {}, W.say("view.where.title")), h("p", { class: "wl-note" }, W.say("view.where.text")),
      h("div", { class: "wl-scroll", tabindex: 0, role: "region", "aria-label": W.say("view.where.title") }, h("table", { class: "wl-table wl-where" }, h("thead", {}, head), h("tbody", {}, body))), h("p", { class: "wl-note" }, W.say("view.where.foot", { checked })));
  };

  const NOTICED = 0.05; // a smaller difference is one of the machine's moods
  const millions = (count) => `${(count / 1e6).toFixed(1)} M`;
  const speed = (value) => W.say("view.buys.a_second", { value: value < 100 ? value.toFixed(1) : Math.round(value).toLocaleString("en") });
  const percent = (share) => `${share > 0 ? "+" : "−"}${Math.round(100 * Math.abs(share))}%`;

  /** What of two sizes or speeds is won, as a share: the first is the dense model's. more: whether more is better. 0 for nothing. */
  const won = ([dense, own], more) => {
    const share = own / dense - 1;
    return Math.abs(share) < NOTICED && (more || share > -0.005) ? 0 : share;
  };

  /** The rows of the card. bought: as the server tells it; cost: of the recipe, {perplexity, top1}; dense: its perplexity. */
  W.boughtRows = ({ parameters, nonzero, nbytes, prefill, decode }, cost, dense) => {
    const saved = (pair) => { const share = won(pair, false); return share ? percent(share) : W.say("view.buys.none"); };
    const faster = (pair) => { const share = won(pair, true); return share ? percent(share) : W.say("view.buys.none"); };
    const rows = [
      ["parameters", parameters.map(millions), saved(parameters), won(parameters, false) < 0],
      ["nonzero", nonzero.map(millions), won(parameters, false) < 0 ? percent(won(nonzero, false)) : W.say("view.buys.not_stored"), false],
      ["size", nbytes.map(W.size), saved(nbytes), won(nbytes, false) < 0],
    ];
    for (const [name, pair] of [["prefill", prefill], ["decode", decode]])
      rows.push(pair ? [name, pair.map(speed), faster(pair), won(pair, true) > 0] : [name, ["–", "–"], W.say("view.buys.no_room"), false]);
    if (cost && dense) rows.push(["perplexity", [W.number(dense), W.number(cost.perplexity)], W.say("view.buys.times", { times: (cost.perplexity / dense).toFixed(cost.perplexity / dense < 10 ? 2 : 0) }), false]);
    if (cost?.top1 !== undefined && cost?.top1 !== null) rows.push(["agreement", [W.percent(1), W.percent(cost.top1)], "", false]);
    return rows;
  };

  /** In one sentence: what is won, or that nothing is. */
  W.boughtFinding = ({ nbytes, decode }, title) => {
    const [smaller, faster] = [won(nbytes, false), decode ? won(decode, true) : 0];
    const values = { title, smaller: `${Math.round(-100 * smaller)}%`, faster: `${Math.round(100 * faster)}%` };
    if (smaller >= 0) return W.say(faster > 0 ? "view.buys.only_faster" : "view.buys.nothing", values);
    return W.say(faster > 0 ? "view.buys.both" : "view.buys.only_smaller", values);
  };

  /**
   * The card of what the first recipe on the page buys. start(), cancel(): of a measurement. -> {element, show({model, recipe,
   * at, cost, dense, ready, stem}), heard(message)}
   */
  W.buys = (start, cancel) => {
    const known = new W.Latest(60); // model, recipe and place -> what was bought
    const of = (model, key, at) => JSON.stringify([model, key, at]);
    const state = { run: 0, busy: "", progress: null, problem: "", shown: null };
    const title = h("h3", { id: "buys-title" }, W.say("view.buys.title"));
    const said = h("p", { class: "wl-note", role: "status", id: "buys-said" });
    const go = h("button", { type: "button", class: "wl-secondary", id: "buys-measure", onclick: () => (state.busy ? cancel() : begin()) });
    const place = h("div", { class: "wl-scroll", hidden: true });
    let rows = [];
    const take = W.take({ node: () => place, title: () => said.textContent, caption: () => "", name: () => [state.shown.title, "buys", state.shown.stem], rows: () => rows, foot: () => W.looked().foot });
    const element = h("section", { class: "wl-buys", id: "buys", "aria-labelledby": "buys-title" }, h("div", { class: "wl-away-row" }, title, go, take.element), said, place);
    const begin = () => {
      const { model, recipe, at } = state.shown;
      state.run += 1;
      [state.busy, state.problem, state.progress] = [of(model, W.keyOf(recipe), at), "", null];
      start(state.run);
      draw();
    };
    const draw = () => {
      const { model, recipe, at, cost, dense, ready } = state.shown;
      const here = of(model, W.keyOf(recipe), at);
      const bought = known.get(here);
      const name = W.title(recipe, at);
      W.put(go, W.say(state.busy ? "view.cancel" : bought ? "view.buys.again" : "view.buys.measure"));
      go.disabled = !ready;
      const words = state.busy ? state.progress?.words || W.say("view.buys.starts", { title: name }) : state.problem || (bought ? W.boughtFinding(bought, name) : W.say("view.buys.unmeasured", { title: name }));
      W.put(said, words);
      said.classList.toggle("wl-problem-words", Boolean(state.problem && !state.busy));
      said.classList.toggle("wl-own-finding", Boolean(bought && !state.busy && !state.problem));
      place.hidden = !bought;
      take.element.hidden = !bought;
      if (!bought) return;
      const shown = W.boughtRows(bought, cost, dense);
      const titles = [W.say("view.dense"), name, W.say("view.buys.won")];
      rows = [["quantity", "dense", state.shown.stem], ...["parameters", "nonzero", "nbytes", "prefill", "decode"].filter((each) => bought[each]).map((each) => [each, ...bought[each]])];
      place.replaceChildren(h("table", { class: "wl-table" }, h("thead", {}, h("tr", {}, h("th", {}), titles.map((each) => h("th", { scope: "col" }, each)))),
        h("tbody", {}, shown.map(([kind, values, words, gain]) => h("tr", {}, h("th", { scope: "row" }, W.say(`view.buys.${kind}`)), values.map((value) => h("td", {}, value)), h("td", { class: gain ? "wl-won" : "wl-not-won" }, words))))));
      take.named(words);
    };
    return {
      element,
      show: (next) => {
        if (state.shown && of(state.shown.model, W.keyOf(state.shown.recipe), state.shown.at) !== of(next.model, W.keyOf(next.recipe), next.at)) state.problem = "";
        state.shown = next;
        draw();
      },
      /** {run, model, key, at, progress, bought, problem, done, ended} of a measurement. */
      heard: (message) => {
        if (!message || message.run !== state.run) return;
        state.progress = message.progress || state.progress;
        if (message.ended) [state.busy, state.problem] = ["", message.problem || message.done || ""];
        if (message.bought) known.set(of(message.model, message.key, message.at), message.bought);
        draw();
      },
    };
  };
})(window.WandaLab);
