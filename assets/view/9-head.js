/* The line at the top: name, model, tabs, share, language, light and dark; and what stands in the address. */
"use strict";
((W) => {
  const { h } = W;
  const MOST_LINKED = 4000; // characters of a prompt as an address writes it, in which a Korean syllable takes nine
  /** A prompt as the address holds it; null where it is too long for one. */
  W.linked = (prompt) => (String(new URLSearchParams({ ask: prompt })).length > MOST_LINKED ? null : prompt);
  W.TABS = ["compare", "scores", "outliers", "learn"];

  /** Read the view's state from the address; refused: what is no recipe and no share. */
  W.readAddress = () => {
    const query = new URLSearchParams(location.search);
    const given = query.getAll("r");
    const recipes = given.slice(0, W.MOST_RECIPES).map(W.recipeOf).filter(Boolean);
    const [named, at] = [query.get("at"), /^\d{1,2}$/.test(query.get("at") || "") && Number(query.get("at")) <= 95 ? Number(query.get("at")) : null];
    const refused = [...given.slice(0, W.MOST_RECIPES).filter((name) => !W.recipeOf(name)), ...given.slice(W.MOST_RECIPES)].map((name) => `r=${name}`);
    if (named && at === null) refused.push(`at=${named}`);
    const tab = query.get("tab");
    return {
      model: query.get("model")?.slice(0, 400) || null,
      offer: query.get("offer")?.slice(0, 400) || null, // a model that another site's link names, as `origin.py` has it
      recipes: recipes.length ? recipes : null,
      at, refused: refused.length ? refused.join(", ").slice(0, 200) : null, // what a link says and nobody can do
      prompt: query.get("ask")?.slice(0, MOST_LINKED) || null,
      kind: query.get("kind")?.slice(0, 200) || null,
      block: /^\d{1,4}$/.test(query.get("block") || "") ? Number(query.get("block")) : null,
      weight: /^\d{1,7},\d{1,7}$/.test(query.get("weight") || "") ? query.get("weight").split(",").map(Number) : null,
      tab: W.TABS.includes(tab) ? tab : query.has("lesson") ? "learn" : "compare",
    };
  };
  /** Put values into the address; null takes a name out. pushed: whether Back shall lead to what stands there now. */
  W.writeAddress = (values, pushed = false) => {
    const address = new URL(location);
    for (const [name, value] of Object.entries(values)) {
      address.searchParams.delete(name);
      for (const part of [value].flat()) if (part !== null && part !== undefined) address.searchParams.append(name, part);
    }
    if (String(address) === location.href) return;
    try {
      history[pushed ? "pushState" : "replaceState"](history.state, "", address);
    } catch {} // a page that was opened from a file, or in a frame that may not
  };

  const SURE_AFTER = 1000; // milliseconds
  /** The control that opens a model which another site's link names: two presses at two places, the second not at once.
   * Such a page can lay itself over this one and go away under the first press. -> {element, show(whether)} */
  W.offered = (open) => {
    let coming = 0;
    const sure = h("button", { type: "button", class: "wl-secondary", id: "offered-sure", hidden: true, disabled: true, onclick: open }, W.say("view.offered_sure"));
    const ask = h("button", { type: "button", class: "wl-secondary", id: "offered", onclick: () => {
      if (!sure.hidden) return;
      sure.hidden = false;
      coming = setTimeout(() => { sure.disabled = false; }, SURE_AFTER);
    } }, W.say("view.offered_open"));
    const element = h("span", { hidden: true }, ask, " ", sure);
    return { element, show: (whether) => {
      element.hidden = !whether;
      if (whether) return;
      clearTimeout(coming);
      sure.hidden = sure.disabled = true;
    } };
  };

  /** The lesson's own part of the address stands there only while the lesson is open; it comes back with it. */
  const ofLesson = (name) => !["model", "offer", "r", "at", "ask", "tab", "lang", "kind", "block", "weight", "__theme"].includes(name);

  /** Fill the head. languages: {code: name}; on: {tab(name)}. -> {model(text, its windows), tab(name), busy(text)} */
  W.head = (element, { languages, language, title }, on) => {
    const [model, windows] = [h("span", {}), h("span", { class: "wl-of-perplexity" })]; // the lesson has windows of its own
    const chip = h("span", { class: "wl-model", id: "wl-model-chip" }, model, windows);
    const tabs = h("div", { class: "wl-tabs", role: "tablist", "aria-label": W.say("view.tabs") });
    const buttons = W.TABS.map((name) => h("button", { type: "button", role: "tab", id: `nav-${name}`, "data-tab": name, "aria-selected": "false", tabindex: -1, onclick: () => on.tab(name) }, W.say(`page.tab.${name}`)));
    tabs.append(...buttons);
    tabs.addEventListener("keydown", (event) => {
      const index = buttons.indexOf(document.activeElement);
      const to = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: buttons.length - 1 }[event.key];
      if (to === undefined || index < 0) return;
      event.preventDefault();
      buttons[(to + buttons.length) % buttons.length].focus();
    });
    const said = h("span", { class: "wl-hidden", role: "status" });
    const share = h("button", { type: "button", class: "wl-quiet", id: "share", onclick: async () => {
      try {
        await navigator.clipboard.writeText(location.href);
        flash(W.say(W.linked(document.getElementById("wl-prompt").value) === null ? "view.shared_without_prompt" : "view.shared"));
      } catch {
        prompt(W.say("view.share_by_hand"), location.href); // without https a page may not write there
      }
    } }, W.say("view.share"));
    const flash = (words) => {
      W.put(said, words);
      W.put(share, words);
      setTimeout(() => { W.put(share, W.say("view.share")); W.put(said, ""); }, 2000);
    };
    const codes = Object.keys(languages);
    const next = codes[(codes.indexOf(language) + 1) % codes.length];
    const other = h("button", { type: "button", class: "wl-quiet", id: "language-switch", lang: next, onclick: () => {
      const address = new URL(location);
      address.searchParams.set("lang", next);
      location.assign(address);
    } }, languages[next]);
    const theme = h("button", { type: "button", class: "wl-quiet", id: "theme-switch", "aria-label": W.say("page.theme"), title: W.say("page.theme"), onclick: () => {
      const dark = document.body.classList.toggle("dark");
      W.writeAddress({ __theme: dark ? "dark" : "light" });
    } }, "◐");
    element.append(h("div", { class: "wl-head-in" }, h("h1", {}, title), chip, tabs, h("div", { class: "wl-switches" }, share, other, theme, said)));

    let [now, lesson] = [null, []];
    const tab = (name) => {
      const query = [...new URLSearchParams(location.search)];
      if (now === "learn" && name !== "learn") {
        lesson = query.filter(([part]) => ofLesson(part));
        W.writeAddress(Object.fromEntries(lesson.map(([part]) => [part, null])));
      } else if (name === "learn" && now !== "learn" && !query.some(([part]) => ofLesson(part))) {
        W.writeAddress(Object.fromEntries(lesson));
      }
      now = name;
      for (const button of buttons) {
        const chosen = button.dataset.tab === name;
        button.setAttribute("aria-selected", String(chosen));
        button.tabIndex = chosen ? 0 : -1;
      }
      document.body.dataset.tab = name;
    };
    return { tab, get now() { return now; }, model: (text, measured) => { W.put(model, text); W.put(windows, measured ? ` · ${measured}` : ""); } };
  };
})(window.WandaLab);
