/* Why: three small figures of the stored run, each a door to its tab. */
"use strict";
((W) => {
  const { h, s } = W;
  const WIDTH = 330, HEIGHT = 170;

  const figure = (title, words, drawing, text, go, tab, more) => h("section", { class: "wl-door" },
    h("h3", {}, title), h("p", {}, words), drawing, W.hidden(text),
    h("a", { href: `?tab=${tab}`, class: "wl-go-on", onclick: (event) => { event.preventDefault(); go(tab); } }, more));

  const streamFigure = ({ largest, median, channel }) => {
    const values = [...largest, ...median].map(Math.log);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const x = (i) => 54 + ((WIDTH - 66) * i) / (largest.length - 1);
    const y = (value) => 12 + ((HEIGHT - 34) * (high - Math.log(value))) / (high - low);
    const line = (values) => values.map((value, i) => `${i ? "L" : "M"}${x(i).toFixed(1)} ${y(value).toFixed(1)}`).join("");
    const ticks = [1, 100, 10000].filter((value) => Math.log(value) >= low && Math.log(value) <= high);
    const middle = Math.floor(largest.length * 0.66);
    return s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT + 6}`, "aria-hidden": "true" },
      ticks.map((value) => [s("line", { class: "wl-grid", x1: 54, x2: WIDTH - 12, y1: y(value), y2: y(value) }), s("text", { class: "wl-tick", x: 48, y: y(value) + 4, "text-anchor": "end" }, value.toLocaleString("en"))]).flat(),
      s("path", { class: "wl-line wl-of-0", d: line(largest) }), s("path", { class: "wl-line wl-of-dense", d: line(median) }),
      s("text", { class: "wl-name wl-of-0", x: x(middle), y: y(largest[middle]) + 18, "text-anchor": "middle" }, W.say("view.door.channel", { channel })),
      s("text", { class: "wl-name wl-of-dense", x: x(middle), y: y(median[middle]) - 8, "text-anchor": "middle" }, W.say("view.door.median")),
      s("text", { class: "wl-tick", x: WIDTH / 2 + 16, y: HEIGHT + 2, "text-anchor": "middle" }, W.say("view.door.block_axis")));
  };

  const bars = (rows) => {
    const logs = rows.map(([, value]) => Math.log(value));
    const [low, high] = [Math.min(...logs) - 1.2, Math.max(...logs)];
    return h("dl", { class: "wl-bars" }, rows.map(([name, value, kind], i) => [h("dt", {}, name),
      h("dd", {}, h("i", { class: kind, style: `width:${((66 * (logs[i] - low)) / (high - low)).toFixed(1)}%`, "aria-hidden": "true" }), h("span", {}, W.number(value)))]).flat());
  };

  /** Build the doors. go(tab): leads there. */
  W.doors = (replay, go) => {
    const { plane, block, kind: whole } = replay.linears[0], stream = replay.stream, ablation = replay.ablation;
    const kind = whole.split(".").pop();
    const loud = plane.loudest;
    const loudWords = { column: loud.column, wanda: W.percent(loud.first), magnitude: W.percent(loud.second) };
    const ratio = W.number(stream.ratio);
    return h("section", { class: "wl-doors", "aria-label": W.say("view.door.why") },
      figure(W.say("view.door.plane_title"), W.say("view.door.plane_text", { kind, block, ...loudWords }), W.plane(plane, { width: WIDTH, height: HEIGHT + 6 }).svg,
        W.say("view.door.plane_twin", { differ: W.percent(plane.differ, 1), wanda: W.percent(plane.loudest_tenth.first), magnitude: W.percent(plane.loudest_tenth.second) }), go, "scores", W.say("view.door.scores")),
      figure(W.say("view.door.stream_title", { ratio, block: stream.block }), W.say("view.door.stream_text"), streamFigure(stream),
        W.say("view.door.stream_twin", { channel: stream.channel, first: stream.massive[0], last: stream.massive[1] }), go, "outliers", W.say("view.door.outliers")),
      figure(W.say(ablation.channel > 3 * ablation.nothing ? "view.door.ablation_title" : "view.door.ablation_mild"), W.say("view.door.ablation_text", { windows: ablation.windows, tokens: ablation.seq_len }), bars([
        [W.say("view.door.nothing"), ablation.nothing, "wl-bar-dense"], [W.say("view.door.random", { count: ablation.draws }), ablation.random, "wl-bar-dense"],
        [W.say("view.door.channel", { channel: ablation.channels[0] }), ablation.channel, "wl-bar-a"]]),
        "", go, "learn", W.say("view.door.learn")));
  };
})(window.WandaLab);
