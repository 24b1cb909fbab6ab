/* What a learner hands in: a name, the guesses and the test, as one file that this browser writes; the server has none
 * of it. And the same as a sheet to print. */
"use strict";
((W) => {
  const { h } = W;
  const NAME = "wanda-name", EXAM = "wanda-exam", BEAT = "wanda-beat", RUN = "wanda-lesson", SKETCH = "wanda-sketch", PIECE = "wanda-piece"; // in this tab's storage
  const MOST_NAME = 60;

  /** What the browser keeps for as long as the tab is open; a browser that may keep nothing keeps it until it is left. */
  const beside = {};
  W.kept = {
    get: (key) => {
      try {
        return JSON.parse(sessionStorage.getItem(key)) ?? beside[key] ?? null;
      } catch {
        return beside[key] ?? null;
      }
    },
    set: (key, value) => {
      beside[key] = value;
      try {
        sessionStorage.setItem(key, JSON.stringify(value));
      } catch {}
    },
    NAME, EXAM, BEAT, RUN, SKETCH, PIECE,
  };

  /** The code of the class in the address, empty where there is none. */
  W.classCode = () => {
    const code = new URLSearchParams(location.search).get("class") || "";
    return /^[0-9A-Za-z-]{1,12}$/.test(code) ? code.toUpperCase() : "";
  };
  /** Whether every item has its answer. */
  W.answered = (answers) => answers.length > 0 && answers.every((answer) => answer !== null);
  /** The last test that was answered to its end, null where none was. exam: {items, answers, before} as it is kept. */
  W.finished = (exam) => (exam?.answers && W.answered(exam.answers) ? exam : exam?.before ?? null);
  const today = () => {
    const now = new Date();
    return `${now.getFullYear()}-${String(now.getMonth() + 1).padStart(2, "0")}-${String(now.getDate()).padStart(2, "0")}`;
  };

  /** What was answered so far. steps: [name, title] in their order; fits: whether a step's guess does, null if unknown. */
  W.answersSoFar = (steps, fits) => {
    const run = W.kept.get(RUN), exam = W.finished(W.kept.get(EXAM)) ?? W.kept.get(EXAM), beat = W.kept.get(BEAT);
    const done = steps.flatMap(([name], place) => {
      const record = run?.steps?.[place + 1];
      return record ? [{ step: name, guess: String(record.guess), fits: fits(place + 1) }] : [];
    });
    const items = (exam?.items || []).flatMap((item, place) => (exam.answers?.[place] ? [{ kind: item.kind, step: item.step, answer: exam.answers[place], right: item.answer === exam.answers[place] }] : []));
    return {
      format: "wanda-class-1", class: W.classCode(), name: (W.kept.get(NAME) || "").slice(0, MOST_NAME), date: today(), language: document.documentElement.lang, model: run?.model || exam?.model || "builtin",
      steps: done, exam: items.length ? { seed: exam.seed, items } : null, beat,
    };
  };
  const fileName = ({ class: code, name }) => `wanda-lesson${code ? `-${code}` : ""}${name ? `-${name.normalize("NFC").replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "")}` : ""}.json`;

  /** A learner's end of the lesson. steps: [name, title]; fits(number): as above; figures(number): what a step shows. */
  W.handIn = (element, { steps, fits, figures }) => {
    const code = W.classCode();
    const name = h("input", { type: "text", maxlength: MOST_NAME, autocomplete: "off", value: W.kept.get(NAME) || "", oninput: () => W.kept.set(NAME, name.value) });
    const said = h("p", { class: "wl-handin-said", role: "status" });
    const save = h("button", { type: "button", class: "wl-handin-save", onclick: () => {
      const told = W.answersSoFar(steps, fits);
      if (!told.steps.length && !told.exam) {
        W.put(said, W.say("try.handin.nothing"));
        return;
      }
      const link = h("a", { download: fileName(told), href: URL.createObjectURL(new Blob([JSON.stringify(told, null, 1)], { type: "application/json" })) });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
      W.put(said, W.say("try.handin.saved", { file: link.download }));
    } }, W.say("try.handin.save"));
    const print = h("button", { type: "button", class: "wl-handin-print", onclick: () => W.printSheet(steps, fits, figures) }, W.say("try.handin.print"));
    element.replaceChildren(h("div", { class: "wl-handin" }, h("h3", {}, W.say(code ? "try.handin.title_class" : "try.handin.title", { code })), h("p", {}, W.say("try.handin.story")),
      h("label", {}, h("span", {}, W.say("try.handin.name")), name), h("div", { class: "wl-handin-buttons" }, save, print), said));
  };

  /** Print what was answered: a line for the name, the date, and of each step its figure and its explanation. */
  W.printSheet = (steps, fits, figures) => {
    const told = W.answersSoFar(steps, fits);
    const parts = steps.flatMap(([name, title], place) => {
      const shown = figures(place + 1);
      if (!shown) return [];
      const record = told.steps.find((each) => each.step === name);
      const mark = record?.fits === true ? W.say("try.print.fits") : record?.fits === false ? W.say("try.print.differs") : "";
      return [h("section", {}, h("h2", {}, `${place + 1} · ${title}`, mark ? h("span", {}, ` ${mark}`) : ""), ...shown)];
    });
    const items = told.exam?.items || [];
    const exam = items.length ? [h("section", {}, h("h2", {}, W.say("try.print.test", { right: items.filter(({ right }) => right).length, of: items.length })))] : [];
    const line = (label, value) => h("p", {}, h("b", {}, `${label} `), h("span", { class: "wl-print-line" }, value || " "));
    document.getElementById("wl-print")?.remove();
    const sheet = h("div", { id: "wl-print" }, h("h1", {}, W.say("try.print.title")), h("div", { class: "wl-print-head" }, line(W.say("try.handin.name"), told.name), line(W.say("try.print.date"), told.date), told.class ? line(W.say("try.print.class"), told.class) : ""),
      ...(parts.length ? parts : [h("p", {}, W.say("try.print.nothing"))]), ...exam);
    document.body.append(sheet);
    document.body.classList.add("wl-printing");
    const end = () => { document.body.classList.remove("wl-printing"); sheet.remove(); };
    addEventListener("afterprint", end, { once: true });
    window.print();
  };
})(window.WandaLab);
