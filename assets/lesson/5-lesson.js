/* What stands beside the lesson's steps, mounted where the page has a place for it. */
"use strict";
((W) => {
  const { h } = W;
  const told = JSON.parse(document.getElementById("wl-lesson").textContent); // {steps, piece, matrix}
  const slot = (element) => element.querySelector(".wl-slot") || element;
  const STATUS = "lesson-exam-status"; // where the server tells of the test: progress, or why there is none
  const seed = () => Math.floor(Math.random() * 2 ** 31);
  const subscript = (number) => "₀₁₂₃₄₅₆₇₈₉"[number];

  const SPECS = {
    matrix: () => ({ kind: "mask", budget: told.matrix.w[0].length / 2, w: told.matrix.w, rows: told.matrix.w.map((_, i) => `y${subscript(i + 1)}`), heads: told.matrix.w[0].map((_, j) => `x${subscript(j + 1)}${j === told.matrix.loud ? " ▲" : ""}`) }),
    ablate: () => ({ kind: "bars", low: 10, high: 1000000, names: ["untouched", "random", "first", "others", "all"].map((name) => W.say(`try.sketch.name.${name}`)) }),
    cost: () => ({ kind: "curve", low: 10, high: 10000, names: ["0%", "30%", "50%", "60%"], at: [0, 30, 50, 60] }),
  };
  /** What the answer of a step carries for its sketch; null before it is shown. */
  const truthOf = (number) => {
    const place = document.querySelector(`#lesson-${number}-picture .wl-truth`);
    return place ? JSON.parse(place.dataset.truth) : null;
  };
  const fits = (number) => {
    const button = document.querySelector(`#lesson-steps [data-step="${number}"]`);
    return button?.closest(".wl-fits") ? true : button?.closest(".wl-differs") ? false : null;
  };
  /** Copies of what a step shows, for paper; null where it was not answered. */
  const figures = (number) => {
    const parts = ["finding", "picture", "explanation"].map((name) => document.querySelector(`#lesson-${number}-${name}`)).filter(Boolean);
    if (!parts.some((part) => part.textContent.trim())) return null;
    return parts.map((part) => {
      const copy = part.cloneNode(true);
      for (const each of [copy, ...copy.querySelectorAll("[id]")]) each.removeAttribute("id");
      return copy;
    });
  };
  const go = (number) => document.querySelector(`#lesson-steps [data-step="${number}"]`)?.click();

  W.lesson = {
    /** A place to sketch in, before the answer of a step is shown. */
    sketch: (element, step, number) => {
      const spec = { ...SPECS[step](), step, ask: W.say(`try.sketch.ask.${step}`), label: W.say("try.sketch.axis") };
      const pad = W.sketch(slot(element), spec);
      let shown = null;
      const look = () => {
        const truth = truthOf(number);
        if (!truth || JSON.stringify(truth) === shown) return;
        shown = JSON.stringify(truth);
        pad.reveal(truth);
      };
      const step_ = document.getElementById(`lesson-${number}`) || document.body;
      new MutationObserver(look).observe(step_, { childList: true, subtree: true });
      look();
    },
    beat: (element, host) => {
      const place = h("div", {}), made = h("p", { class: "wl-beat-made" });
      const other = h("button", { type: "button", class: "wl-beat-live", onclick: () => host.ask({ seed: seed() }) }, W.say("try.beat.live"));
      slot(element).replaceChildren(place, made, other);
      const show = (piece, stored) => {
        const name = `${piece.linear} ${piece.rows} ${piece.columns}`, held = W.kept.get(W.kept.PIECE);
        W.beat(place, piece, (result) => {
          const best = W.kept.get(W.kept.BEAT); // of all tries, against Wanda on the same piece
          if (!best || result.you / result.wanda < best.you / best.wanda) W.kept.set(W.kept.BEAT, result);
        }, { before: held?.name === name ? held.mine : null, told: (mine) => W.kept.set(W.kept.PIECE, { name, mine }) });
        W.put(made, W.say(stored ? "try.beat.stored" : "try.beat.measured", piece.made));
      };
      show(told.piece, true);
      host.watch((value) => value && show(JSON.parse(value), false));
    },
    exam: (element, host) => {
      const place = h("div", {}), waiting = h("p", { role: "status" });
      const start = h("button", { type: "button", class: "wl-exam-draw", onclick: () => ask() }, W.say("try.exam.draw"));
      slot(element).replaceChildren(start, waiting, place);
      const steps = Object.fromEntries(told.steps.map(([name, title], k) => [name, [k + 1, title]]));
      const heard = new MutationObserver(() => document.getElementById(STATUS).textContent.trim() && W.put(waiting, ""));
      const ask = () => { // the items that stand there stay until others have come: a request may be refused
        W.put(waiting, W.say("try.exam.drawing"));
        heard.observe(document.getElementById(STATUS), { childList: true, characterData: true, subtree: true });
        host.ask({ seed: seed() });
      };
      const show = (drawn, answers) => {
        start.hidden = true;
        const keep = (given) => W.kept.set(W.kept.EXAM, { ...drawn, answers: given, before: W.answered(given) ? null : finished });
        W.exam(place, { items: drawn.items, steps, before: answers }, { again: ask, go, done: keep });
      };
      const before = W.kept.get(W.kept.EXAM);
      let finished = W.finished(before); // the last test that was answered to its end counts until another one is
      if (before?.items?.length && before.items.every(W.examKnows)) show(before, before.answers || []);
      host.watch((value) => {
        if (!value) return;
        W.put(waiting, "");
        finished = W.finished(W.kept.get(W.kept.EXAM));
        show(JSON.parse(value), []);
      });
    },
    handIn: (element) => W.handIn(slot(element), { steps: told.steps, fits, figures }),
  };
})(window.WandaLab);
