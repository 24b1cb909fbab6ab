/* The decision plane: log input norm against log |W|, coloured by who keeps the weights, with both cuts. */
"use strict";
((W) => {
  const { s } = W;
  const KINDS = ["both", "first", "second", "neither"];
  let clips = 0;

  /** The line of a cut in log10: of |W| it is level, of |W|·‖X‖ it slants. -> [[x, y], [x, y]] */
  const line = (metric, at, x) => x.map((place) => [place, metric === "size" ? at : at - place]);

  /**
   * Draw a plane. width, height: pixels; names: of one or two recipes, null in a small picture; marked: {norm, size} of a
   * weight; row: {metric, at} of one row's own cut. -> {svg, place(event): [log10 norm, log10 |W|]}
   */
  W.plane = (plane, { width, height, names = null, marked = null, row = null }) => {
    const small = !names;
    const [nx, ny] = plane.bins;
    const [left, right, top, bottom] = small ? [16, width - 6, 4, height - 20] : [52, width - 10, 8, height - 42];
    const x = (value) => left + ((right - left) * (value - plane.x[0])) / (plane.x[1] - plane.x[0]);
    const y = (value) => bottom - ((bottom - top) * (value - plane.y[0])) / (plane.y[1] - plane.y[0]);
    const sum = (counts) => counts.reduce((a, b) => a + b);
    const largest = Math.max(1, ...plane.cells.map(([, , ...counts]) => Math.log1p(sum(counts))));
    const [w, tall] = [(right - left) / nx, (bottom - top) / ny];
    const cells = plane.cells.map(([ix, iy, ...counts]) => {
      const kind = counts.indexOf(Math.max(...counts));
      return s("rect", { class: `wl-cell wl-cell-${KINDS[kind]}`, x: (left + w * ix).toFixed(1), y: (bottom - tall * (iy + 1)).toFixed(1), width: Math.max(0.5, w - 0.4).toFixed(1), height: Math.max(0.5, tall - 0.3).toFixed(1), opacity: (0.18 + (0.82 * Math.log1p(sum(counts))) / largest).toFixed(2) });
    });
    clips += 1;
    const clip = `wl-clip-${clips}`;
    const path = (points) => points.map(([a, b], i) => `${i ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("");
    const cuts = plane.cuts.slice(0, names ? names.length : 2).map((cut, place) => cut && [
      cut.metric === "score" && cut.high - cut.low > 1e-3
        ? s("path", { class: `wl-band wl-of-${place}`, d: `${path(line(cut.metric, cut.low, plane.x))}${path(line(cut.metric, cut.high, [...plane.x].reverse())).replace("M", "L")}Z` }) : null,
      s("path", { class: `wl-cut wl-of-${place}`, d: path(line(cut.metric, cut.median, plane.x)) }),
    ]).flat().filter(Boolean).reverse();
    const [first, second] = plane.cuts;
    const inside = (value) => Math.max(plane.y[0], Math.min(plane.y[1], value));
    const said = [];
    if (names?.[1] && second) {
      const at = plane.x[0] + 0.97 * (plane.x[1] - plane.x[0]);
      const [, place] = line(second.metric, second.median, [at])[0];
      said.push(s("text", { class: "wl-name wl-of-1", x: x(at), y: y(inside(place)) - 7, "text-anchor": "end" }, W.say("view.scores.keeps_above", { by: names[1] })));
    }
    if (names && first) {
      const at = plane.x[0] + 0.62 * (plane.x[1] - plane.x[0]);
      const [, place] = line(first.metric, first.median, [at])[0];
      said.push(s("text", { class: "wl-name wl-of-0", x: x(at), y: Math.min(bottom - 6, y(inside(place)) + 34), "text-anchor": "end" }, W.say("view.scores.keeps_above_line", { by: names[0] })));
    }
    const mark = marked && s("circle", { class: "wl-mark", cx: x(Math.max(plane.x[0], Math.min(plane.x[1], marked.norm))).toFixed(1), cy: y(inside(marked.size)).toFixed(1), r: 6 });
    const own = row && s("path", { class: "wl-cut wl-own-row", "clip-path": `url(#${clip})`, d: path(line(row.metric, row.at, plane.x)) });
    const axes = small
      ? [s("text", { class: "wl-tick", x: (left + right) / 2, y: height - 2, "text-anchor": "middle" }, W.say("view.door.norm_axis")),
        s("text", { class: "wl-tick", transform: `translate(10 ${(top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, W.say("view.door.weight_axis"))]
      : [...W.axisBelow({ ticks: W.ticks(...plane.x), x, y: bottom, left, right, name: W.say("view.door.norm_axis") }),
        ...W.axisLeft({ ticks: W.ticks(...plane.y), y, x: left, top, bottom, name: W.say("view.door.weight_axis") })];
    const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, class: "wl-plane", "aria-hidden": "true" },
      s("clipPath", { id: clip }, s("rect", { x: left, y: top, width: right - left, height: bottom - top })), ...cells,
      s("g", { "clip-path": `url(#${clip})` }, ...cuts), own, ...said, ...axes, mark);
    const place = (event) => {
      const box = svg.getBoundingClientRect();
      const [px, py] = [((event.clientX - box.left) * width) / box.width, ((event.clientY - box.top) * height) / box.height];
      const at = [(px - left) / (right - left), (bottom - py) / (bottom - top)];
      return at.every((share) => share >= 0 && share <= 1) ? at.map((share, i) => plane["xy"[i]][0] + share * (plane["xy"[i]][1] - plane["xy"[i]][0])) : null;
    };
    return { svg, place };
  };

  /** What the colours of a plane mean. names: of one or two recipes. */
  W.fateLegend = ([first, second]) => (second
    ? [["blue", W.say("view.scores.both")], ["gold", W.say("view.scores.alone", { by: first })], ["second", W.say("view.scores.alone", { by: second })], ["neither", W.say("view.scores.neither")]]
    : [["blue", W.say("view.scores.kept")], ["neither", W.say("view.scores.removed")]]);

  /** The plane as rows of a table: middles of its cells, and how many weights each fate has. names: of one or two recipes. */
  W.planeRows = (plane, [first, second]) => {
    const at = (axis, i, n) => 10 ** (axis[0] + ((i + 0.5) * (axis[1] - axis[0])) / n);
    const fates = second ? ["both_keep", `${first}_alone_keeps`, `${second}_alone_keeps`, "neither_keeps"] : ["kept", "removed"];
    return [["input_norm", "weight_size", ...fates],
      ...plane.cells.map(([ix, iy, ...counts]) => [at(plane.x, ix, plane.bins[0]), at(plane.y, iy, plane.bins[1]), ...(second ? counts : [counts[0], counts[3]])])];
  };
})(window.WandaLab);
