/* The test at the end: six items with their figures, one after the other; a score, and which step showed what was asked. */
"use strict";
((W) => {
  const { h } = W;
  const small = (value) => (value === 0 ? "0" : Math.abs(value) >= 1e7 || Math.abs(value) < 1e-6 ? value.toExponential(2).replace("e+", "e") : value.toLocaleString("en", { maximumSignificantDigits: 3 })).replaceAll("-", "−");
  const table = (heads, rows, label) => h("div", { class: "wl-exam-figure" }, h("table", { "aria-label": label },
    h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))),
    h("tbody", {}, rows.map(([name, ...cells]) => h("tr", {}, h("th", { scope: "row" }, name), cells.map((cell) => h("td", {}, typeof cell === "number" ? small(cell) : cell)))))));
  const low = (number) => "₀₁₂₃₄₅₆₇₈₉"[number];

  /** What each kind shows. */
  const FIGURES = {
    two_weights: ({ w, x }) => table([W.say("try.exam.weight"), "w", "x"], [["w₁", w[0], x[0]], ["w₂", w[1], x[1]]], W.say("try.exam.figures")),
    kept_pair: ({ w, x }) => table(["", ...w.map((_, k) => `w${low(k + 1)}`)], [[W.say("try.exam.weight"), ...w], [W.say("try.exam.norm"), ...x]], W.say("try.exam.figures")),
    massive: ({ block, channel, value, median }) => table(["", W.say("try.exam.block", { block })], [[W.say("try.exam.largest", { channel }), value], [W.say("try.exam.median"), median]], W.say("try.exam.figures")),
    massive_or_feature: ({ block, channel, value, median, layers, positions }) => table(["", W.say("try.exam.channel", { channel })], [[W.say("try.exam.largest_there", { block }), value], [W.say("try.exam.median_there", { block }), median],
      [W.say("try.exam.layers"), `${small(layers)}%`], [W.say("try.exam.positions"), `${small(positions)}%`]], W.say("try.exam.figures")),
    shared_budget: ({ scores }) => table([W.say("try.exam.score"), "x₁", "x₂", "x₃", "x₄"], scores.map((row, k) => [`y${low(k + 1)}`, ...row]), W.say("try.exam.figures")),
    louder_column: ({ size, gain }) => table(["", W.say("try.exam.size"), W.say("try.exam.gain")], [[W.say("try.exam.column", { column: 1 }), size[0], gain[0]], [W.say("try.exam.column", { column: 2 }), size[1], gain[1]]], W.say("try.exam.figures")),
    who_keeps: ({ w, x, cut_size, cut_score }) => table(["", W.say("try.exam.this"), W.say("try.exam.cut")], [[W.say("try.exam.by_size"), Math.abs(w), cut_size], [W.say("try.exam.by_score"), `${small(Math.abs(w))} × ${small(x)}`, cut_score]], W.say("try.exam.figures")),
  };
  const optionWords = (kind, option) => {
    if (kind === "kept_pair") return W.say("try.exam.kept_pair.option", { first: `w${low(option[0])}`, second: `w${low(option[1])}` });
    if (kind === "shared_budget") return option;
    if (kind === "louder_column") return W.say("try.exam.column", { column: option });
    return W.say(`try.exam.${kind}.option.${option}`);
  };
  /** Why an answer is right, in the figures' own numbers. */
  const whyWords = (item) => {
    const f = item.figures, times = (a, b) => small(Number(Math.abs(a * b).toPrecision(3)));
    const values = {
      two_weights: () => ({ first: times(f.w[0], f.x[0]), second: times(f.w[1], f.x[1]) }),
      kept_pair: () => ({ scores: f.w.map((w, k) => `w${low(k + 1)}: ${times(w, f.x[k])}`).join(", ") }),
      massive: () => ({ value: small(f.value), times: Math.round(f.value / f.median).toLocaleString("en") }),
      massive_or_feature: () => ({ value: small(f.value), times: Math.round(f.value / f.median).toLocaleString("en"), layers: small(f.layers), positions: small(f.positions) }),
      shared_budget: () => { const all = f.scores.flat().sort((a, b) => b - a); return { last: small(all[5]), row: "y₂" }; },
      louder_column: () => ({ first: times(f.size[0], f.gain[0]), second: times(f.size[1], f.gain[1]) }),
      who_keeps: () => ({ size: small(Math.abs(f.w)), cut_size: small(f.cut_size), score: times(f.w, f.x), cut_score: small(f.cut_score) }),
    }[item.kind]();
    return W.say(`try.exam.${item.kind}.why`, values);
  };

  /** Whether an item is of a kind that is known here: one may be kept from an earlier version of the page. */
  W.examKnows = ({ kind }) => Object.hasOwn(FIGURES, kind);

  /** Ask six items. items: as `wanda_core.report.exam` draws them; steps: {name: [number, title]} of the lesson;
   * before: answers given already, by place; done(answers): told after each; again(): asks for others. */
  W.exam = (element, { items, steps, before = [] }, { done = () => {}, again = null, go = null } = {}) => {
    const answers = items.map((item, place) => (item.options.includes(before[place]) ? before[place] : null));
    const list = h("ol", { class: "wl-exam" });
    const score = h("div", { class: "wl-exam-score", role: "status" });
    const showScore = () => {
      const given = answers.filter((answer) => answer !== null).length;
      if (given < items.length) {
        score.replaceChildren(h("p", {}, W.say("try.exam.given", { given, of: items.length })));
        return;
      }
      const wrong = items.filter((item, place) => item.answer !== answers[place]);
      const right = items.length - wrong.length;
      const names = [...new Set(wrong.map((item) => item.step))].filter((name) => steps[name]);
      score.replaceChildren(h("p", { class: "wl-exam-sum" }, W.say("try.exam.score_of", { right, of: items.length })),
        ...(names.length ? [h("p", {}, W.say("try.exam.look_again")), h("ul", {}, names.map((name) => h("li", {}, go ? h("button", { type: "button", onclick: () => go(steps[name][0]) }, `${steps[name][0]} · ${steps[name][1]}`) : `${steps[name][0]} · ${steps[name][1]}`)))] : []),
        ...(again ? [h("button", { type: "button", class: "wl-exam-again", onclick: again }, W.say("try.exam.again"))] : []));
    };
    items.forEach((item, place) => {
      const told = h("p", { class: "wl-exam-told", role: "status" });
      const group = h("fieldset", {}, h("legend", {}, W.say(`try.exam.${item.kind}.question`)), FIGURES[item.kind](item.figures));
      const boxes = item.options.map((option) => {
        const input = h("input", { type: "radio", name: `wl-exam-${place}`, value: option });
        const label = h("label", {}, input, h("span", {}, optionWords(item.kind, option)));
        input.addEventListener("keydown", (event) => move(event, option));
        input.addEventListener("change", () => {
          if (answers[place] === null) {
            answers[place] = option;
            done(answers.slice());
          }
          show(); // an answer that was given stays
        });
        return { input, label, option };
      });
      /** An arrow leads to another answer and does not give it, for one given cannot be taken back: Space gives it. */
      const move = (event, option) => {
        const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
        if (!step) return;
        event.preventDefault();
        boxes.at((item.options.indexOf(option) + step) % boxes.length).input.focus();
      };
      const show = () => {
        const answer = answers[place];
        if (answer === null) return;
        const right = answer === item.answer;
        for (const { input, label, option } of boxes) {
          input.setAttribute("aria-disabled", "true"); // it keeps the focus
          input.checked = option === answer;
          label.className = option === item.answer ? "wl-exam-right" : option === answer ? "wl-exam-wrong" : "";
        }
        const [number, title] = steps[item.step] || ["", ""];
        told.className = `wl-exam-told ${right ? "wl-fits" : "wl-differs"}`;
        W.put(told, `${W.say(right ? "try.exam.is_right" : "try.exam.is_wrong", { answer: optionWords(item.kind, item.answer) })} ${whyWords(item)} ${W.say("try.exam.shown_in", { number, title })}`);
        showScore();
      };
      group.append(h("div", { class: "wl-exam-options" }, boxes.map(({ label }) => label)), told);
      list.append(h("li", {}, group));
      show();
    });
    element.replaceChildren(list, score);
    showScore();
  };
})(window.WandaLab);
