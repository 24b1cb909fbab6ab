/* What figures on logarithmic axes share: places of ticks, short numbers, the frame of a figure. */
"use strict";
((W) => {
  const { s, h } = W;

  /** Ticks 1, 2, 5 or powers of ten inside [low, high] of log10, as many as fit: [[log10, words]]. */
  W.ticks = (low, high, most = 6) => {
    for (const steps of [[1, 2, 5], [1, 3], [1]]) {
      const found = [];
      for (let power = Math.floor(low); power <= Math.ceil(high); power += 1)
        for (const step of steps) {
          const at = power + Math.log10(step);
          if (at >= low && at <= high) found.push([at, W.short3(step * 10 ** power)]);
        }
      if (found.length <= most && found.length > 1) return found;
    }
    const every = Math.max(1, Math.ceil((high - low) / most));
    const powers = [];
    for (let power = Math.ceil(low); power <= high; power += every) powers.push([power, W.short3(10 ** power)]);
    return powers.length ? powers : [[(low + high) / 2, W.short3(10 ** ((low + high) / 2))]];
  };

  /** A number in three digits that says its size at a glance: 0.0123, 1.42, 2,130. */
  W.short3 = (value) => {
    if (value === 0) return "0";
    const size = Math.abs(value);
    const minus = value < 0 ? "−" : "";
    if (size >= 1e6 || size < 1e-4) return minus + size.toExponential(1).replace("e+", "e");
    return minus + (size >= 100 ? Math.round(size).toLocaleString("en") : String(Number(size.toPrecision(3))));
  };
  /** 1st, 2nd, 3rd … in the words of the language. */
  W.ordinal = (value) => {
    const number = value.toLocaleString("en");
    const rule = new Intl.PluralRules("en", { type: "ordinal" }).select(value);
    return W.say(`view.ordinal.${rule}`, { number });
  };

  /** The axis below a figure: ticks and its name. x(log10): place in pixels. */
  W.axisBelow = ({ ticks, x, y, left, right, name }) => [
    ticks.map(([at, words]) => s("text", { class: "wl-tick", x: x(at).toFixed(1), y: y + 16, "text-anchor": "middle" }, words)),
    s("text", { class: "wl-tick", x: (left + right) / 2, y: y + 34, "text-anchor": "middle" }, name),
  ].flat();
  W.axisLeft = ({ ticks, y, x, top, bottom, name }) => [
    ticks.map(([at, words]) => s("text", { class: "wl-tick", x: x - 6, y: (y(at) + 4).toFixed(1), "text-anchor": "end" }, words)),
    s("text", { class: "wl-tick", transform: `translate(12 ${(top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, name),
  ].flat();

  /** A figure with its computed title, one line of how to read it, and how to take it away. */
  W.figure = (name) => {
    const [title, words, place] = [h("h3"), h("p"), h("div", { class: "wl-drawing" })];
    let taken = null;
    const take = W.take({ node: () => place, title: () => title.textContent, caption: () => words.textContent, name: () => taken.name, rows: () => taken.rows(), legend: () => taken.legend, foot: () => taken.foot });
    const twin = W.hidden("");
    const more = h("div", { class: "wl-figure-more" }, take.element);
    const element = h("section", { class: "wl-figure", id: `figure-${name}` }, h("header", {}, title, more), words, place, twin);
    /** drawing: elements; told: what it shows, for those who do not see it; data: of what is taken away {name, parts of a
     * file's name; rows(), of the CSV; legend, [colour of the style, words]; foot, what it is of}. */
    const show = ({ heading, caption, drawing, told, data }) => {
      W.put(title, heading);
      W.put(words, caption);
      place.replaceChildren(...[drawing].flat());
      W.put(twin, told || "");
      taken = data;
      take.named(heading);
    };
    return { element, show, place, more };
  };
})(window.WandaLab);
