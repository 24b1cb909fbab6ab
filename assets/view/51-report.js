/* The report: one run on one page, to post or to print. */
"use strict";
((W) => {
  const { h } = W;
  const TALL = 320; // pixels
  const WORDY = 24; // characters of a cell, from which it takes more room than a word
  const FIELDS = ["method", "pattern", "group", "order", "allocation", "update", "solver", "seed"];

  // Answers ---------------------------------------------------------------------------------------------------------
  /** An answer: what it shares with the dense one, where it parts from that, and the rest. */
  const answerText = (answer, dense) => {
    const { pieces } = answer;
    const same = dense ? W.shared(dense.pieces, pieces) : pieces.length;
    const parted = dense && same < pieces.length;
    let from = same; // the word is marked, whose beginning may be shared
    while (parted && from > 0 && !/^\s/.test(pieces[from])) from -= 1;
    return h("p", { class: "wl-answer" },
      parted ? h("span", { class: "wl-shared" }, pieces.slice(0, from).join("")) : pieces.join(""),
      parted ? h("mark", { class: "wl-part-here" }, pieces.slice(from, same + 1).join("")) : null,
      parted ? pieces.slice(same + 1).join("") : null);
  };
  const column = (which, title, perplexity, body, note) => h("article", { class: `wl-col wl-col-${which}` },
    h("header", {}, h("h4", { class: "wl-col-name" }, title), perplexity === null ? null : h("span", { class: "wl-col-side" }, `${W.say("view.perplexity")} `, h("b", {}, perplexity))),
    body, note ? h("p", { class: "wl-col-note" }, note) : null);

  const answersPart = (run, known, { at, recipes }) => {
    const { name } = run.made;
    const costOf = (recipe) => W.costWords(known.at(name, recipe, W.atOf(recipe, at)));
    const title = (recipe) => `${W.nameOf(recipe)}${W.nOfM(recipe.pattern) ? "" : ` ${W.place(at)}`}`;
    const blocks = (run.prompts || []).map(({ text }) => {
      const dense = known.storedAnswer(name, W.DENSE, 0, text);
      const answers = recipes.map((recipe) => known.storedAnswer(name, recipe, W.atOf(recipe, at), text));
      if (!dense && !answers.some(Boolean)) return null;
      const bodies = [dense, ...answers].map((answer, i) => (answer ? answerText(answer, i ? dense : null) : h("p", { class: "wl-answer wl-hint" }, W.say("leaf.no_answer"))));
      const notes = answers.map((answer, i) => {
        if (!answer) return "";
        const place = W.atOf(recipes[i], at);
        const blank = answer.pieces.length && !answer.pieces.join("").trim() ? W.say("view.blank") : "";
        return [blank, dense ? W.parting({ ...answer, whole: true }, { ...dense, whole: true }) : "", answer.at === place ? "" : W.say("view.nearest", { at: W.place(answer.at) })].filter(Boolean).join(" · ");
      });
      return {
        answers, dense,
        element: h("section", { class: "wl-prompt" }, h("h3", { class: "wl-asked" }, text),
          h("div", { class: "wl-cols", style: `--columns:${recipes.length + 1}` }, column(W.DENSE, W.say("view.dense"), W.number(run.dense.perplexity), bodies[0], W.say("view.as_trained")),
            recipes.map((recipe, i) => column(i, title(recipe), costOf(recipe), bodies[i + 1], notes[i])))),
      };
    }).filter(Boolean);
    if (!blocks.length)
      return recipes.length ? W.part("costs", W.say("leaf.report.costs", { at: W.place(at) }), h("div", { class: "wl-cols wl-bare", style: `--columns:${recipes.length + 1}` },
        column(W.DENSE, W.say("view.dense"), W.number(run.dense.perplexity), null, ""), recipes.map((recipe, i) => column(i, title(recipe), costOf(recipe), null, "")))) : null;
    const same = (a, b) => a.pieces.length === b.pieces.length && W.shared(a.pieces, b.pieces) === a.pieces.length;
    const changed = recipes.map((recipe, i) => {
      const judged = blocks.filter(({ answers, dense }) => answers[i] && dense);
      return judged.length ? W.say("leaf.report.changed", { title: title(recipe), changed: judged.filter(({ answers, dense }) => !same(answers[i], dense)).length, total: judged.length }) : null;
    }).filter(Boolean);
    return W.part("answers", changed.length ? W.say("leaf.report.answers", { changes: changed.join(", ") }) : W.say("leaf.report.answers_alone"),
      h("p", { class: "wl-lead" }, W.say("leaf.report.answers_text")), blocks.map(({ element }) => element));
  };

  // Figures ---------------------------------------------------------------------------------------------------------
  const whyPart = (run) => {
    const told = W.tellings(run);
    const recipes = ["wanda", "magnitude"].map((method) => W.recipe({ method })); // that its pictures show
    const names = recipes.map(W.short);
    const planes = (run.linears || []).map(({ plane, kind, block, sparsity }, i) => {
      const stems = recipes.map((recipe) => W.recipeStem(recipe, sparsity));
      return W.pictured(`plane-${i}`, {
        title: W.say("leaf.report.plane", { kind: kind.split(".").pop(), block, differ: W.percent(plane.differ, 1) }),
        text: W.say("leaf.report.plane_text", { at: W.place(sparsity), wanda: W.percent(plane.loudest_tenth.first), magnitude: W.percent(plane.loudest_tenth.second) }),
        data: { name: [run.made.model, "plane", kind, block, stems], rows: () => W.planeRows(plane, stems), legend: W.fateLegend(names), foot: run.made.model },
      }, W.fittedPlane(plane, TALL, { names }));
    });
    const heading = told.plane ? told.plane.title : told.stream ? told.stream.title : W.say("view.door.why");
    return W.part("why", heading,
      told.plane ? h("p", { class: "wl-lead" }, `${told.plane.text} ${W.say("leaf.report.plane_lead")}`) : null,
      planes.length ? W.legend(names) : null, planes.length ? h("div", { class: "wl-planes" }, planes) : null, W.masksPicture(run),
      told.stream || told.ablation ? h("div", { class: "wl-pairs" },
        told.stream ? W.pictured("stream", told.stream, (width) => W.streamFigure(run.stream, width, TALL)) : null,
        told.ablation ? W.pictured("ablation", told.ablation, W.ablationFigure(run.ablation)) : null) : null);
  };

  // Tables ----------------------------------------------------------------------------------------------------------
  const scrolled = (name, table) => h("div", { class: "wl-scroll", tabindex: 0, role: "region", "aria-label": name }, table);
  const head = (names) => h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col" }, name))));

  /** Every point of a run: a table a line, and one for recipes that have a single amount. */
  W.pointTables = (run) => {
    const dense = run.dense.perplexity;
    const share = (value) => (value === null || value === undefined ? "–" : W.percent(value, 2));
    const columns = ["perplexity", "times", "top1", "kl", "seconds"];
    const cells = (line, i) => [W.exact(line.perplexity[i]), W.short3(line.perplexity[i] / dense), share(line.top1?.[i]), W.exact(line.kl?.[i]), W.exact(line.seconds?.[i])].map((words) => h("td", {}, words));
    const tableOf = (name, first, rows) => scrolled(name, h("table", { class: "wl-table wl-points" }, h("caption", {}, name), head([first, ...columns].map((part) => W.say(`leaf.report.column.${part}`))), h("tbody", {}, rows)));
    const all = W.linesOf(run);
    const [along, alone] = [all.filter(({ line }) => line.at.length > 1), all.filter(({ line }) => line.at.length === 1)];
    const tables = along.map(({ line, name }) => tableOf(name, "removed", line.at.map((at, i) => h("tr", {}, h("th", { scope: "row" }, W.place(at)), cells(line, i)))));
    if (alone.length) tables.push(tableOf(W.say("leaf.report.patterns"), "recipe", alone.map(({ line, name, recipe }) => h("tr", {}, h("th", { scope: "row" }, recipe && W.nOfM(recipe.pattern) ? name : `${name} ${W.place(line.at[0])}`), cells(line, 0)))));
    return h("div", { class: "wl-point-tables" }, tables);
  };

  /** A value of a recipe as a program would write it. */
  const written = (value) => {
    if (value === undefined || value === null) return "–";
    if (Array.isArray(value)) return value.map(written).join(", ");
    if (typeof value === "object") return Object.entries(value).map(([name, inner]) => `${name} ${written(inner)}`).join(", ");
    return String(value);
  };
  const recipesPart = (run, measuring) => {
    const lines = W.linesOf(run);
    /** What a recipe was calibrated on, null where it reads no text. */
    const drawn = ({ recipe, calibration }) => (!recipe || measuring.includes(recipe.method) || recipe.update !== "none" || !["default", "uniform"].includes(recipe.allocation) ? calibration || run.made.calibration : null);
    /** A field as the table has it; what means nothing of a recipe is left out. */
    const field = (line, recipe, name) => {
      const pair = recipe && W.nOfM(recipe.pattern);
      if (name === "group" && pair) return W.say("leaf.report.within_pattern", { m: pair[1] });
      if ((name === "order" && !drawn(line)) || (name === "solver" && line.recipe?.update !== "least-squares") || (name === "seed" && recipe?.method !== "random")) return "–";
      return written(line.recipe?.[name]);
    };
    const words = ({ recipe, key, line }) => {
      const said = recipe ? [W.say(`view.method_help.${recipe.method}`)] : [W.say("leaf.unknown_recipe", { key })];
      const pair = recipe && W.nOfM(recipe.pattern);
      if (pair) said.push(W.say("leaf.report.pattern", { n: pair[0], m: pair[1] }));
      for (const name of recipe ? ["order", "group", "allocation", "update"] : [])
        if (recipe[name] !== "default") said.push(`${W.say(`view.${name}_title`)}: ${W.say(`view.${name}.${recipe[name]}`)}. ${W.say(`view.${name}_help.${recipe[name]}`)}`);
      if (line.calibration) said.push(W.say("leaf.calibrated", { source: W.sourceOf(line.calibration), samples: line.calibration.samples, seq_len: line.calibration.seq_len }));
      return said;
    };
    const name = W.say("leaf.report.recipes_table");
    const told = FIELDS.filter((one) => lines.some(({ line, recipe }) => field(line, recipe, one) !== "–"));
    return W.part("recipes", W.say("leaf.report.recipes"),
      h("dl", { class: "wl-recipes" }, lines.map((one) => [h("dt", {}, one.name), h("dd", {}, words(one).map((sentence) => h("p", {}, sentence)))]).flat()),
      scrolled(name, h("table", { class: "wl-table wl-left" }, h("caption", { class: "wl-hidden" }, name),
        head([W.say("view.recipe"), ...told.map((one) => W.say(`leaf.report.field.${one}`)), W.say("view.calibration")]),
        h("tbody", {}, lines.map(({ line, recipe, name: title }) => h("tr", {}, h("th", { scope: "row" }, title),
          told.map((one) => field(line, recipe, one)).map((words) => h("td", { class: words.length > WORDY ? "wl-wordy" : null }, words)),
          h("td", { class: drawn(line) ? "wl-wordy" : null }, drawn(line) ? W.say("leaf.report.drawn", { source: W.sourceOf(drawn(line)), samples: drawn(line).samples, seq_len: drawn(line).seq_len, seed: drawn(line).seed }) : "–")))))));
  };

  /** What sets a recipe apart from others of its method and amount. */
  const apartOf = (key) => {
    const recipe = W.recipeOf(key);
    return recipe ? W.apart(recipe) : [];
  };
  /** How the figures are measured: a perplexity by a command, an answer in words. */
  const measured = ({ made, answers }, { evaluation }) => {
    if (!made.windows) return null;
    const own = made.eval !== evaluation;
    const said = [W.say("leaf.report.measure_perplexity", { windows: made.windows, seq_len: made.seq_len, text: own ? W.say("leaf.report.measure_own", { text: made.eval }) : W.say("leaf.report.measure_builtin") })];
    if (made.answer_tokens && Object.keys(answers || {}).length) said.push(W.say("leaf.report.measure_answers", { tokens: made.answer_tokens }));
    const block = W.codeBlock("repeat-measure", W.say("leaf.report.measure_of"));
    block.show(`wanda-lab perplexity --model FOLDER --windows ${made.windows} --seq-len ${made.seq_len}${own ? " --text TEXT" : ""}`);
    return h("section", { class: "wl-repeat wl-measure" }, h("h3", {}, W.say("leaf.report.measure")), h("p", { class: "wl-lead" }, said.join(" ")), block.element);
  };
  const repeatPart = (run, leaf) => (run.repeat?.length ? W.part("repeat", W.say("leaf.report.repeat"), h("p", { class: "wl-lead" }, W.say("leaf.report.repeat_text")),
    run.repeat.map(({ key, title, command, python }, i) => h("section", { class: "wl-repeat" }, h("h3", {}, [title, ...apartOf(key)].join(", ")), h("div", { class: "wl-repeat-pair" }, [["command", command], ["python", python]].filter(([, text]) => text).map(([kind, text]) => {
      const block = W.codeBlock(`repeat-${i}-${kind}`, W.say(`leaf.report.${kind}_of`, { title }));
      block.show(text);
      return h("div", {}, h("h4", {}, W.say(`leaf.report.${kind}`)), block.element);
    })))), measured(run, leaf)) : null);

  const madePart = (run) => {
    const { made } = run;
    const drawn = made.calibration;
    const rows = [
      ["model", made.model], ["name", made.name === made.model ? null : made.name], ["revision", made.revision],
      ["parameters", made.parameters && made.parameters.toLocaleString("en")], ["prunable", made.prunable && made.prunable.toLocaleString("en")],
      ["date", made.date],
      ["evaluation", made.windows && W.say("leaf.report.evaluation", { windows: W.say("view.windows_of", { samples: made.windows, seq_len: made.seq_len }), text: made.eval ?? "–" })],
      ["agreement", made.agreement_windows && W.say("view.windows_of", { samples: made.agreement_windows, seq_len: made.seq_len })],
      ["answer_tokens", made.answer_tokens],
      ["calibration", drawn && W.say("leaf.report.drawn", { source: W.sourceOf(drawn), samples: drawn.samples, seq_len: drawn.seq_len, seed: drawn.seed })],
      ["fingerprint", drawn?.fingerprint],
      ["reading", drawn?.seconds && W.say("leaf.report.seconds", { seconds: W.exact(drawn.seconds) })],
      ["versions", made.versions && Object.entries(made.versions).map(([name, version]) => `${name} ${version}`).join(", ")],
    ].filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== 0);
    return W.part("made", W.say("leaf.report.made"), h("dl", { class: "wl-facts" }, rows.map(([name, value]) => [h("dt", {}, W.say(`leaf.report.fact.${name}`)), h("dd", {}, String(value))]).flat()));
  };

  /** Build the report. leaf: of `59-start.js`. */
  W.report = (root, run, leaf) => {
    const known = new W.Known(run);
    const looked = W.lookedAt(run);
    const all = W.linesOf(run);
    const keys = looked.recipes.map(W.keyOf);
    const lines = [...keys.map((key) => all.find((line) => line.key === key)), ...all.filter(({ key }) => !keys.includes(key))];
    const finding = W.findingOf(run);
    document.title = [...new Set([finding, run.made.model])].join(" · ").slice(0, 200);
    const curve = h("figure", { class: "wl-report-curve" }, W.fitted((width) => W.curvePicture({ dense: run.dense.perplexity, lines, looked: keys.length, at: looked.at }, width)),
      h("figcaption", {}, W.say("leaf.report.curve_text"), W.hidden(` ${W.say("leaf.report.curve_twin")}`)));
    root.append(W.leafHead(leaf, run, { links: [], print: true }), h("main", {},
      h("h1", { class: "wl-report-title", id: "finding" }, finding), h("p", { class: "wl-lead" }, W.measuredWords(run)), curve,
      ...[answersPart(run, known, looked), whyPart(run), W.part("points", W.say("leaf.report.points"), h("p", { class: "wl-lead" }, W.say("leaf.report.points_text", { dense: W.exact(run.dense.perplexity) })), W.pointTables(run)), recipesPart(run, leaf.measuring), repeatPart(run, leaf), madePart(run)].filter(Boolean)));
  };
})(window.WandaLab);
