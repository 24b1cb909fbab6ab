/* All blocks at once, a row each, and one linear's histogram: where the scores lie and where the cut runs. */
"use strict";
((W) => {
  const { s } = W;

  /** Where a cut lies on an axis of one metric, null where it goes by the other. */
  W.cutOn = (cut, metric) => (cut && cut.metric === metric ? cut.median : null);

  /**
   * Draw all blocks. all: of the engine; metric: "score" or "size"; block: the one looked at; chosen(block): one is
   * selected. The cut of the first recipe that goes by the metric divides kept from removed.
   */
  W.blocks = (all, metric, block, { width, height, chosen }) => {
    const of = all[metric];
    const allotted = all.sparsities.findIndex((shares) => Math.max(...shares) - Math.min(...shares) > 0.01);
    const [left, right, top, bottom] = [44, width - (allotted < 0 ? 8 : 96), 8, height - 42];
    const [low, high] = of.edges;
    const x = (value) => left + ((right - left) * (value - low)) / (high - low);
    const tall = (bottom - top) / all.blocks.length;
    const w = (right - left) / all.bins;
    const cuts = all.cuts.find((blocks) => blocks.some((cut) => W.cutOn(cut, metric) !== null)) || [];
    const largest = Math.max(...of.share.flat());
    const cells = [];
    of.share.forEach((row, i) => row.forEach((share, j) => {
      if (!share) return;
      const cut = cuts[i] ? cuts[i].median : null;
      const kept = cut === null || low + ((j + 0.5) * (high - low)) / all.bins > cut;
      cells.push(s("rect", { class: `wl-cell wl-cell-${kept ? "both" : "neither"}`, x: (left + w * j).toFixed(1), y: (top + tall * i).toFixed(1), width: (w + 0.2).toFixed(1), height: (tall + 0.2).toFixed(1), opacity: (0.06 + 0.94 * Math.sqrt(share / largest)).toFixed(2) }));
    }));
    const which = all.cuts.indexOf(cuts);
    const steps = cuts.map((cut, i) => cut && [x(Math.max(low, Math.min(high, cut.median))), top + tall * i]).filter(Boolean);
    const d = steps.map(([at, from], i) => `${i ? "L" : "M"}${at.toFixed(1)} ${from.toFixed(1)}L${at.toFixed(1)} ${(from + tall).toFixed(1)}`).join("");
    const place = all.blocks.indexOf(block);
    const every = Math.ceil(all.blocks.length / 8);
    const last = all.blocks.length - 1;
    const clear = (i, other) => Math.abs(i - other) * tall >= 14; // pixels that a number needs
    const isMarked = (i) => i === place || (clear(i, place) && (i === last || (i % every === 0 && clear(i, last))));
    const marks = all.blocks.map((number, i) => isMarked(i)
      ? s("text", { class: `wl-tick${i === place ? " wl-here" : ""}`, x: left - 8, y: (top + tall * (i + 0.5) + 4).toFixed(1), "text-anchor": "end" }, number) : null);
    const bars = allotted < 0 ? [] : all.sparsities[allotted].map((share, i) => [
      s("rect", { class: `wl-allotted wl-of-${allotted}`, x: right + 10, y: (top + tall * i + tall * 0.15).toFixed(1), width: (44 * share).toFixed(1), height: (tall * 0.7).toFixed(1) }),
      i % every === 0 || i === place ? s("text", { class: "wl-tick", x: right + 14 + 44 * share, y: (top + tall * (i + 0.5) + 4).toFixed(1) }, W.percent(share)) : null,
    ]).flat();
    const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, class: "wl-blocks", "aria-hidden": "true" }, ...cells,
      d ? s("path", { class: `wl-cut wl-of-${which}`, d }) : null, ...bars.filter(Boolean),
      place < 0 ? null : s("rect", { class: "wl-box", x: left - 1, y: (top + tall * place).toFixed(1), width: right - left + 2, height: tall.toFixed(1) }),
      ...marks.filter(Boolean), ...W.axisBelow({ ticks: W.ticks(low, high), x, y: bottom, left, right, name: W.say(`view.scores.axis.${metric}`) }),
      s("text", { class: "wl-tick", transform: `translate(12 ${(top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, W.say("view.scores.block_axis")),
      allotted < 0 ? null : s("text", { class: "wl-tick", x: right + 10, y: bottom + 16 }, W.say("view.scores.removed_axis")));
    svg.addEventListener("click", (event) => {
      const box = svg.getBoundingClientRect();
      const row = Math.floor((((event.clientY - box.top) * height) / box.height - top) / tall);
      if (row >= 0 && row < all.blocks.length) chosen(all.blocks[row]);
    });
    return svg;
  };

  /** By how much the cut, or else the median, differs from block to block. -> {factor, low, high, cut} */
  W.spread = (all, metric) => {
    const cuts = all.cuts.find((blocks) => blocks.some((cut) => W.cutOn(cut, metric) !== null));
    const values = (cuts ? cuts.map((cut) => cut && cut.median) : all[metric].median).map((value, i) => [value, all.blocks[i]]).filter(([value]) => value !== null);
    values.sort((a, b) => a[0] - b[0]);
    if (!values.length) return null;
    const [low, high] = [values[0], values[values.length - 1]];
    return { factor: 10 ** (high[0] - low[0]), low: low[1], high: high[1], cut: Boolean(cuts) };
  };

  /** Why the first recipe that goes by measured sensitivity takes more of some blocks: the extremes, or null. */
  W.sensitivity = (all) => {
    const which = (all.sensitivities || []).findIndex(Boolean);
    if (which < 0) return null;
    const of = all.sensitivities[which].map((losses, i) => ({ loss: losses[losses.length - 1], block: all.blocks[i], share: all.sparsities[which][i] })).sort((a, b) => a.loss - b.loss);
    return { least: of[0], most: of[of.length - 1] };
  };

  /** All blocks as rows of a table: of each the shares of its weights between two values, and where the cut runs. */
  W.blockRows = (all, metric) => {
    const [low, high] = all[metric].edges;
    const edge = (j) => 10 ** (low + (j * (high - low)) / all.bins);
    return [["block", "removed", "median", "cut", "from", "to", "per_mille"],
      ...all[metric].share.flatMap((row, i) => {
        const cut = all.cuts.map((blocks) => W.cutOn(blocks[i], metric)).find((value) => value !== null);
        const median = all[metric].median[i];
        const about = [all.blocks[i], all.sparsities[0]?.[i], median === null ? null : 10 ** median, cut === undefined ? null : 10 ** cut];
        return row.map((share, j) => [...about, edge(j), edge(j + 1), share]);
      })];
  };

  /** Draw a histogram of one linear: what the first recipe keeps and removes, and the cuts that go by its metric. */
  W.histogram = (counts, metric, cuts, { width, height }) => {
    const [left, right, top, bottom] = [72, width - 10, 10, height - 42];
    const [low, high] = counts.edges;
    const bins = counts.kept.length;
    const most = Math.max(1, ...counts.kept.map((kept, i) => kept + counts.removed[i]));
    const x = (value) => left + ((right - left) * (value - low)) / (high - low);
    const y = (count) => bottom - ((bottom - top) * count) / most;
    const w = (right - left) / bins;
    const bar = (from, count, i, kind) => count && s("rect", { class: `wl-bin wl-bin-${kind}`, x: (left + w * i).toFixed(1), y: y(from + count).toFixed(1), width: Math.max(0.6, w - 0.6).toFixed(1), height: (y(from) - y(from + count)).toFixed(1) });
    const bars = counts.kept.map((kept, i) => [bar(0, counts.removed[i], i, "removed"), bar(counts.removed[i], kept, i, "kept")]).flat().filter(Boolean);
    const lines = cuts.map((cut, place) => {
      const at = W.cutOn(cut, metric);
      if (at === null) return null;
      const [from, to] = [cut.low, cut.high].map((value) => x(Math.max(low, Math.min(high, value))));
      return [to - from > 1 ? s("rect", { class: `wl-band wl-of-${place}`, x: from.toFixed(1), y: top, width: (to - from).toFixed(1), height: bottom - top }) : null,
        s("line", { class: `wl-cut wl-of-${place}`, x1: x(at).toFixed(1), x2: x(at).toFixed(1), y1: top, y2: bottom })];
    }).flat().filter(Boolean);
    const ticks = [0, 0.5, 1].map((share) => s("text", { class: "wl-tick", x: left - 6, y: (y(share * most) + 4).toFixed(1), "text-anchor": "end" }, W.short3(Math.round(share * most))));
    return s("svg", { viewBox: `0 0 ${width} ${height}`, class: "wl-histogram", "aria-hidden": "true" }, ...bars, ...lines, ...ticks,
      ...W.axisBelow({ ticks: W.ticks(low, high), x, y: bottom, left, right, name: W.say(`view.scores.axis.${metric}`) }),
      s("text", { class: "wl-tick", transform: `translate(12 ${(top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, W.say("view.scores.count_axis")));
  };

  /** A histogram as rows of a table; the first is of weights that are zero. */
  W.histogramRows = (counts) => {
    const [low, high] = counts.edges;
    const bins = counts.kept.length;
    return [["from", "to", "kept", "removed"], [0, 0, null, counts.zeros],
      ...counts.kept.map((kept, i) => [...[i, i + 1].map((edge) => 10 ** (low + (edge * (high - low)) / bins)), kept, counts.removed[i]])];
  };
})(window.WandaLab);
