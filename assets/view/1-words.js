/* What all parts of the view share: words, numbers, elements, and tables that are taken away. Loaded first of the files of this folder. */
"use strict";
window.WandaLab = {};
((W) => {
  /** Words by key, of one language; `{name}` in them is filled in. */
  W.words = {};
  W.say = (key, values = {}) => {
    const text = W.words[key];
    if (text === undefined) throw new Error(`no words for ${key}`);
    return text.replace(/\{(\w+)\}/g, (_, name) => (name in values ? values[name] : `{${name}}`));
  };
  W.has = (key) => key in W.words;
  W.capital = (words) => `${words[0].toUpperCase()}${words.slice(1)}`;

  /** A perplexity in as many digits as it is worth: 34.4, 243, 12,300, 1.2 million. */
  W.number = (value) => {
    if (value === null || value === undefined || Number.isNaN(value)) return "–";
    if (!Number.isFinite(value) || value >= 1e300) return "∞"; // JSON has no infinity
    const digits = value < 100 ? 1 : 0;
    if (value >= 1e7) return value.toExponential(1).replace("e+", "e");
    const rounded = value >= 10000 ? Number(value.toPrecision(3)) : value;
    return rounded.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  };
  /** What a known perplexity is, in words; `≈` where it lies between two measured ones. */
  W.costWords = (cost) => (cost ? `${cost.how === "between" ? "≈ " : ""}${W.number(cost.perplexity)}` : "–");
  W.percent = (share, digits = 0) => `${(100 * share).toFixed(digits)}%`;
  /** A time that one waits: `1.8 s`, `45 s`, `7 min`. */
  W.time = (seconds) => {
    if (seconds < 100) return W.say("view.time_s", { value: seconds < 10 ? seconds.toFixed(1) : Math.round(seconds) });
    return W.say("view.time_min", { value: Math.round(seconds / 60) });
  };

  /** Make an element. Attributes whose value is null or false are left out; `on…` are listeners; children may be text. */
  const make = (space) => (name, attributes = {}, ...children) => {
    const element = space ? document.createElementNS(space, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
      else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value === true ? "" : value);
    }
    element.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return element;
  };
  W.h = make(null);
  W.s = make("http://www.w3.org/2000/svg");
  /** Put a text into an element, if it is another one: a live region speaks only then. */
  W.put = (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  };
  /** Ask the server, outside of its queue. -> its answer, {problem} where it refuses or cannot be reached. */
  W.post = async (name, data) => {
    try {
      const reply = await fetch(new URL(`wanda/${name}`, document.baseURI), { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(data) });
      const answer = await reply.json();
      return reply.ok ? answer : { problem: answer.detail || W.say("view.unreachable") };
    } catch {
      return { problem: W.say("view.unreachable") };
    }
  };

  const FORMULA = /^[=+\-@\t\r\n＝＋－＠]/; // how a text begins that a spreadsheet would compute, as `sheets.py` has it
  const WITHIN = /[;\t\r\n]"*(?=[=+\-@＝＋－＠])/g; // and what may stand before it where cells are parted by `;`
  const INFINITE = 1e300; // JSON has no infinity
  const cell = (value) => {
    if (value === null || value === undefined || Number.isNaN(value)) return "";
    if (typeof value === "number") return Math.abs(value) < INFINITE ? String(value) : value > 0 ? "inf" : "-inf";
    const text = String(value).replaceAll("\0", "\ufffd");
    const safe = (FORMULA.test(text) ? `'${text}` : text).replace(WITHIN, "$&'");
    return /[",;\r\n\t]|^\s|\s$/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  /** A table as CSV by RFC 4180: numbers as they are known, infinite ones as inf, nothing where nothing is known. What
   * a spreadsheet would compute of a text has a ' before it. A mark of UTF-8 stands in front where a letter is none of
   * ASCII: without it a spreadsheet reads other letters, and where all are ASCII a program need not skip it. */
  W.csv = (rows) => {
    const text = rows.map((row) => row.map(cell).join(",")).join("\r\n");
    return `${/[^\0-\x7f]/.test(text) ? "\ufeff" : ""}${text}\r\n`;
  };

  W.hidden = (text) => W.h("span", { class: "wl-hidden" }, text);
  /** A call that waits until nothing has called for so many milliseconds. */
  W.later = (call, milliseconds) => {
    let timer = 0;
    return (...given) => {
      clearTimeout(timer);
      timer = setTimeout(() => call(...given), milliseconds);
    };
  };
})(window.WandaLab);
