/* The columns: what each model answers, and what it costs. Text comes in as text nodes alone. */
"use strict";
((W) => {
  const { h } = W;

  /** Build a column. which: "dense", 0, 1, 2; asked(index): a token is asked about; removed(): null where it stays. */
  W.column = (which, asked, removed) => {
    const name = h("h3", { class: "wl-col-name" });
    const cost = h("span", { class: "wl-col-cost" });
    const value = h("b");
    cost.append(`${W.say("view.perplexity")} `, value);
    const remove = removed && h("button", { class: "wl-remove", type: "button", onclick: removed }, "×");
    const text = h("p", { class: "wl-answer", tabindex: 0, role: "group" });
    const note = h("p", { class: "wl-col-note" });
    const element = h("article", { class: `wl-col wl-col-${which}` }, h("header", {}, name, h("span", { class: "wl-col-side" }, cost, remove)), text, note);
    let [tokens, part, current, shown] = [[], -1, -1, null];

    const choose = (index) => {
      tokens[current]?.classList.remove("wl-current");
      current = Math.max(0, Math.min(tokens.length - 1, index));
      tokens[current]?.classList.add("wl-current");
    };
    text.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step && tokens.length) choose(current + step);
      else if (event.key === "Enter" && tokens[current]) asked(current);
      else return;
      event.preventDefault();
    });
    text.addEventListener("click", (event) => {
      const index = tokens.indexOf(event.target);
      if (index < 0 || String(getSelection())) return;
      choose(index);
      asked(index);
    });

    /** Show an answer that may have grown: what stands there already is not touched, so a selection stays. */
    const showAnswer = (answer, dense) => {
      const pieces = answer ? answer.pieces : [];
      const kept = shown ? Math.min(W.shared(shown, pieces), tokens.length) : 0;
      tokens.slice(kept).forEach((token) => token.remove());
      if (kept < tokens.length && current >= kept) current = -1;
      tokens = tokens.slice(0, kept);
      pieces.slice(kept).forEach((piece, i) => {
        const p = answer.probabilities[kept + i];
        const token = h("span", { class: "wl-token", style: `--unsure:${Math.round(100 * (1 - (p ?? 1)))}%` }, piece);
        if (p !== undefined) token.title = W.percent(p);
        tokens.push(token);
        text.append(token);
      });
      shown = pieces;
      const same = dense && which !== W.DENSE ? W.shared(dense.pieces, pieces) : -1;
      const differs = same >= 0 && same < pieces.length && (same < dense.pieces.length || dense.whole) ? same : -1;
      if (differs !== part || (differs >= 0 && !tokens[differs].classList.contains("wl-part"))) {
        let from = differs; // the word is marked, whose beginning may be shared
        while (from > 0 && !/^\s/.test(pieces[from])) from -= 1;
        tokens.forEach((token, i) => token.classList.toggle("wl-part", differs >= 0 && i >= from && i <= differs));
        part = differs;
      }
    };

    /** Show it. title, perplexity: texts; answer, dense: {pieces, probabilities, whole} or null; hint: instead of an
     * answer; foot: the line below; old: whether the answer is of another place; busy: whether more is measured; writes:
     * whether more of the answer comes. */
    const show = ({ title, perplexity, answer, dense, hint, foot, old, busy, writes, problem }) => {
      W.put(name, title);
      W.put(value, perplexity);
      element.classList.toggle("wl-old", Boolean(old));
      element.classList.toggle("wl-busy", Boolean(writes));
      element.setAttribute("aria-busy", busy ? "true" : "false");
      text.setAttribute("aria-label", W.say("view.answer_of", { title }));
      if (remove) remove.setAttribute("aria-label", W.say("view.remove", { title }));
      text.querySelector(".wl-hint")?.remove();
      showAnswer(answer, dense);
      if (hint && !answer?.pieces.length && !answer?.whole) text.append(h("span", { class: "wl-hint" }, hint));
      note.classList.toggle("wl-problem", Boolean(problem));
      W.put(note, problem || foot || "");
    };
    return { element, show };
  };

  /** What stands below a column: where its answer parts from the dense model's. */
  W.parting = (answer, dense) => {
    if (!answer || !dense || !answer.pieces.length) return "";
    const same = W.shared(dense.pieces, answer.pieces);
    const [a, b] = [answer.pieces.length, dense.pieces.length];
    if (same === a && same === b) return W.say(same === 1 ? "view.same_one" : "view.same", { count: same });
    if (same === a || same === b) return answer.whole && dense.whole ? W.say("view.same_then_ends", { count: same }) : "";
    return same ? W.say("view.parts", { place: same + 1 }) : W.say("view.parts_at_once");
  };

  /** A token to read: one of blanks alone shows them. */
  const shown = (token) => (token.trim() ? JSON.stringify(token).slice(1, -1) : JSON.stringify(token).slice(1, -1).replaceAll(" ", "␣") || "∅");

  /** How far each variant is from the dense model along prompt and answer: a line each. of: title of whose answer it is. */
  const along = ({ pieces, prompt, at, columns }, titles, of) => {
    const [width, height, top] = [1000, 70, 6];
    const most = Math.max(1e-6, ...columns.flatMap(([, , apart]) => apart));
    const x = (i) => (width * (i + 0.5)) / pieces.length;
    const y = (value) => height - (height - top) * (value / most);
    const lines = columns.map(([, , apart], place) => W.s("path", { class: `wl-line wl-of-${place}`, "vector-effect": "non-scaling-stroke", d: apart.map((value, i) => `${i ? "L" : "M"}${x(i).toFixed(1)} ${y(value).toFixed(1)}`).join("") }));
    const svg = W.s("svg", { class: "wl-along", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" },
      W.s("rect", { class: "wl-along-prompt", x: 0, y: 0, width: (width * prompt) / pieces.length, height }), ...lines,
      W.s("line", { class: "wl-rule", "vector-effect": "non-scaling-stroke", x1: x(at), x2: x(at), y1: 0, y2: height }));
    const tops = columns.map(([id, , apart]) => {
      const place = prompt + apart.slice(prompt).indexOf(Math.max(...apart.slice(prompt))); // of the answer
      return W.say("view.why.apart", { title: titles.get(id), here: W.short3(apart[at] ?? 0), most: W.short3(apart[place]), token: shown(pieces[place].trim() || pieces[place]) });
    });
    return h("section", { class: "wl-along-box" }, h("header", {}, h("h4", {}, W.say("view.why.along", { title: of, most: W.short3(most) }))), svg,
      h("p", { class: "wl-rank-ends", "aria-hidden": "true" }, h("span", {}, W.say("view.why.prompt_end")), h("span", {}, W.say("view.why.answer_end"))),
      h("ul", { class: "wl-note wl-along-names" }, tops.map((words, i) => h("li", {}, lineMark(i), words))));
  };

  /** A piece of the line of a column, before its name. */
  const lineMark = (place) => W.s("svg", { viewBox: "0 0 26 6", width: 26, height: 6, "aria-hidden": "true" }, W.s("line", { class: `wl-line wl-of-${place}`, x1: 0, x2: 26, y1: 3, y2: 3 }));

  /** What the panel shows of an answer of the server. titles: of the columns, by id; asked: of the
   * answer that was asked; names: parts of a file's name; of: what it is told of. */
  W.toldOf = (message, titles, asked, names, of) => ({
    taken: {
      names, of, legend: message.columns.map(([id], place) => [place ? "grey" : "gold", titles.get(id)]),
      likeliest: () => [["model", "rank", "token", "probability"], ...[[W.say("view.dense"), message.dense], ...message.columns.map(([id, tokens]) => [titles.get(id), tokens])]
        .flatMap(([model, tokens]) => tokens.map(([token, p], i) => [model, i + 1, token, p]))],
      along: () => [["place", "part", "token", "model", "kl_nats"], ...message.columns.flatMap(([id, , apart]) => apart.map((value, i) => [i, i < message.prompt ? "prompt" : "answer", message.pieces[i], titles.get(id), value]))],
    },
    lists: [{ title: W.say("view.why.likeliest", { title: W.say("view.dense") }), which: W.DENSE, tokens: message.dense },
      ...message.columns.map(([id, tokens], place) => ({ title: W.say("view.why.likeliest", { title: titles.get(id) }), which: place, tokens }))],
    along: message.columns.length ? along(message, titles, asked) : null,
  });

  /** The panel that tells why a token came: the five likeliest of all models at its place, and how far they are apart. */
  W.why = (go) => {
    const element = h("div", { class: "wl-why", role: "status", hidden: true });
    const taker = (name, node, title, caption, { names, of, legend, [name]: rows }) => {
      const take = W.take({ node, title: () => title, caption: () => caption, name: () => [names, name === "along" ? "kl-along-answer" : "likeliest-tokens"], rows, legend: () => (name === "along" ? legend : []), foot: () => of });
      take.named(title);
      return take.element;
    };
    const show = ({ sentence, lists, close, along: line, taken }) => {
      element.hidden = false;
      const rows = (tokens) => h("ol", {}, tokens.map(([token, p]) => h("li", {},
        h("code", {}, shown(token)), h("i", { style: `width:${(100 * p).toFixed(1)}%`, "aria-hidden": "true" }), h("b", {}, W.percent(p, 1)))));
      const shownLists = h("div", { class: "wl-likely-lists" }, (lists || []).map(({ title, which, tokens }) => h("section", { class: `wl-likely wl-likely-${which}` }, h("h4", {}, title), rows(tokens))));
      if (line) line.querySelector("header").append(taker("along", () => line.querySelector(".wl-along"), line.querySelector("h4").textContent, [...line.querySelectorAll(".wl-along-names li")].map((one) => one.textContent).join(" "), taken));
      element.replaceChildren(
        h("p", {}, sentence),
        h("button", { type: "button", class: "wl-remove", "aria-label": W.say("view.close"), onclick: () => { element.hidden = true; close(); } }, "×"),
        ...(lists ? [shownLists, taker("likeliest", () => shownLists, sentence, "", taken)] : []),
        ...(line ? [line, h("p", {}, h("a", { href: "?tab=scores", class: "wl-go-on", onclick: (event) => { event.preventDefault(); go("scores"); } }, W.say("view.why.scores")))] : []),
      );
    };
    return { element, show, hide: () => { element.hidden = true; } };
  };
})(window.WandaLab);
