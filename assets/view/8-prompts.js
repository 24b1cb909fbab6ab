/* What is asked: a prompt, how it is answered, and a file of one's own prompts. */
"use strict";
((W) => {
  const { h } = W;
  W.PLAIN_ASK = { length: 48, temperature: 0, seed: 0, chat: true };
  const MOST_OWN = 50;

  /** Build the row of the prompt. prompts: [{id, text}] of the replay; most: characters of one; on: {prompt(text), settings(changes), ask()}. */
  W.prompts = (prompts, most, on) => {
    const text = h("textarea", { id: "wl-prompt", rows: 1, maxlength: most, "aria-label": W.say("view.prompt"), onkeydown: (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      on.ask();
    }, oninput: () => { fit(); on.prompt(text.value); } });
    const fit = () => {
      text.style.height = "auto";
      text.style.height = `${Math.min(160, text.scrollHeight + 2)}px`;
    };
    new ResizeObserver(() => fit()).observe(text);
    const chips = prompts.map((prompt) => [prompt, h("button", { type: "button", class: "wl-suggest", onclick: () => on.prompt(prompt.text, true) }, W.say(`view.prompt_of.${prompt.id}`))]);
    const ask = h("button", { type: "button", class: "wl-secondary", id: "ask", onclick: () => on.ask() }, W.say("view.ask"));
    const number = (name, min, max, step) => {
      const input = h("input", { type: "number", id: `wl-answer-${name}`, min, max, step, onchange: () => (input.value !== "" && input.checkValidity() ? on.settings({ [name]: Number(input.value) }) : input.reportValidity()) });
      return [name, input, h("label", { class: "wl-number" }, W.say(`view.ask_${name}`), input)];
    };
    const numbers = [number("length", 1, 256, 1), number("temperature", 0, 2, 0.1), number("seed", 0, 2 ** 31, 1)];
    const chat = h("input", { type: "checkbox", id: "wl-chat", onchange: () => on.settings({ chat: chat.checked }) });
    const settings = h("details", { class: "wl-details" }, h("summary", {}, W.say("view.ask_settings")),
      h("div", { class: "wl-row" }, numbers.map(([, , label]) => label), h("label", { class: "wl-number" }, chat, W.say("view.ask_chat"))));
    const element = h("div", { class: "wl-asking" }, h("div", { class: "wl-row wl-ask-row" }, text, h("div", { class: "wl-suggests" }, chips.map(([, button]) => button)), ask), settings);
    const show = (state) => {
      if (text.value !== state.prompt) {
        text.value = state.prompt;
        fit();
      }
      for (const [prompt, button] of chips) {
        button.hidden = prompt.text === state.prompt;
      }
      for (const [name, input] of numbers) if (document.activeElement !== input) input.value = state.settings[name];
      chat.checked = state.settings.chat;
    };
    return { element, settings, show };
  };

  /** Build the place for one's own prompts. on: {run(prompts), cancel()}. */
  W.ownPrompts = (on) => {
    const text = h("textarea", { id: "wl-own", rows: 4, placeholder: W.say("view.own.placeholder"), "aria-label": W.say("view.own.title") });
    const file = h("input", { type: "file", accept: ".txt,text/plain", "aria-label": W.say("view.own.file"), onchange: async () => {
      if (!file.files[0]) return;
      text.value = (await file.files[0].text()).slice(0, 400000);
      count();
    } });
    const problem = h("p", { class: "wl-note", role: "status" });
    const lines = () => text.value.split(/\r?\n/).map((line) => line.trim()).filter(Boolean);
    const count = () => {
      const given = lines().length;
      W.put(problem, given > MOST_OWN ? W.say("view.own.many", { given, most: MOST_OWN }) : W.say("view.own.count", { given }));
      return given;
    };
    text.addEventListener("input", count);
    const run = h("button", { type: "button", class: "wl-secondary", id: "own-run", onclick: () => count() && on.run(lines().slice(0, MOST_OWN)) }, W.say("view.own.run"));
    const result = h("div", { class: "wl-own-result", "aria-live": "polite" });
    const element = h("details", { class: "wl-details", id: "own-prompts" }, h("summary", {}, W.say("view.own.title")),
      h("p", { class: "wl-note" }, W.say("view.own.help")), text, h("div", { class: "wl-row" }, file, run), problem, result);

    /** Show answers of the prompts so far, those that part earliest first. rows: [{prompt, dense, variant}] of
     * {pieces}; title: of the variant; done: whether all are there. */
    const show = ({ rows, total, title, words, problem: wrong }) => {
      if (wrong) return W.put(problem, wrong);
      const judged = rows.map((row) => {
        const same = W.shared(row.dense.pieces, row.variant.pieces);
        const equal = same === row.dense.pieces.length && same === row.variant.pieces.length;
        return { ...row, same, equal };
      });
      judged.sort((a, b) => a.equal - b.equal || a.same - b.same);
      const changed = judged.filter(({ equal }) => !equal).length;
      W.put(problem, words || "");
      const answer = ({ pieces }, same, equal) => h("td", {}, pieces.slice(0, same).join(""), equal ? "" : h("mark", {}, pieces[same] ?? "∎"), pieces.slice(same + 1).join(""));
      if (!rows.length) return result.replaceChildren();
      return result.replaceChildren(
        h("p", { class: "wl-own-finding" }, W.say(rows.length < total ? "view.own.so_far" : "view.own.finding", { changed, total: rows.length, title })),
        h("div", { class: "wl-scroll", tabindex: 0, role: "region", "aria-label": W.say("view.own.title") }, h("table", { class: "wl-table wl-own-table" },
          h("thead", {}, h("tr", {}, ["prompt", "parts", "dense"].map((name) => h("th", { scope: "col" }, W.say(`view.own.${name}`))), h("th", { scope: "col" }, title))),
          h("tbody", {}, judged.map((row) => h("tr", {}, h("th", { scope: "row" }, row.prompt),
            h("td", {}, row.equal ? W.say("view.own.never") : W.say("view.own.at", { place: row.same + 1 })), answer(row.dense, row.same, row.equal), answer(row.variant, row.same, row.equal)))))));
    };
    return { element, show, title: () => {} };
  };

  /** The curve in numbers: a row a percent, a column a recipe. lines: [{name, points: [[at, point]]}]. */
  W.curveTable = () => {
    const body = h("div", { class: "wl-scroll", tabindex: 0, role: "region", "aria-label": W.say("view.table") });
    const element = h("details", { class: "wl-details", id: "curve-table" }, h("summary", {}, W.say("view.table")), body);
    let drawn = null;
    const show = (lines) => {
      const key = JSON.stringify(lines);
      if (!element.open || key === drawn) return;
      drawn = key;
      const places = [...new Set(lines.flatMap(({ points }) => points.map(([at]) => at)))].sort((a, b) => a - b);
      body.replaceChildren(h("table", { class: "wl-table" },
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, W.say("view.removed")), lines.map(({ name }) => h("th", { scope: "col" }, name)))),
        h("tbody", {}, places.map((at) => h("tr", {}, h("th", { scope: "row" }, `${at}%`), lines.map(({ points }) => {
          const point = points.filter(([place]) => place === at).map(([, found]) => found).pop();
          const kind = point && (point.windows ? W.say("view.measured_here") : W.say("view.stored"));
          const more = point && point.top1 !== undefined && point.top1 !== null ? `, ${W.say("view.top1", { share: W.percent(point.top1) })}` : "";
          return h("td", {}, point ? W.number(point.perplexity) : "", point ? h("small", {}, ` ${kind}${more}`) : "");
        }))))));
    };
    return { element, show };
  };
})(window.WandaLab);
