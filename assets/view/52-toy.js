/* Two weights, of which one has to go: what each metric cuts, and what that costs the output. */
"use strict";
((W) => {
  const { h } = W;
  const NAMES = ["w₁", "w₂"], ALIKE = 1e-6; // as close as the engine calls equal
  const KNOBS = [["w", 0, -3, 3, 0.1], ["x", 0, 0, 60, 0.5], ["w", 1, -3, 3, 0.1], ["x", 1, 0, 60, 0.5]];

  const alike = (a, b) => Math.abs(a - b) <= ALIKE * Math.max(Math.abs(a), Math.abs(b));
  /** The place of the smaller of two, null where they are alike. */
  const lower = ([a, b]) => (alike(a, b) ? null : Number(b < a));

  /**
   * y = w₁x₁ + w₂x₂ with one weight to go, as `wanda_core/explain/toy_example.py` works it out.
   * -> {y, sizes, scores, magnitude, wanda: the place of what each cuts, null where it cannot choose}; scores are also
   * what y loses with either weight.
   */
  W.twoWeights = ([w1, w2], [x1, x2]) => {
    const [sizes, scores] = [[Math.abs(w1), Math.abs(w2)], [Math.abs(w1 * x1), Math.abs(w2 * x2)]];
    return { y: w1 * x1 + w2 * x2, sizes, scores, magnitude: lower(sizes), wanda: lower(scores) };
  };

  const short = (value) => String(Number(value.toFixed(2))).replace("-", "−");
  /** What was found, in a sentence. */
  W.twoWeightsFinding = ({ scores, magnitude, wanda }) => {
    const cost = (place) => short(scores[place]);
    if (wanda === null && magnitude === null) return W.say("leaf.toy.tie", { cost: cost(0) });
    if (wanda === null) return W.say("leaf.toy.wanda_tie", { cost: cost(0), magnitude: NAMES[magnitude] });
    if (magnitude === null) return W.say("leaf.toy.magnitude_tie", { cost: cost(wanda), wanda: NAMES[wanda], other: cost(1 - wanda) });
    if (magnitude === wanda) return W.say("leaf.toy.agree", { cut: NAMES[wanda], cost: cost(wanda) });
    return W.say("leaf.toy.apart", { magnitude: NAMES[magnitude], wrong: cost(magnitude), wanda: NAMES[wanda], cost: cost(wanda) });
  };

  /** Build it. toy: {w: [w₁, w₂], x: [x₁, x₂]} to begin with. */
  W.toy = ({ w: [...w], x: [...x] }) => {
    const given = { w, x };
    const finding = h("h3", { class: "wl-toy-finding", id: "toy-finding", "aria-live": "polite" });
    const formula = h("p", { class: "wl-toy-formula" });
    const [bySize, byScore] = [h("dl", { class: "wl-bars" }), h("dl", { class: "wl-bars" })];
    const losses = h("p", { class: "wl-twin", id: "toy-losses" });
    const knobs = KNOBS.map(([letter, place, min, max, step]) => {
      const name = `${letter}${"₁₂"[place]}`;
      const value = h("output", {});
      const input = h("input", { type: "range", id: `toy-${letter}${place + 1}`, min, max, step, "aria-label": W.say(`leaf.toy.${letter}`, { name }), oninput: () => { given[letter][place] = Number(input.value); draw(); } });
      input.value = given[letter][place];
      given[letter][place] = Number(input.value); // a value beyond the slider's ends is its end
      return [letter, place, value, h("label", { class: "wl-knob" }, h("span", {}, name), input, value)];
    });
    const bars = (list, values, gone, kind) => {
      const most = Math.max(1e-9, ...values);
      list.replaceChildren(...values.flatMap((value, place) => [
        h("dt", {}, NAMES[place], place === gone ? h("span", { class: "wl-gone" }, ` ${W.say("leaf.toy.cut")}`) : null),
        h("dd", {}, h("i", { class: `${kind}${place === gone ? " wl-bar-gone" : ""}`, style: `width:${((66 * value) / most).toFixed(1)}%`, "aria-hidden": "true" }), h("span", {}, short(value))),
      ]));
    };
    const draw = () => {
      const found = W.twoWeights(given.w, given.x);
      for (const [letter, place, value] of knobs) W.put(value, short(given[letter][place]));
      const [w1, w2, x1, x2] = [...given.w, ...given.x].map(short);
      W.put(formula, `y = w₁x₁ + w₂x₂ = ${w1} · ${x1} + ${w2} · ${x2} = ${short(found.y)}`);
      W.put(finding, W.twoWeightsFinding(found));
      bars(bySize, found.sizes, found.magnitude, "wl-bar-grey");
      bars(byScore, found.scores, found.wanda, "wl-bar-a");
      W.put(losses, W.say("leaf.toy.losses", { y: short(found.y), first: short(found.scores[0]), second: short(found.scores[1]) }));
    };
    const side = (words, list) => h("div", {}, h("h4", {}, words), list);
    draw();
    return h("div", { class: "wl-toy" }, finding, formula,
      h("div", { class: "wl-toy-parts" }, h("div", { class: "wl-knobs", role: "group", "aria-label": W.say("leaf.toy.knobs") }, knobs.map(([, , , label]) => label)),
        side(W.say("leaf.toy.by_size"), bySize), side(W.say("leaf.toy.by_score"), byScore)), losses);
  };
})(window.WandaLab);
