/* A page without a server begins: its words, the run it holds, light or dark. */
"use strict";
((W) => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const { kind, language, languages, measuring, two_weights: twoWeights, builtin, evaluation } = read("wl-words");
  const run = read("wl-run");
  W.BUILTIN_SOURCE = builtin;
  const root = document.getElementById("wl-leaf");
  const query = new URLSearchParams(location.search);
  const systemDark = matchMedia("(prefers-color-scheme: dark)");
  const theme = query.get("__theme");

  const leaf = {
    languages, language, dark: null, // as the reader chose, null as the system has it
    measuring, twoWeights, evaluation, // methods that read a text; what two weights begin with; fingerprint of the program's text
    change: (next) => {
      leaf.language = next;
      draw();
      document.getElementById("language-switch")?.focus();
    },
  };
  if (Object.hasOwn(languages, query.get("lang") ?? "")) leaf.language = query.get("lang");
  if (theme) leaf.dark = theme === "dark";
  const colour = () => document.body.classList.toggle("dark", leaf.dark ?? systemDark.matches);
  const draw = () => {
    W.words = languages[leaf.language].words;
    document.documentElement.lang = leaf.language;
    root.replaceChildren();
    if (run) W[kind](root, run, leaf);
    else root.append(h("p", {}, W.say("leaf.empty")));
  };
  const { h } = W;
  systemDark.addEventListener("change", colour);
  colour();
  draw();
})(window.WandaLab);
