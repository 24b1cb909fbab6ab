/* Figures that Plotly draws: the same control beside their titles, for as long as they stand. */
"use strict";
((W) => {
  const TAGS = /<br\s*\/?>|<\/?(?:b|i|em|sub|sup|span|a)(?:\s[^<>]*)?>/gi; // that Plotly reads in texts
  const SIGNS = { "&lt;": "<", "&gt;": ">", "&quot;": '"', "&#x27;": "'", "&#39;": "'", "&amp;": "&" };
  /** A text of Plotly's without its markup. */
  const bare = (text) => (typeof text === "string" ? text.replace(TAGS, (tag) => (/^<br/i.test(tag) ? " " : "")).replace(/&(?:lt|gt|quot|amp|#x27|#39);/g, (sign) => SIGNS[sign]).trim() : text);
  const isList = (given) => Array.isArray(given) || ArrayBuffer.isView(given);
  const textOf = (title) => bare(title?.text ?? title ?? "");

  /** The title of a trace's axis, "" where it has none; one that shares another's range shares its title. */
  const axisOf = (trace, letter, layout) => {
    if (trace.type === "surface") return textOf(layout[trace.scene || "scene"]?.[`${letter}axis`]?.title);
    const named = (id) => layout[`${letter}axis${id.slice(1)}`] || {};
    const axis = named(trace[`${letter}axis`] || letter);
    return textOf(axis.title) || textOf(axis.matches && named(axis.matches).title);
  };
  /** What the third number is: of a colour bar whose ticks are powers, a logarithm. */
  const depthOf = (trace, layout) => {
    if (trace.type === "surface") return axisOf(trace, "z", layout);
    const { title, ticktext } = trace.colorbar || {};
    return `${isList(ticktext) && ticktext.some((text) => /10<sup>/.test(text)) ? "log10 " : ""}${textOf(title)}`.trim();
  };
  const points = (trace, layout, place) => {
    const name = bare(trace.name || "") || String(place + 1);
    const axes = ["x", "y"].map((letter) => axisOf(trace, letter, layout));
    const shown = (at) => {
      const found = at.reduce((of, i) => (isList(of) ? of[i] : undefined), trace.customdata);
      return isList(found) ? undefined : bare(found);
    };
    if (isList(trace.z)) {
      const [x, y] = ["x", "y"].map((letter) => (i) => bare(isList(trace[letter]) ? trace[letter][i] : i));
      return Array.from(trace.z, (row, j) => Array.from(row, (z, i) => ({ name, axes, x: x(i), y: y(j), z, shown: shown([j, i]) }))).flat();
    }
    const size = Math.max(...["x", "y"].map((letter) => (isList(trace[letter]) ? trace[letter].length : 0)));
    return Array.from({ length: size }, (_, i) => ({
      name, axes, x: bare(isList(trace.x) ? trace.x[i] : i), y: bare(isList(trace.y) ? trace.y[i] : i),
      text: bare(isList(trace.text) ? trace.text[i] : trace.text), shown: shown([i]),
    }));
  };
  /**
   * The numbers of a figure as they are drawn, a row a point: its trace, its place by the names of the axes (and, where
   * traces have axes of their own, which), its height or colour, its text, and what is shown of it on hovering.
   */
  W.plotRows = ({ data, layout }) => {
    const traces = data.filter(({ visible }) => visible !== false && visible !== "legendonly");
    const all = traces.flatMap((trace, place) => points(trace, layout, place));
    const columns = [["trace", ({ name }) => name]];
    ["x", "y"].forEach((letter, i) => {
      const titles = [...new Set(all.map(({ axes }) => axes[i]))];
      columns.push([titles.length === 1 && titles[0] ? titles[0] : letter, (point) => point[letter]]);
      if (titles.length > 1) columns.push([`${letter}_axis`, ({ axes }) => axes[i]]);
    });
    const depths = [...new Set(traces.filter(({ z }) => isList(z)).map((trace) => depthOf(trace, layout)))];
    if (depths.length) columns.push([(depths.length === 1 && depths[0]) || "z", ({ z }) => z]);
    for (const name of ["text", "shown"]) if (all.some((point) => point[name] !== undefined && point[name] !== null)) columns.push([name, (point) => point[name]]);
    return [columns.map(([name]) => name), ...all.map((point) => columns.map(([, value]) => value(point)))];
  };

  const drawingOf = async (plot) => {
    const { width, height } = plot.getBoundingClientRect();
    const text = await window.Plotly.toImage(plot, { format: "svg", imageDataOnly: true, width, height });
    const { documentElement: svg } = new DOMParser().parseFromString(text, "image/svg+xml");
    if (svg.localName !== "svg") throw new Error("Plotly drew no picture");
    return { width, height, elements: [document.importNode(svg, true)] };
  };
  /** Stand the control beside a figure's title, once a figure: what Plotly draws anew, it finds. */
  const equip = (place) => {
    const plot = () => place.querySelector(".js-plotly-plot");
    const title = () => document.getElementById(`${place.id}-title`) || document.getElementById(place.id.replace(/-picture$/, "-finding"));
    const take = W.take({
      node: plot, drawing: () => drawingOf(plot()), title: () => title()?.innerText.trim() || "", rows: () => W.plotRows(plot()),
      name: () => [W.looked().title, place.id.replace(/-picture$/, "")], foot: () => W.looked().title,
    });
    place.prepend(take.element);
    take.element.addEventListener("focusin", () => take.named(title()?.innerText.trim() || ""));
  };
  /** Watch for figures from now on. */
  W.watchPlots = (root) => {
    const look = () => {
      for (const plot of root.querySelectorAll(".wl-figure .js-plotly-plot")) {
        const place = plot.closest(".wl-figure");
        if (!place.querySelector(":scope > .wl-take")) equip(place);
      }
    };
    const isOurs = ({ target }) => Boolean(target.closest(".wl-view, .js-plotly-plot")); // what draws its own figures, and redraws them
    new MutationObserver((changes) => { if (!changes.every(isOurs)) look(); }).observe(root, { childList: true, subtree: true });
    look();
  };
})(window.WandaLab);
