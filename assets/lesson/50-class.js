/* The page of a class: files that learners hand in, read in this browser and sent nowhere, as one sheet.
 * A file may come from anybody: what is not of its form is refused whole, and every text stands in the page as text. */
"use strict";
((W) => {
  const { h } = W;
  const MOST_BYTES = 65536, MOST_FILES = 400, MOST_TEXT = 60, ITEMS = 6;
  const asked = document.body.dataset.theme;
  document.body.classList.toggle("dark", asked ? asked === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
  const data = JSON.parse(document.getElementById("wl-words").textContent);
  W.words = data.words;
  const steps = data.steps; // [name, title]

  /** A text of a file as it may be shown: no line ends, no signs that turn the direction of writing, not endless. */
  const plain = (value, most = MOST_TEXT) => (typeof value === "string" ? Array.from(value.replace(/[\p{C}\p{Zl}\p{Zp}]+/gu, " ").trim()).slice(0, most).join("") : "");
  const own = (object, key) => (object !== null && typeof object === "object" && Object.hasOwn(object, key) ? object[key] : undefined);

  /** Read a file that was handed in. -> {name, code, date, steps: {name: fits}, right, given, beaten}; throws for another. */
  W.readHandIn = (text) => {
    const told = JSON.parse(text);
    if (own(told, "format") !== "wanda-class-1" || !Array.isArray(own(told, "steps"))) throw new Error("form");
    const found = {};
    for (const record of told.steps.slice(0, steps.length)) {
      const name = own(record, "step");
      if (steps.some(([known]) => known === name)) found[name] = own(record, "fits") === true ? true : own(record, "fits") === false ? false : null;
    }
    const items = own(told.exam, "items");
    const answered = Array.isArray(items) ? items.slice(0, ITEMS).filter((item) => typeof own(item, "right") === "boolean") : [];
    const [you, wanda] = [own(told.beat, "you"), own(told.beat, "wanda")];
    return {
      name: plain(own(told, "name")), code: plain(own(told, "class"), 12), date: /^\d{4}-\d{2}-\d{2}$/.test(own(told, "date")) ? told.date : "",
      steps: found, given: answered.length, right: answered.filter((item) => item.right).length,
      beaten: Number.isFinite(you) && Number.isFinite(wanda) ? you < 0.999 * wanda : null,
    };
  };

  const entries = []; // [{file, ...}]
  const problems = h("ul", { class: "wl-sheet-problems", role: "status" });
  const place = h("div", { class: "wl-scroll", tabindex: 0, role: "region", "aria-label": W.say("class.sheet") });
  const summary = h("p", { class: "wl-lead" });
  const mark = (fits) => (fits === true ? "✓" : fits === false ? "✗" : fits === null ? "?" : "–");
  const markWords = (fits) => W.say(`class.mark.${fits === true ? "fits" : fits === false ? "differs" : fits === null ? "unknown" : "none"}`);
  const share = (name) => {
    const known = entries.filter((entry) => typeof entry.steps[name] === "boolean");
    return known.length ? `${known.filter((entry) => entry.steps[name]).length} / ${known.length}` : "–";
  };
  /** What stands above the columns. of: the words of the steps, and which columns tell of the test. */
  const heads = (of, test) => [...["name", "code", "date"].map((name) => W.say(`class.column.${name}`)), ...of, ...[...test, "beat"].map((name) => W.say(`class.column.${name}`))];
  const sorted = () => entries.slice().sort((a, b) => a.name.localeCompare(b.name) || a.file.localeCompare(b.file));
  const score = (entry) => (entry.given ? `${entry.right} / ${entry.given}` : "–");

  const show = () => {
    const names = entries.map(({ name }) => name);
    const rows = sorted().map((entry) => h("tr", {}, h("th", { scope: "row" }, entry.name || W.say("class.nameless", { file: plain(entry.file) }), names.filter((name) => name && name === entry.name).length > 1 ? h("span", { class: "wl-twice" }, ` ${W.say("class.twice")}`) : ""),
      h("td", {}, entry.code || "–"), h("td", {}, entry.date || "–"), steps.map(([name]) => h("td", { class: entry.steps[name] === false ? "wl-differs" : entry.steps[name] ? "wl-fits" : "" }, h("span", { "aria-hidden": "true" }, mark(entry.steps[name])), h("span", { class: "wl-hidden" }, markWords(entry.steps[name])))),
      h("td", {}, score(entry)), h("td", {}, entry.beaten === null ? "–" : W.say(entry.beaten ? "class.yes" : "class.no")),
      h("td", { class: "wl-no-print" }, h("button", { type: "button", class: "wl-quiet", "aria-label": W.say("class.remove", { name: entry.name || plain(entry.file) }), onclick: () => { entries.splice(entries.indexOf(entry), 1); show(); } }, "×"))));
    const marked = entries.filter(({ given }) => given);
    const mean = marked.length ? (marked.reduce((sum, { right }) => sum + right, 0) / marked.length).toFixed(1) : "–";
    const foot = h("tr", {}, h("th", { scope: "row" }, W.say("class.all")), h("td", {}), h("td", {}), steps.map(([name]) => h("td", {}, share(name))), h("td", {}, mean), h("td", {}, `${entries.filter(({ beaten }) => beaten).length}`), h("td", { class: "wl-no-print" }));
    const titles = [null, null, null, ...steps.map(([, title]) => title), null, null];
    place.replaceChildren(...(entries.length ? [h("table", { class: "wl-table" }, h("thead", {}, h("tr", {}, heads(steps.map((_, k) => String(k + 1)), ["test"]).map((head, k) => h("th", { scope: "col", title: titles[k] }, head)), h("td", { class: "wl-no-print" }))), h("tbody", {}, rows), h("tfoot", {}, foot)),
      h("ol", { class: "wl-sheet-steps" }, steps.map(([, title]) => h("li", {}, title)))] : []));
    for (const button of [csv, print, clear]) button.hidden = !entries.length;
    const hardest = steps.map(([name, title], k) => [entries.filter((entry) => entry.steps[name] === false).length, k, title]).sort((a, b) => b[0] - a[0])[0];
    W.put(summary, !entries.length ? W.say("class.none") : W.say(`class.summary${hardest[0] ? "_hard" : ""}${marked.length ? "" : "_untested"}`, { count: entries.length, mean, number: hardest[1] + 1, title: hardest[2], wrong: hardest[0] }));
  };

  W.sheetCsv = () => W.csv([heads(steps.map(([, title], k) => `${k + 1} ${title}`), ["right", "answered"]), ...sorted().map((entry) => [entry.name, entry.code, entry.date, ...steps.map(([name]) => (entry.steps[name] === true ? 1 : entry.steps[name] === false ? 0 : "")), ...(entry.given ? [entry.right, entry.given] : ["", ""]), entry.beaten === null ? "" : Number(entry.beaten)])]);

  const read = async (files) => {
    problems.replaceChildren();
    const refuse = (file, why) => problems.append(h("li", {}, W.say(`class.problem.${why}`, { file: plain(file.name) || "?", most: MOST_BYTES / 1024, files: MOST_FILES })));
    for (const file of files) {
      if (entries.length >= MOST_FILES) { refuse(file, "many"); break; }
      if (file.size > MOST_BYTES) { refuse(file, "large"); continue; }
      try {
        const text = await file.text();
        const entry = { file: file.name, text, ...W.readHandIn(text) };
        if (entries.some((before) => before.text === text)) refuse(file, "again");
        else entries.push(entry);
      } catch {
        refuse(file, "form");
      }
    }
    show();
  };
  const input = h("input", { type: "file", multiple: true, accept: ".json,application/json", id: "wl-files", onchange: async () => { await read([...input.files]); input.value = ""; } });
  const button = (words, act, kind = "wl-secondary") => h("button", { type: "button", class: kind, hidden: true, onclick: act }, words);
  const csv = button(W.say("class.csv"), () => {
    const link = h("a", { download: "wanda-class.csv", href: URL.createObjectURL(new Blob([W.sheetCsv()], { type: "text/csv" })) });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  });
  const print = button(W.say("class.print"), () => window.print());
  const clear = button(W.say("class.clear"), () => { entries.length = 0; problems.replaceChildren(); show(); });
  const section = document.getElementById("wl-sheet");
  section.append(h("h2", {}, W.say("class.sheet")), h("p", { class: "wl-lead" }, W.say("class.story")),
    h("div", { class: "wl-drop" }, h("label", { for: "wl-files", class: "wl-primary" }, W.say("class.choose")), input, h("span", {}, W.say("class.drop"))), problems, summary, place,
    h("div", { class: "wl-sheet-buttons wl-no-print" }, csv, print, clear));
  for (const name of ["dragover", "drop"]) document.addEventListener(name, (event) => { event.preventDefault(); if (name === "drop") read([...event.dataTransfer.files]); });
  show();
})(window.WandaLab);
