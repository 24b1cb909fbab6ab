/* What the server says, by the kind of what was asked: the view's state follows. */
"use strict";
((W) => {
  const AGAIN = [10, 20, 40, 80]; // s until a page whose own model was refused asks for it once more
  // What the view asks, and the kind of what it hears of that.
  const KINDS = { look: "run", sweep: "sweep", open: "opened", why: "told", own: "own", text: "text", masks: "agreed", buys: "bought", push: "pushed" };

  /**
   * Have the view hear, too, that what it asks is refused or reaches no server, or that the server is gone before it has
   * answered: the page's client shows a note of that, and the event never happens. host: of the component, as `attach` takes it. -> the same, whose calls say what they wait for
   */
  W.reaching = (host) => {
    const calls = {};
    const waiting = new Map(); // kind -> the request that is being answered
    const asking = Object.entries(KINDS).map(([name, kind]) => [name, (data) => host[name]({ ...data, kind })]);
    const watch = (kind, call) => {
      calls[kind] = call;
      host.watch(kind, (message) => {
        if (message && (message.ended ?? !message.progress)) waiting.delete(kind);
        call(message);
      });
    };
    const missed = (request, problem) => {
      const { kind, run, model } = JSON.parse(request).event_data || {};
      waiting.delete(kind);
      calls[kind]?.({ run, model, columns: {}, points: {}, keys: {}, rows: [], ended: true, problem });
    };
    const plain = window.fetch;
    window.fetch = async (address, options) => {
      const joins = String(address).includes("/gradio_api/queue/join");
      try {
        const reply = await plain(address, options);
        if (joins && reply.ok) waiting.set(JSON.parse(options.body).event_data?.kind, options.body);
        else if (joins) missed(options.body, (await reply.clone().json().catch(() => ({}))).detail || W.say("view.unreachable"));
        return reply;
      } catch (error) {
        // The page's client listens at one address, and asks for the app's number when that line is cut.
        const gone = joins ? [options.body] : /\/gradio_api\/(queue\/data|app_id)/.test(address) ? [...waiting.values()] : [];
        gone.forEach((request) => missed(request, W.say("view.unreachable")));
        throw error;
      }
    };
    return { ...host, ...Object.fromEntries(asking), watch };
  };

  /** -> {kind: call with the message}. view: state, known, live, now of the view, and what it can be told to do. */
  W.heard = ({ agreed, lookEnded, ofNow, state, known, live, heard, now, why, own, draw, drawSoon, drawStatus, changed, expect, remember, setRecipes, reopen }) => ({
    /** {run, columns: {id: {…}}, progress, ended, problem} of a look. */
    run: (message) => {
      if (!message || message.run !== state.run) return;
      state.status = message.progress || null;
      for (const [id, column] of Object.entries(message.columns)) {
        const recipe = id === W.DENSE ? W.DENSE : state.recipes.find((one) => String(one.id) === id);
        if (!recipe) continue; // it was removed meanwhile
        const key = id === W.DENSE ? id : recipe.id;
        const of = JSON.stringify([message.model, column.key, column.at, message.prompt, message.settings]);
        now.set(key, { ...column, of });
        if (column.answer) {
          const answer = { ...column.answer, whole: column.answered, of, model: message.model, at: column.at };
          heard.set(of, answer);
          if (of === ofNow(recipe)) live.set(key, answer);
        }
        if (column.dense) known.dense.set(message.model, column.dense);
        if (column.point && recipe !== W.DENSE) known.add(message.model, column.key, column.at, column.point);
      }
      if (message.ended) {
        state.busy = false;
        state.status = null;
        state.problem = message.problem || null;
        state.done = message.done || null;
        expect();
        lookEnded();
      }
      drawSoon(message.ended);
    },
    sweep: (message) => {
      if (!message || message.run !== state.sweepRun) return;
      if (state.sweep) state.sweep.status = message.progress || state.sweep.status;
      if (message.dense) known.dense.set(message.model, message.dense);
      for (const [id, points] of Object.entries(message.points)) {
        const key = message.keys[id];
        for (const [at, point] of points) known.add(message.model, key, at, point);
      }
      if (message.ended) {
        state.sweep = null;
        if (message.problem) state.problem = message.problem;
        else if (message.done) state.done = message.done;
      }
      drawSoon(true);
    },
    opened: (message) => {
      if (!message) return;
      if (message.progress && message.model === (state.wanted || state.model)) {
        state.head(message.chip);
        if (state.wanted) state.status = message.progress;
        drawStatus();
      }
      if (message.problem) {
        [state.wanted, state.status] = [null, null];
        state.problem = message.problem;
        state.unopened = !state.ready;
        if (state.unopened && state.refusals < AGAIN.length) setTimeout(() => state.unopened && !state.wanted && reopen(), 1000 * AGAIN[state.refusals++]);
        state.gated = message.gated ? { model: message.model, address: message.gated } : null;
        if (state.chip) state.head(...state.chip);
        draw();
      }
      if (message.ready) {
        state.chip = [message.chip, message.windows];
        state.head(...state.chip);
        state.gated = null;
        if (state.wanted) [state.status, state.wanted] = [null, null];
        if (message.model !== state.model) {
          [state.model, state.title, state.done] = [message.model, message.title, null];
          live.clear(); // what was heard is of a model by name
          now.clear();
        }
        if (message.dense) known.dense.set(state.model, message.dense);
        if (state.unopened) state.problem = null;
        [state.ready, state.unopened, state.refusals] = [true, false, 0];
        state.title = message.title;
        remember();
        draw();
        expect();
      }
    },
    expected: (message) => {
      if (!message) return;
      const points = (message.points || []).map((seconds, i) => seconds === null ? NaN : seconds * (W.nOfM(state.recipes[i]?.pattern) ? 1 : W.PLACES.length - 1));
      state.expected = { ...message, curve: points.reduce((sum, seconds) => sum + seconds, 0) || null };
      drawStatus();
    },
    told: (message) => {
      if (!message || !state.why || message.run !== state.why.run) return;
      const { titles, close, title, say, id, token, names, of } = state.why;
      let { sentence } = state.why;
      if (message.problem) return why.show({ sentence: `${sentence} ${message.problem}`, close });
      if (!message.dense) return why.show({ sentence: `${sentence} ${message.words || ""}`, close });
      // One pass and a step by step reading round differently: the panel gives one figure, that of its lists.
      const list = id === W.DENSE ? message.dense : (message.columns.find(([column]) => column === id) || [])[1];
      const held = list?.find(([piece]) => piece === token);
      if (held) sentence = say(held[1]);
      why.show({ sentence, close, ...W.toldOf(message, titles, title, names, of) });
    },
    agreed: (message) => message && agreed(message),
    own: (message) => {
      if (message && state.own && message.run === state.own.run) own.show({ ...message, total: state.own.total });
    },
    text: (message) => {
      if (!message) return;
      if (message.problem) state.problem = message.problem;
      else {
        const [first] = state.recipes;
        setRecipes((recipe) => (recipe === first ? { ...recipe, text: message.digest, textName: message.name } : recipe));
      }
      if (message.problem) draw();
      else changed();
    },
  });
})(window.WandaLab);
