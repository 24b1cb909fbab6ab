/* Why: small figures of the stored run, each a door to its tab. A run that lacks one has no door there. */
"use strict";
((W) => {
  const { h, s } = W;
  const WIDTH = 330, HEIGHT = 176;

  /**
   * What the pictures of a run tell: by name {title, text, twin, data: of what is taken away}, only of those it has. data:
   * {name, rows(), legend, foot} of `W.take`.
   */
  W.tellings = ({ made: { model }, linears, stream, ablation }) => {
    const told = {};
    const taken = (name, rows, legend = []) => ({ name: [model, name], rows, legend, foot: model });
    if (linears?.length) {
      const [{ plane, block, kind, sparsity }] = linears;
      const recipes = ["wanda", "magnitude"].map((method) => W.recipe({ method }));
      const stems = recipes.map((recipe) => W.recipeStem(recipe, sparsity));
      const loud = { column: plane.loudest.column, wanda: W.percent(plane.loudest.first), magnitude: W.percent(plane.loudest.second) };
      told.plane = {
        title: W.say("view.door.plane_title"),
        text: W.say("view.door.plane_text", { kind: kind.split(".").pop(), block, ...loud }),
        twin: W.say("view.door.plane_twin", { differ: W.percent(plane.differ, 1), wanda: W.percent(plane.loudest_tenth.first), magnitude: W.percent(plane.loudest_tenth.second) }),
        data: taken(["plane", kind, block, ...stems], () => W.planeRows(plane, stems), W.fateLegend(recipes.map(W.short))),
      };
    }
    if (stream) {
      const { channel, ratio, block, massive, largest, median } = stream;
      told.stream = {
        title: W.say("view.door.stream_title", { ratio: W.number(ratio), block }), text: W.say("view.door.stream_text"),
        twin: massive ? W.say("view.door.stream_twin", { channel, first: massive[0], last: massive[1] }) : "",
        data: taken(["channel", channel], () => [["block", "largest", "median"], ...largest.map((value, i) => [i, value, median[i]])]),
      };
    }
    if (ablation) {
      const { nothing, random, draws, low, high, channel, channels, windows, seq_len: tokens } = ablation;
      told.ablation = {
        title: W.say(channel > 3 * nothing ? "view.door.ablation_title" : "view.door.ablation_mild"),
        text: W.say("view.door.ablation_text", { windows, tokens }), twin: "",
        data: taken(["without-channel", channels], () => [["zeroed", "perplexity", "draws", "lowest", "highest"], ["nothing", nothing], ["random_channel", random, draws, low, high], [`channel_${channels[0]}`, channel]]),
      };
    }
    return told;
  };

  /** Draw the channel that towers, and the median below it, block by block. */
  W.streamFigure = ({ largest, median, channel }, width = WIDTH, height = HEIGHT) => {
    const values = [...largest, ...median].filter((value) => value > 0).map(Math.log);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const x = (i) => 54 + ((width - 66) * i) / Math.max(1, largest.length - 1);
    const y = (value) => 12 + ((height - 40) * (high - Math.log(Math.max(value, Math.exp(low))))) / Math.max(1e-9, high - low);
    const line = (values) => values.map((value, i) => `${i ? "L" : "M"}${x(i).toFixed(1)} ${y(value).toFixed(1)}`).join("");
    const ticks = [0.01, 1, 100, 10000].filter((value) => Math.log(value) >= low && Math.log(value) <= high);
    const middle = Math.floor(largest.length * 0.66);
    const every = Math.max(1, Math.ceil((largest.length * 44) / (width - 66)));
    const blocks = width > WIDTH ? largest.map((_, i) => i % every ? null : s("text", { class: "wl-tick", x: x(i).toFixed(1), y: height - 14, "text-anchor": "middle" }, i)).filter(Boolean) : [];
    return s("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
      ticks.map((value) => [s("line", { class: "wl-grid", x1: 54, x2: width - 12, y1: y(value), y2: y(value) }), s("text", { class: "wl-tick", x: 48, y: y(value) + 4, "text-anchor": "end" }, value.toLocaleString("en"))]).flat(),
      s("path", { class: "wl-line wl-of-0", d: line(largest) }), s("path", { class: "wl-line wl-of-dense", d: line(median) }),
      s("text", { class: "wl-name wl-of-0", x: x(middle), y: y(largest[middle]) + 18, "text-anchor": "middle" }, W.say("view.door.channel", { channel })),
      s("text", { class: "wl-name wl-of-dense", x: x(middle), y: y(median[middle]) - 8, "text-anchor": "middle" }, W.say("view.door.median")),
      ...blocks, s("text", { class: "wl-tick", x: width / 2 + 16, y: height - (blocks.length ? 0 : 4), "text-anchor": "middle" }, W.say("view.door.block_axis")));
  };

  /** Perplexities as bars, on a logarithmic axis. rows: [[name, value, class]] */
  const bars = (rows) => {
    const logs = rows.map(([, value]) => Math.log(value));
    const [low, high] = [Math.min(...logs) - 1.2, Math.max(...logs)];
    return h("dl", { class: "wl-bars" }, rows.map(([name, value, kind], i) => [h("dt", {}, name),
      h("dd", {}, h("i", { class: kind, style: `width:${((66 * (logs[i] - low)) / (high - low)).toFixed(1)}%`, "aria-hidden": "true" }), h("span", {}, W.number(value)))]).flat());
  };
  W.ablationFigure = ({ nothing, random, channel, channels, draws }) => bars([
    [W.say("view.door.nothing"), nothing, "wl-bar-dense"], [W.say("view.door.random", { count: draws }), random, "wl-bar-dense"],
    [W.say("view.door.channel", { channel: channels[0] }), channel, "wl-bar-a"]]);

  /**
   * Build the doors, null where there is none. go(tab): leads there; href(tab): its address; learn: words of the third,
   * null where it leads nowhere.
   */
  W.doors = (replay, go, { href = (tab) => `?tab=${tab}`, learn = W.say("view.door.learn") } = {}) => {
    const told = W.tellings(replay);
    const door = ({ title, text, twin, data }, drawing, tab, more) => {
      const take = W.take({ node: () => drawing, title: () => title, caption: () => text, name: () => data.name, rows: data.rows, legend: () => data.legend, foot: () => data.foot });
      take.named(title);
      return h("section", { class: "wl-door" }, h("h3", {}, title), h("p", {}, text), drawing, W.hidden(twin), h("div", { class: "wl-door-foot" },
        h("a", { href: href(tab), class: "wl-go-on", onclick: (event) => { event.preventDefault(); go(tab); } }, more), take.element));
    };
    const doors = [
      told.plane && door(told.plane, W.plane(replay.linears[0].plane, { width: WIDTH, height: HEIGHT }).svg, "scores", W.say("view.door.scores")),
      told.stream && door(told.stream, W.streamFigure(replay.stream), "outliers", W.say("view.door.outliers")),
      told.ablation && door(told.ablation, W.ablationFigure(replay.ablation), "learn", learn),
    ].filter(Boolean);
    return doors.length ? h("section", { class: "wl-doors", "aria-label": W.say("view.door.why") }, doors) : null;
  };
})(window.WandaLab);
