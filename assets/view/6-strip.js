/* The strip of the recipe: model, method, pattern, against what, more, Prune. All of it native controls. */
"use strict";
((W) => {
  const { h } = W;
  const MORE = {
    order: ["default", "one-shot", "in-flight", "faithful"],
    update: ["default", "none", "obs", "least-squares"],
    group: ["default", "row", "matrix", "column", "row:128", "column:128", "model"],
    allocation: ["default", "uniform", "owl", "measured"],
    score: ["default", "wanda", "flap", "magnitude", "random"],
    zeros: ["default", "30", "50", "2:4", "4:8"],
  };
  const ANOTHER = "\u0000another", KEPT = "\u0000kept", SUMMARY = "\u0000summary";

  const option = (value, words, selected = false) => h("option", { value, selected }, words);
  const chip = (words, control, kind = "") => h("label", { class: `wl-chip-box ${kind}` }, h("span", {}, words), control);

  /**
   * Build the strip. models: [[name, title]]; open: whether other models may be typed; methods: the groups of each, by
   * name; presets, shrinks: names; on: {recipe(changes), against(recipe), model(name), prune(), upload(file)}.
   */
  W.strip = ({ models, open, methods, presets, shrinks, on }) => {
    let state = null;
    const added = (name) => W.recipe({ method: name, pattern: W.SHRINKS.includes(name) ? "unstructured" : state?.recipes[0].pattern ?? "unstructured" });
    const methodOptions = (taken = []) => [["view.methods", Object.keys(methods)], ["view.presets", presets], ["view.shrinks", shrinks]].map(([words, names]) =>
      h("optgroup", { label: W.say(words) }, names.filter((name) => !taken.length || !taken.includes(W.keyOf(added(name)))).map((name) => option(name, W.say(`view.method.${name}`)))));
    const typed = h("input", {
      class: "wl-typed", type: "text", "aria-label": W.say("view.model_typed"), placeholder: W.say("view.model_typed"), hidden: true, spellcheck: "false", maxlength: 400,
      onkeydown: (event) => event.key === "Enter" && typed.value.trim() && on.model(typed.value.trim()),
    });
    const model = h("select", { id: "wl-model", onchange: () => {
      if (model.value !== ANOTHER) return on.model(model.value);
      typed.hidden = false;
      typed.focus();
    } });
    const method = h("select", { id: "wl-method", onchange: () => on.recipe(W.withMethod(method.value)) }, methodOptions());
    const against = h("select", { id: "wl-against", onchange: () => {
      const chosen = against.value;
      against.value = SUMMARY;
      if (chosen !== SUMMARY) on.against(chosen === KEPT ? { ...state.recipes[0] } : W.recipe({ method: chosen }));
    } });
    const patterns = h("div", { class: "wl-segments", role: "radiogroup", "aria-label": W.say("view.pattern") });
    const own = h("input", {
      class: "wl-pattern-own", type: "text", size: 4, maxlength: 5, placeholder: "N:M", "aria-label": W.say("view.pattern_own"),
      onchange: () => {
        const given = own.value.trim();
        if (W.nOfM(given)) return on.recipe({ pattern: given });
        own.setAttribute("aria-invalid", "true");
        on.refused(W.say("view.pattern_wrong", { given: given || "…" }));
        return own.focus();
      },
      oninput: () => own.removeAttribute("aria-invalid"),
    });
    const segments = [["unstructured", W.say("view.pattern_free")], ["2:4", "2:4"], ["4:8", "4:8"]].map(([value, words]) => {
      const radio = h("input", { type: "radio", name: "wl-pattern", value, class: "wl-hidden", onchange: () => on.recipe({ pattern: value }) });
      patterns.append(h("label", { class: "wl-segment" }, radio, h("span", {}, words)));
      return radio;
    });
    patterns.append(own);

    const panel = h("div", { class: "wl-more", id: "wl-more", hidden: true });
    const more = h("button", { type: "button", class: "wl-chip-box wl-more-button", "aria-expanded": "false", "aria-controls": "wl-more", onclick: () => {
      panel.hidden = !panel.hidden;
      more.setAttribute("aria-expanded", String(!panel.hidden));
    } }, h("span", {}, W.say("view.more")), h("b"));
    const fields = {};
    for (const [name, values] of Object.entries(MORE)) {
      const help = h("p", { id: `wl-help-${name}` });
      const select = h("select", { id: `wl-${name}`, "aria-describedby": help.id, onchange: () => on.recipe({ [name]: select.value }) },
        values.map((value) => option(value, W.say(`view.${name}.${value}`))));
      fields[name] = { select, help };
      fields[name].box = h("div", { class: "wl-field" }, h("label", { for: select.id }, W.say(`view.${name}_title`)), select, help);
      panel.append(fields[name].box);
    }
    const file = h("input", { type: "file", accept: ".txt,.md,.jsonl,.json,.csv,.tsv,.parquet,.gz,.zst,text/plain", id: "wl-text", onchange: () => file.files[0] && on.upload(file.files[0]) });
    const builtin = h("button", { type: "button", class: "wl-quiet", onclick: () => { file.value = ""; on.recipe({ text: "", textName: "" }); } }, W.say("view.text_builtin"));
    const textName = h("p", {});
    const draws = [["samples", 1, 4096], ["seq_len", 2, 32768], ["seed", 0, 2 ** 31]].map(([name, min, max]) => {
      const input = h("input", { type: "number", id: `wl-${name}`, min, max, step: 1, onchange: () => input.checkValidity() && input.value !== "" ? on.recipe({ [name]: Number(input.value) }) : input.reportValidity() });
      return [name, input];
    });
    panel.append(h("div", { class: "wl-field wl-calibration" }, h("label", { for: "wl-text" }, W.say("view.calibration")), h("div", { class: "wl-row" }, file, builtin), textName,
      h("div", { class: "wl-row" }, draws.map(([name, input]) => h("label", { class: "wl-number" }, W.say(`view.draw.${name}`), input)))));

    const prune = h("button", { type: "button", class: "wl-primary", id: "prune", onclick: () => on.prune() }, W.say("view.prune"));
    const fold = h("button", { type: "button", class: "wl-fold", "aria-expanded": "false", "aria-controls": "wl-strip", onclick: () => {
      const opened = element.classList.toggle("wl-unfolded");
      fold.setAttribute("aria-expanded", String(opened));
    } });
    const strip = h("div", { class: "wl-strip", id: "wl-strip", role: "group", "aria-label": W.say("view.recipe") },
      chip(W.say("view.model"), model, "wl-of-model"), typed, chip(W.say("view.method_title"), method), patterns, chip(W.say("view.against"), against), more);
    const element = h("div", { class: "wl-set" }, h("div", { class: "wl-strip-row" }, fold, strip, h("div", { class: "wl-go" }, prune)), panel);

    /** Show it. state: {model, title, recipes}. */
    const show = (next) => {
      state = next;
      const [recipe, ...others] = state.recipes;
      const known = models.map(([name]) => name);
      model.replaceChildren(...models.map(([name, title]) => option(name, title, name === state.model)),
        ...(known.includes(state.model) ? [] : [option(state.model, state.title || state.model, true)]),
        ...(open ? [option(ANOTHER, W.say("view.model_another"))] : []));
      model.value = state.model;
      if (document.activeElement !== typed) typed.hidden = true;
      method.value = recipe.method;
      W.put(prune, W.say(W.shrinks(recipe) ? "view.shrink" : "view.prune"));
      const summary = others.length ? others.map(W.short).join(", ") : W.say("view.against_nothing");
      const taken = state.recipes.map(W.keyOf); // the very same again would say nothing
      const full = state.recipes.length >= W.MOST_RECIPES;
      against.replaceChildren(option(SUMMARY, summary, true), ...(full ? [h("optgroup", { label: W.say("view.against_full") })] : [
        ...methodOptions(taken), h("optgroup", { label: W.say("view.against_kept") }, option(KEPT, W.say("view.against_this")))]));
      segments.forEach((radio) => { radio.checked = radio.value === recipe.pattern; });
      const isOwn = !segments.some((radio) => radio.checked);
      if (document.activeElement !== own) own.value = isOwn ? recipe.pattern : "";
      own.classList.toggle("wl-chosen", isOwn);
      patterns.hidden = W.shrinks(recipe);
      for (const [name, { select, help, box }] of Object.entries(fields)) {
        box.hidden = W.idle(recipe).includes(name);
        if (name === "group")
          for (const choice of select.options)
            choice.disabled = choice.value !== "default" && !(methods[recipe.method] || methods.wanda).includes(choice.value);
        select.value = recipe[name];
        W.put(help, W.say(`view.${name}_help.${recipe[name]}`));
      }
      for (const [name, input] of draws) if (document.activeElement !== input) input.value = recipe[name];
      W.put(textName, recipe.text ? W.say("view.text_own", { name: recipe.textName || recipe.text }) : W.say("view.text_help"));
      builtin.hidden = !recipe.text;
      W.put(more.querySelector("b"), W.apart(recipe).join(", ") || W.say("view.more_plain"));
      W.put(fold, W.say("view.folded", { recipe: [W.short(recipe), ...(W.shrinks(recipe) ? [] : [W.nOfM(recipe.pattern) ? recipe.pattern : W.say("view.pattern_free")]), ...W.apart(recipe)].join(", "), against: summary }));
    };
    return { element, show, panel, typedFailed: () => { typed.hidden = false; } };
  };
})(window.WandaLab);
