/* What is known: recipes by name, stored and measured perplexities, stored answers. No elements, no server. */
"use strict";
((W) => {
  const PLAIN = {
    method: "wanda", pattern: "unstructured", order: "default", group: "default", allocation: "default",
    update: "default", score: "default", zeros: "default", text: "", samples: 16, seq_len: 256, seed: 0,
  };
  const NUMBERS = ["samples", "seq_len", "seed"];
  const IDLE = ["pattern", "order", "group", "allocation", "update"]; // of a smaller model, which has no zeros
  W.DENSE = "dense";
  W.SHRINKS = ["neurons", "heads", "blocks"]; // methods by which parts go for good
  W.shrinks = (recipe) => W.SHRINKS.includes(recipe.method);
  /** What becomes of a recipe's choices with another method: those that mean nothing for it are plain. */
  W.withMethod = (method) => ({ method, group: PLAIN.group, score: PLAIN.score, ...(W.SHRINKS.includes(method) ? Object.fromEntries(IDLE.map((name) => [name, PLAIN[name]])) : { zeros: PLAIN.zeros }) });
  /** The choices that mean nothing for a recipe: blocks go by what they change, and have no score. */
  W.idle = (recipe) => (W.shrinks(recipe) ? [...IDLE, ...(recipe.method === "blocks" ? ["score"] : [])] : ["score", "zeros"]);
  W.MOST_RECIPES = 3;
  W.VALUES = ["perplexity", "top1", "kl", "seconds"]; // of a point of a run
  W.recipe = (given = {}) => ({ ...PLAIN, ...given });

  /** The name of a recipe, without its sparsity: `wanda`, `wanda,order=faithful,pattern=2:4`. */
  W.keyOf = (recipe) =>
    [recipe.method, ...Object.keys(PLAIN).filter((name) => name !== "method" && recipe[name] !== PLAIN[name])
      .map((name) => `${name}=${recipe[name]}`)].join(",");

  /** Read such a name; null for what is none. What a name does not say is plain. */
  W.recipeOf = (key) => {
    const [method, ...parts] = String(key).slice(0, 400).split(",");
    if (!W.has(`view.method.${method}`)) return null;
    const recipe = W.recipe({ method });
    for (const part of parts) {
      const at = part.indexOf("=");
      const [name, value] = [part.slice(0, at), part.slice(at + 1)];
      if (at < 1 || name === "method" || !(name in PLAIN)) return null;
      if (NUMBERS.includes(name)) {
        if (!/^\d{1,9}$/.test(value)) return null;
        recipe[name] = Number(value);
      } else if (name === "pattern") {
        if (!W.nOfM(value)) return null;
        recipe.pattern = value;
      } else if (name === "text") {
        if (!/^[0-9a-f]{32}$/.test(value)) return null;
        recipe.text = value;
      } else {
        if (!W.has(`view.${name}.${value}`)) return null;
        recipe[name] = value;
      }
    }
    return W.idle(recipe).every((name) => recipe[name] === PLAIN[name]) ? recipe : null;
  };

  /** [N, M] of a pattern, null for one that is none. */
  W.nOfM = (pattern) => {
    const match = /^([1-9]\d?):([1-9]\d?)$/.exec(pattern);
    const pair = match ? [Number(match[1]), Number(match[2])] : null;
    return pair && pair[0] < pair[1] && pair[1] <= 32 ? pair : null;
  };

  /** The percent that a recipe removes: of its pattern where it has one. */
  W.atOf = (recipe, at) => {
    const pair = W.nOfM(recipe.pattern);
    return pair ? 100 * (1 - pair[0] / pair[1]) : at;
  };

  W.short = (recipe) => W.say(`view.method.${recipe.method}`);
  W.amount = (recipe, at) => (W.nOfM(recipe.pattern) ? recipe.pattern : `${Math.round(at * 10) / 10}%`);
  /** The zeros that follow on a smaller model: `50%`, `2:4`, empty where none do. */
  W.zeros = ({ zeros }) => (zeros === PLAIN.zeros ? "" : W.nOfM(zeros) ? zeros : `${zeros}%`);
  /** What follows, in a title: ` + Wanda 50%`. */
  W.after = (recipe) => (W.zeros(recipe) ? ` + ${W.say("view.method.wanda")} ${W.zeros(recipe)}` : "");
  /** Whether at 0% a recipe leaves the dense model: a pattern and zeros that follow remove weights at any place. */
  W.startsDense = (recipe) => !W.nOfM(recipe.pattern) && !W.zeros(recipe);
  W.title = (recipe, at) => {
    const short = W.short(recipe);
    return `${short[0].toUpperCase()}${short.slice(1)} ${W.amount(recipe, at)}${W.after(recipe)}`;
  };
  /** What sets a recipe apart besides method and pattern, in words. */
  W.apart = (recipe) => {
    const said = ["order", "group", "allocation", "update", "score"]
      .filter((name) => recipe[name] !== PLAIN[name]).map((name) => W.say(`view.${name}.${recipe[name]}`));
    if (W.zeros(recipe)) said.push(W.say("view.zeros_after", { zeros: W.zeros(recipe) }));
    if (recipe.text) said.push(recipe.textName || W.say("view.own_text"));
    if (NUMBERS.some((name) => recipe[name] !== PLAIN[name]))
      said.push(W.say("view.windows_of", { samples: recipe.samples, seq_len: recipe.seq_len }));
    return said;
  };
  /** Whether a recipe prunes so fast that letting go of the handle is enough: from norms that are known. */
  W.isQuick = (recipe) =>
    !["best", "paper", "sparsegpt", ...W.SHRINKS].includes(recipe.method) && ["default", "none"].includes(recipe.update)
    && ["default", "one-shot"].includes(recipe.order) && recipe.allocation !== "measured";

  /** A map of so many entries: the one that was set longest ago goes. */
  W.Latest = class extends Map {
    constructor(most) {
      super();
      this.most = most;
    }

    set(key, value) {
      this.delete(key);
      if (this.size >= this.most) this.delete(this.keys().next().value);
      return super.set(key, value);
    }
  };

  /** What is known of models. replay: the run that the page comes with, whose model is the stored one. */
  W.Known = class {
    constructor(replay) {
      this.replay = replay;
      this.runs = new Map(); // model -> its stored runs, the newest last
      this.stored = new Map(); // model -> recipe -> [[percent, {perplexity, top1, kl, seconds}]]
      this.measured = new Map(); // model -> recipe -> Map of percent -> the same with windows, zeros
      this.dense = new Map();
      keep(this, replay);
    }

    /** Let the lines of another run stand as stored ones of its model. -> null, or words that say why they cannot. */
    addRun(run) {
      const [own, given] = [this.replay.made, run.made];
      if (["eval", "windows", "seq_len"].some((name) => own[name] !== given[name]) || Boolean(own.bos) !== Boolean(given.bos))
        return W.say("view.run.other_text", { windows: own.windows, tokens: own.seq_len, others: given.windows, lengths: given.seq_len });
      const before = this.runs.get(given.name)?.[0];
      if (before && before.made.revision !== given.revision) return W.say("view.run.other_state", { model: this.called(given.name) });
      keep(this, run);
      return null;
    }

    /** What the model of a run is called that somebody brings: by what opens it, for the title in such a file may be any. */
    called(model) {
      return this.isStored(model) ? this.replay.made.model : model;
    }

    isStored(model) {
      return model === this.replay.made.name;
    }

    add(model, key, at, point) {
      if (!this.measured.has(model)) this.measured.set(model, new Map());
      const lines = this.measured.get(model);
      if (!lines.has(key)) lines.set(key, new Map());
      const before = lines.get(key).get(at);
      if (!before || (point.windows || 0) >= (before.windows || 0)) lines.get(key).set(at, { ...before, ...point });
    }

    /** Perplexity of the dense model, null until it is known. */
    densePerplexity(model) {
      return this.dense.get(model) ?? this.runs.get(model)?.at(-1).dense.perplexity ?? null;
    }

    storedLine(model, recipe) {
      return this.stored.get(model)?.get(W.keyOf(recipe)) || [];
    }

    measuredLine(model, recipe) {
      const points = this.measured.get(model)?.get(W.keyOf(recipe));
      return points ? [...points].sort((a, b) => a[0] - b[0]) : [];
    }

    /** {perplexity, how: "measured" | "stored" | "between"} of a recipe at a percent, null where nothing is known. */
    at(model, recipe, at) {
      const measured = this.measured.get(model)?.get(W.keyOf(recipe))?.get(at);
      if (measured) return { ...measured, how: "measured" };
      const line = this.storedLine(model, recipe);
      const stored = line.find(([place]) => place === at);
      if (stored) return { ...stored[1], how: "stored" };
      if (at === 0 && W.startsDense(recipe) && this.densePerplexity(model)) return { perplexity: this.densePerplexity(model), how: "stored" };
      return [line, this.measuredLine(model, recipe)].map((one) => between(this.withDense(model, recipe, one), at)).find(Boolean) || null;
    }

    /** A recipe's line with its start where that is known: nothing removed, the dense model's perplexity. */
    withDense(model, recipe, line) {
      const dense = W.startsDense(recipe) && this.densePerplexity(model);
      return dense && (!line.length || line[0][0] > 0) ? [[0, { perplexity: dense }], ...line] : line;
    }

    /** The stored answer nearest to a percent: {at, pieces, probabilities}, null where none is. recipe: or DENSE. */
    storedAnswer(model, recipe, at, prompt) {
      const key = recipe === W.DENSE ? W.DENSE : W.keyOf(recipe);
      const of = (name) => (this.runs.get(model) || []).flatMap((run) => answersIn(run, name, prompt)).reverse();
      const found = of(key);
      if (recipe !== W.DENSE && W.startsDense(recipe) && found.length) found.push(...of(W.DENSE)); // at 0% it is dense
      const [nearest] = found.sort(([a], [b]) => Math.abs(a - at) - Math.abs(b - at) || a - b);
      return nearest ? { at: nearest[0], pieces: nearest[1].t, probabilities: nearest[1].p.map((p) => p / 100) } : null;
    }
  };

  /** Put a run's lines among the stored ones; where two runs have one point, the newer one's stands. */
  function keep(known, run) {
    const model = run.made.name;
    known.runs.set(model, [...(known.runs.get(model) || []), run]);
    if (!known.stored.has(model)) known.stored.set(model, new Map());
    const lines = known.stored.get(model);
    for (const line of run.lines) {
      const points = new Map(lines.get(line.key));
      line.at.forEach((at, i) => points.set(at, Object.fromEntries(W.VALUES.map((name) => [name, line[name][i]]))));
      lines.set(line.key, [...points].sort((a, b) => a[0] - b[0]));
    }
  }

  /** The answers of a run's recipe, or of the dense model, to a prompt: [[percent, {t, p}]]. */
  function answersIn(run, key, prompt) {
    const index = run.prompts.findIndex(({ text }) => text === prompt);
    if (index < 0) return [];
    if (key === W.DENSE) return run.answers.dense?.[index] ? [[0, run.answers.dense[index]]] : [];
    return Object.entries(run.answers).filter(([name, answers]) => name.startsWith(`${key}@`) && answers[index])
      .map(([name, answers]) => [Number(name.slice(key.length + 1)), answers[index]]);
  }

  /** Between two known places the logarithm of the perplexity is taken for straight. */
  function between(line, at) {
    const after = line.findIndex(([place]) => place >= at);
    if (after < 1) return null;
    const [[x0, a], [x1, b]] = [line[after - 1], line[after]];
    if (!Number.isFinite(a.perplexity) || !Number.isFinite(b.perplexity)) return null;
    const share = (at - x0) / (x1 - x0);
    const perplexity = Math.exp((1 - share) * Math.log(a.perplexity) + share * Math.log(b.perplexity));
    return { perplexity, how: "between" };
  }

  /** Number of pieces that two answers share from the start. */
  W.shared = (a, b) => {
    let same = 0;
    while (same < Math.min(a.length, b.length) && a[same] === b[same]) same += 1;
    return same;
  };
})(window.WandaLab);
