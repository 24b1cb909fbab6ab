/* Beat Wanda: a piece of a real matrix whose weights are removed by hand, and what that costs beside three other ways. */
"use strict";
((W) => {
  const { h } = W;
  const TALL = 56; // pixels of the loudest column
  const BETTER = 0.999; // times an error, below which another is called less
  const WAYS = ["magnitude", "wanda", "best"];

  /** What one row's output loses, ‖X_R w_R‖: w: its weights; gram: XᵀX; gone: places. */
  const rowError = (w, gram, gone) => Math.sqrt(Math.max(0, gone.reduce((sum, i) => sum + gone.reduce((part, j) => part + w[i] * gram[i][j] * w[j], 0), 0)));
  const together = (errors) => Math.sqrt(errors.reduce((sum, error) => sum + error * error, 0));
  const places = (row) => row.flatMap((gone, place) => (gone ? [place] : []));

  /** All ways to take `count` of `total` places. */
  const choices = (total, count, from = 0) => (count === 0 ? [[]] : Array.from({ length: total - from - count + 1 }, (_, k) => from + k)
    .flatMap((first) => choices(total, count - 1, first + 1).map((rest) => [first, ...rest])));

  /** What each way removes of each row, as booleans. */
  const masksOf = ({ w, gram, budget }) => {
    const columns = w[0].length, all = choices(columns, budget);
    const norm = gram.map((row, j) => Math.sqrt(row[j]));
    const lowest = (scores) => {
      const order = scores.map((_, place) => place).sort((a, b) => scores[a] - scores[b] || a - b).slice(0, budget);
      return scores.map((_, place) => order.includes(place));
    };
    const best = (row) => {
      let [least, found] = [Infinity, []];
      for (const way of all) {
        const error = rowError(row, gram, way);
        if (error < least) [least, found] = [error, way];
      }
      return row.map((_, place) => found.includes(place));
    };
    return { magnitude: w.map((row) => lowest(row.map(Math.abs))), wanda: w.map((row) => lowest(row.map((value, j) => Math.abs(value) * norm[j]))), best: w.map(best) };
  };
  W.beatMasks = masksOf;

  const short = (value) => (value >= 100 ? Math.round(value).toString() : value >= 10 ? value.toFixed(1) : value.toFixed(2));

  /** Draw a piece. piece: {linear, block, rows, columns, w, gram, windows, seq_len, budget}; done(result): what to keep of it;
   * before: what was removed of it already, as booleans; told(removed): when that changes. */
  W.beat = (element, piece, done = () => {}, { before = null, told = () => {} } = {}) => {
    const { w, gram, budget, rows, columns } = piece;
    const norm = gram.map((row, j) => Math.sqrt(row[j]));
    const loudest = Math.max(...norm, 1e-9), largest = Math.max(...w.flat().map(Math.abs), 1e-9);
    const masks = masksOf(piece);
    const errorsOf = (mask) => mask.map((row, i) => rowError(w[i], gram, places(row)));
    const costs = Object.fromEntries(WAYS.map((way) => [way, together(errorsOf(masks[way]))]));
    const whole = () => w.map((row) => row.map(() => false));
    let [mine, shown] = [before ?? whole(), "you"];
    const cells = [];
    const said = h("p", { class: "wl-beat-said", role: "status" });
    const bars = h("div", { class: "wl-beat-bars" });
    const counts = rows.map(() => h("span", {}));

    const press = (i, j) => {
      if (shown !== "you") return;
      if (!mine[i][j] && places(mine[i]).length >= budget) {
        W.put(said, W.say("try.beat.full", { row: rows[i], budget }));
        return;
      }
      mine[i][j] = !mine[i][j];
      told(mine);
      show();
    };
    const move = (event, i, j) => {
      const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0], Home: [0, -j], End: [0, columns.length - 1 - j] }[event.key];
      if (!step) return;
      event.preventDefault();
      const to = cells[i + step[0]]?.[j + step[1]];
      if (!to) return;
      for (const cell of cells.flat()) cell.tabIndex = cell === to ? 0 : -1;
      to.focus();
    };
    const head = h("tr", {}, h("th", { scope: "col" }, h("span", {}, W.say("try.beat.input"))), columns.map((column, j) => h("th", { scope: "col", "aria-label": W.say("try.beat.column", { column, norm: short(norm[j]) }) },
      h("span", {}, W.say("try.beat.input_column", { column })), h("b", {}, short(norm[j])), h("i", { style: `height:${Math.max(2, Math.round((TALL * norm[j]) / loudest))}px` }))));
    const body = rows.map((row, i) => {
      cells.push(columns.map((column, j) => h("button", { type: "button", tabindex: i + j === 0 ? 0 : -1, onclick: () => press(i, j), onkeydown: (event) => move(event, i, j) }, w[i][j].toFixed(Math.abs(w[i][j]) < 0.1 ? 3 : 2).replace("-", "−"))));
      return h("tr", {}, h("th", { scope: "row" }, W.say("try.beat.row", { row }), counts[i]), cells[i].map((cell) => h("td", {}, cell)));
    });
    const ways = ["you", ...WAYS].map((way) => h("button", { type: "button", "data-way": way, "aria-pressed": "false", onclick: () => { shown = way; show(); } }, W.say(`try.beat.way.${way}`)));
    const again = h("button", { type: "button", class: "wl-beat-again", onclick: () => { mine = whole(); shown = "you"; told(mine); show(); } }, W.say("try.beat.again"));
    const look = h("div", { class: "wl-beat-ways", role: "group", "aria-label": W.say("try.beat.look") }, h("span", {}, W.say("try.beat.look")), ways);
    const why = h("p", { class: "wl-beat-why" });

    const bar = (way, cost, most) => h("div", { class: `wl-beat-bar wl-way-${way}` }, h("span", {}, W.say(`try.beat.way.${way}`)), h("div", {}, h("i", { style: `width:${(100 * cost) / most}%` }), h("b", {}, short(cost))));
    const better = () => rows.filter((_, i) => rowError(w[i], gram, places(masks.best[i])) < BETTER * rowError(w[i], gram, places(masks.wanda[i])));

    const show = () => {
      const mask = shown === "you" ? mine : masks[shown];
      const finished = mine.every((row) => places(row).length === budget);
      cells.forEach((line, i) => line.forEach((cell, j) => {
        const gone = mask[i][j];
        cell.setAttribute("aria-pressed", String(gone));
        cell.setAttribute("aria-label", W.say(gone ? "try.beat.gone" : "try.beat.there", { row: rows[i], column: columns[j], weight: w[i][j].toFixed(3), norm: short(norm[j]) }));
        cell.classList.toggle("wl-gone", gone);
        cell.style.setProperty("--size", (Math.abs(w[i][j]) / largest).toFixed(3));
        cell.disabled = shown !== "you";
      }));
      counts.forEach((count, i) => W.put(count, `${places(mask[i]).length} / ${budget}`));
      const own = together(errorsOf(mine));
      const most = Math.max(own, ...(finished ? Object.values(costs) : [costs.magnitude]), 1e-9);
      bars.replaceChildren(...(finished ? [bar("magnitude", costs.magnitude, most), bar("you", own, most), bar("wanda", costs.wanda, most), bar("best", costs.best, most)] : [bar("you", own, most)]));
      look.hidden = !finished;
      for (const button of ways) button.setAttribute("aria-pressed", String(button.dataset.way === shown));
      const left = mine.reduce((sum, row) => sum + budget - places(row).length, 0);
      if (!finished) {
        W.put(said, W.say("try.beat.left", { left }));
        W.put(why, "");
        return;
      }
      const values = { you: short(own), wanda: short(costs.wanda), best: short(costs.best), magnitude: short(costs.magnitude) };
      const key = own <= 1.001 * costs.best ? "best" : own < BETTER * costs.wanda ? "beaten" : own <= 1.001 * costs.wanda ? "level" : own < costs.magnitude ? "between" : "behind";
      W.put(said, W.say(`try.beat.result.${key}`, values));
      const rowsBetter = better();
      W.put(why, rowsBetter.length ? W.say("try.beat.why", { rows: rowsBetter.join(", ") }) : W.say("try.beat.why_none"));
      done({ you: own, ...costs, beaten: own < BETTER * costs.wanda });
    };

    element.replaceChildren(h("div", { class: "wl-beat" },
      h("h3", {}, W.say("try.beat.title", { budget, of: columns.length })),
      h("p", { class: "wl-beat-story" }, W.say("try.beat.story", { rows: rows.length, linear: piece.linear, windows: piece.windows, seq_len: piece.seq_len })),
      h("div", { class: "wl-beat-both" }, h("div", { class: "wl-beat-grid" }, h("table", {}, h("thead", {}, head), h("tbody", {}, body)), h("p", { class: "wl-beat-keys" }, W.say("try.beat.keys"))),
        h("div", { class: "wl-beat-side" }, said, bars, look, why, again))));
    show();
  };
})(window.WandaLab);
