/* Runs as files: what the page knows as one object, and a stranger's file checked before anything is drawn of it. */
"use strict";
((W) => {
  const FORMAT = 1;
  W.MOST_RUN = 8 * 2 ** 20; // bytes of a file that is read; the stored run takes 0.2 MB
  const LARGEST = 1e300; // what stands for an infinite perplexity: JSON has no word for it
  const PICTURES = ["scores", "linears", "masks", "stream", "ablation", "toy"];

  // What the page knows, as a run ---------------------------------------------------------------------------------
  /**
   * Make a run of what is known of a model: stored and measured points as one, the measured ones where there are both,
   * and of those only whole measurements. known: W.Known; about: what it was made on, `made` of a run, that of the stored
   * one where it is left out; recipes: the lines to take, all that are known where they are left out; specs: the engine's
   * recipe by key, where somebody was told; answers: that came here, [{key: or DENSE, at, prompt, pieces, probabilities}],
   * which stand with the stored ones. -> the run, null where too little is known for one. Pictures are the stored model's.
   */
  W.runOf = ({ known, model, about = null, recipes = null, specs = {}, answers = [] }) => {
    const runs = known.runs.get(model) || [];
    const made = about ?? runs.at(-1)?.made;
    const dense = known.densePerplexity(model);
    if (dense === null || !made) return null;
    const kept = new Map(runs.flatMap((run) => W.linesOf(run).map(({ key, line, recipe }) => [key, { line, made: run.made, recipe }])));
    const named = recipes ? recipes.map((recipe) => [W.keyOf(recipe), recipe])
      : [...kept.keys(), ...(known.measured.get(model)?.keys() || [])].map((key) => [key, kept.get(key)?.recipe ?? W.recipeOf(key)]);
    const lines = [];
    for (const [key, recipe] of new Map(named.filter(([, recipe]) => recipe))) {
      const points = pointsOf(known, model, key, made.windows);
      if (!points.length) continue;
      const line = { key, recipe: specs[key] ?? kept.get(key)?.line.recipe ?? null, calibration: drawnFor(recipe, made, kept.get(key)), at: points.map(([at]) => at) };
      for (const name of W.VALUES) line[name] = points.map(([, point]) => point[name] ?? null);
      lines.push(line);
    }
    const run = { format: FORMAT, made, dense: { perplexity: dense }, lines, ...asked(runs, lines, answers) };
    if (known.isStored(model)) for (const name of PICTURES) if (name in known.replay) run[name] = known.replay[name];
    return run;
  };

  /** The points of a line from the sparsest removal on: [[percent, point]]. */
  const pointsOf = (known, model, key, windows) => {
    const points = new Map(known.stored.get(model)?.get(key));
    for (const [at, point] of known.measured.get(model)?.get(key) || []) if (point.windows === windows) points.set(at, point);
    return [...points].sort(([a], [b]) => a - b);
  };

  /** How a recipe's calibration is drawn; null where that is as `made` says. kept: its stored line, of another run perhaps. */
  const drawnFor = ({ text, textName, samples, seq_len, seed }, made, kept) => {
    if (kept && (kept.line.calibration || kept.made.calibration.fingerprint === made.calibration.fingerprint)) return kept.line.calibration;
    const drawn = { samples, seq_len, seed };
    if (text) return { source: textName || W.say("view.own_text"), ...drawn };
    const same = Object.entries(drawn).every(([name, value]) => value === made.calibration[name]);
    return same ? null : { source: made.calibration.source, ...drawn };
  };

  /** Prompts with an answer, and all answers to them: {prompts, answers}. */
  const asked = (runs, lines, came) => {
    const prompts = new Map(runs.flatMap((run) => run.prompts.map((prompt) => [prompt.text, prompt])));
    for (const { prompt } of came) if (!prompts.has(prompt)) prompts.set(prompt, { text: prompt });
    const places = [...prompts.keys()];
    const answers = {};
    const put = (name, prompt, answer) => {
      answers[name] ??= places.map(() => null);
      answers[name][places.indexOf(prompt)] = answer;
    };
    const ours = (name) => name === W.DENSE || lines.some(({ key }) => name.startsWith(`${key}@`));
    for (const run of runs)
      for (const [name, stored] of Object.entries(run.answers))
        if (ours(name)) stored.forEach((answer, i) => answer && put(name, run.prompts[i].text, answer));
    for (const { key, at, prompt, pieces, probabilities } of came) {
      const name = key === W.DENSE || at === 0 ? W.DENSE : `${key}@${at}`;
      if (ours(name)) put(name, prompt, { t: [...pieces], p: probabilities.map((p) => Math.round(100 * p)) });
    }
    return { prompts: [...prompts.values()], answers };
  };

  // A stranger's file -----------------------------------------------------------------------------------------------
  /** Read a run. -> {run}, or {problem: words}; whatever the text is, nothing is thrown. */
  W.readRun = (text) => {
    if (typeof text !== "string" || text.length > W.MOST_RUN) return { problem: W.say("view.run.large", { most: W.MOST_RUN / 2 ** 20 }) };
    let run;
    try {
      run = JSON.parse(text.replace(/^\ufeff/, ""));
    } catch {
      return { problem: W.say("view.run.no_json") };
    }
    if (!isObject(run) || !("format" in run)) return { problem: W.say("view.run.no_json") };
    if (run.format !== FORMAT) return { problem: W.say("view.run.format", { format: FORMAT }) };
    try {
      check(run);
    } catch (error) {
      return { problem: W.say("view.run.broken", { where: error instanceof Wrong ? error.message : "?" }) };
    }
    return { run };
  };

  class Wrong extends Error {} // its message says where
  const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
  const must = (holds, where) => {
    if (!holds) throw new Wrong(where.slice(0, 80));
  };
  // Checks take a value and where it stands. `wanda_core/report/form.py` and `pictures_form.py` check the same.
  const number = (least = -LARGEST, most = LARGEST) => (value, where) => must(typeof value === "number" && value >= least && value <= most, where);
  const whole = (least = 0, most = 2 ** 63) => (value, where) => must(Number.isInteger(value) && value >= least && value <= most, where);
  const text = (most = 1000) => (value, where) => must(typeof value === "string" && value.length <= 2 * most && [...value].length <= most && !/\p{Surrogate}/u.test(value), where);
  const matching = (pattern) => (value, where) => must(typeof value === "string" && pattern.test(value), where);
  const truth = (value, where) => must(typeof value === "boolean", where);
  const maybe = (inner) => (value, where) => value === null || inner(value, where);
  const listed = (inner, least, most) => (value, where) => {
    must(Array.isArray(value) && value.length >= least && value.length <= most, where);
    value.forEach((item, i) => inner(item, `${where}[${i}]`));
  };
  const table = (required, optional = {}) => (value, where) => {
    must(isObject(value), where);
    for (const [name, inner] of Object.entries({ ...required, ...optional })) {
      const place = where ? `${where}.${name}` : name;
      if (Object.hasOwn(value, name)) inner(value[name], place);
      else must(!(name in required), place);
    }
  };
  const both = (...checks) => (value, where) => checks.forEach((each) => each(value, where));
  const alike = (...names) => (value, where) => must(new Set(names.map((name) => value[name].length)).size === 1, where);
  const each = (names, inner) => Object.fromEntries(names.map((name) => [name, inner]));

  const NAME = text(), COUNT = whole(), NUMBER = number(), SHARE = number(0, 1);
  const TOKENS = whole(2, 32768);
  const drawn = table({ source: NAME, samples: whole(1, 4096), seq_len: TOKENS, seed: COUNT }, { fingerprint: matching(/^[0-9a-f]{64}$/), seconds: maybe(number(0)) });
  const made = table({
    date: matching(/^\d{4}-\d{2}-\d{2}$/), ...each(["model", "name", "revision"], NAME), parameters: COUNT, prunable: COUNT,
    versions: table(each(["wanda", "torch", "transformers"], NAME)), calibration: drawn, windows: whole(1), agreement_windows: COUNT,
    seq_len: TOKENS, eval: matching(/^[0-9a-f]{16}$/), answer_tokens: whole(1, 4096),
  }, { dtype: NAME, bos: truth });
  const values = (inner) => listed(inner, 1, 1000);
  const line = both(table({
    key: NAME, recipe: maybe(table({ method: NAME }, { pattern: NAME, update: NAME, solver: table({}) })), calibration: maybe(drawn), at: values(number(0, 97)),
    perplexity: values(number(1)), top1: values(maybe(SHARE)), kl: values(maybe(NUMBER)), seconds: values(maybe(number(0))),
  }), alike("at", ...W.VALUES), ({ key, at }, where) => {
    must(at.every((place, i) => !i || at[i - 1] < place), `${where}.at`);
    const recipe = W.recipeOf(key);
    must(recipe && W.keyOf(recipe) === key, `${where}.key`);
    must(W.nOfM(recipe.pattern) ? at.length === 1 && at[0] === W.atOf(recipe, 0) : at.at(-1) <= 95, `${where}.at`);
  });
  const answer = both(table({ t: listed(text(50000), 0, 4096), p: listed(whole(0, 100), 0, 4096) }), alike("t", "p"));

  const TWO = listed(NUMBER, 2, 2), SHARES = listed(SHARE, 1, 3), CUTS = listed(NUMBER, 1, 3);
  const ofBlocks = (inner) => listed(inner, 1, 1000);
  const ofBins = listed(COUNT, 1, 512);
  const cut = maybe(table({ metric: NAME, median: NUMBER, low: NUMBER, high: NUMBER }));
  const grid = both(table({ edges: TWO, share: ofBlocks(ofBins), median: ofBlocks(maybe(NUMBER)) }), alike("share", "median"));
  const scores = both(table({
    sparsity: number(0, 100), kind: NAME, bins: whole(1, 512), blocks: ofBlocks(COUNT), score: grid, size: grid,
    cuts: listed(ofBlocks(cut), 0, 3), sparsities: listed(ofBlocks(SHARE), 0, 3),
  }), ({ blocks, bins, score, size, cuts, sparsities }, where) => {
    for (const rows of [score.share, size.share, ...cuts, ...sparsities]) must(rows.length === blocks.length, where);
    for (const row of [...score.share, ...size.share]) must(row.length === bins, where);
  });
  const bars = both(table({ edges: TWO, kept: ofBins, removed: ofBins, zeros: COUNT, misplaced: SHARE }), alike("kept", "removed"));
  const plane = table({
    x: TWO, y: TWO, bins: listed(whole(1, 512), 2, 2), cells: listed(listed(COUNT, 6, 6), 0, 20000), cuts: listed(cut, 2, 2), differ: SHARE,
    loudest_tenth: table({ columns: COUNT, first: SHARE, second: SHARE }), loudest: table({ column: COUNT, first: SHARE, second: SHARE }),
  });
  const sheet = text(2 * 1024 * 1024);
  const tile = { height: whole(1, 1024), width: whole(1, 1024), size: sheet, kept: listed(sheet, 1, 3) };
  const sheets = ({ height, width, size, kept }, where) => {
    for (const written of [size, ...kept]) {
      const ends = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(written);
      must(ends && (written.length / 4) * 3 - (written.endsWith("==") ? 2 : written.endsWith("=") ? 1 : 0) === height * width, where);
    }
  };
  const feature = maybe(table({ meets: truth, magnitude: NUMBER, layers: SHARE, positions: SHARE, least: listed(SHARE, 2, 2) }));
  const fate = table({ removed: truth, metric: matching(/^(size|score|importance|other)$/), scope: NAME, of: COUNT, removed_there: COUNT, rank: maybe(COUNT) }, { cut: maybe(NUMBER) });
  const told = table({
    place: COUNT,
    weight: table({ ...each(["row", "column", "columns", "loudness", "by_size", "by_score"], COUNT), ...each(["value", "norm", "median", "score"], NUMBER), fates: listed(fate, 1, 3) }),
    column: table({ ...each(["column", "columns", "rows", "loudness"], COUNT), norm: NUMBER, median: NUMBER, kept: SHARES, feature }),
    row: table({ row: COUNT, columns: COUNT, size: NUMBER, score: NUMBER, kept: SHARES, size_cuts: CUTS, score_cuts: CUTS }),
  });
  const linear = table({
    kind: NAME, block: COUNT, sparsity: number(0, 100), rows: whole(1), columns: whole(1), kept: SHARES, plane, score: bars, size: bars, norm: TWO, levels: whole(0, 32),
  }, { overview: both(table(tile), sheets), near: both(table({ at: listed(COUNT, 2, 2), ...tile }), sheets), told });
  const masks = both(table({
    kinds: listed(NAME, 1, 1000), pairs: listed(listed(whole(0, 2), 2, 2), 1, 3), differ: listed(listed(ofBlocks(maybe(SHARE)), 1, 1000), 1, 3), overall: SHARES,
  }), alike("pairs", "differ", "overall"), ({ kinds, differ }, where) => {
    must(differ.every((pair) => pair.length === kinds.length) && new Set(differ.flat().map((row) => row.length)).size === 1, where);
  });
  const stream = both(table({ channel: COUNT, largest: ofBlocks(number(0)), median: ofBlocks(number(0)), ratio: number(0), block: COUNT, massive: maybe(listed(COUNT, 2, 2)) }), alike("largest", "median"));
  const ablation = table({ tokens: NAME, value: NAME, channels: listed(COUNT, 1, 4096), ...each(["nothing", "channel", "random", "low", "high"], number(0)), draws: whole(1), windows: whole(1), seq_len: TOKENS });
  const bit = whole(0, 1);
  const toy = table({ w: TWO, x: TWO, y: NUMBER, errors: TWO, magnitude: bit, wanda: bit, cheaper: bit });

  const shown = table({ at: number(0, 97), keys: listed(NAME, 0, 3), prompt: maybe(text(50000)) });
  const check = both(table({
    made, dense: table({ perplexity: number(1) }), lines: listed(line, 0, 200), prompts: listed(table({ text: text(50000) }, { id: maybe(NAME), word: maybe(NAME) }), 0, 64), answers: table({}),
  }, { scores, linears: listed(linear, 1, 12), masks, stream, ablation, toy, shown }), ({ lines, prompts, answers }) => {
    const keys = new Set(lines.map(({ key }) => key));
    must(keys.size === lines.length, "lines");
    must(Object.keys(answers).length <= 5000, "answers");
    const row = listed(maybe(answer), prompts.length, prompts.length);
    for (const [name, given] of Object.entries(answers)) {
      const end = name.lastIndexOf("@"), at = name.slice(end + 1);
      must(name === W.DENSE || (keys.has(name.slice(0, end)) && String(Number(at)) === at && at > 0 && at <= 97), `answers.${name}`);
      row(given, `answers.${name}`);
    }
  });
})(window.WandaLab);
