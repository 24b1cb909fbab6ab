/* Pieces that more than one part is made of: code that can be copied, choices beside each other, sizes. */
"use strict";
((W) => {
  const { h } = W;

  /** A size in bytes: 269 MB, 1.4 GB. */
  W.size = (bytes) => (bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${Math.max(1, Math.round(bytes / 1e6)).toLocaleString("en")} MB`);

  /** Words of code, each on one line as long as it fits: an option is not parted at its hyphens. */
  const words = (text) => text.split(/(\s+)/).map((part) => (part.trim() ? h("span", { class: "wl-code-word" }, part) : part));
  /** A piece of code with a button that copies it; where a page may not write to the clipboard, it is selected. */
  W.codeBlock = (id, label) => {
    const code = h("code");
    const box = h("pre", { tabindex: 0, role: "region", "aria-label": label }, code);
    const said = h("span", { class: "wl-hidden", role: "status" });
    const copy = h("button", { type: "button", class: "wl-secondary wl-copy", id: `${id}-copy`, onclick: async () => {
      let words = "view.away.copied";
      try {
        await navigator.clipboard.writeText(code.textContent);
      } catch {
        getSelection().selectAllChildren(code);
        words = "view.away.selected";
      }
      for (const place of [copy, said]) W.put(place, W.say(words));
      setTimeout(() => { W.put(copy, W.say("view.away.copy")); W.put(said, ""); }, 2500);
    } }, W.say("view.away.copy"));
    return { element: h("div", { class: "wl-code", id }, box, copy, said), show: (text) => { if (code.textContent !== text) code.replaceChildren(...words(text)); } };
  };
  /** Choices of which one holds, beside each other. -> {element, value(), show([[value, words]], chosen)} */
  W.segments = (name, label, chosen = () => {}) => {
    const element = h("div", { class: "wl-segments", role: "radiogroup", "aria-label": label });
    const radio = () => element.querySelector("input:checked");
    const show = (choices, value) => {
      const of = JSON.stringify(choices);
      if (element.dataset.of !== of) {
        element.dataset.of = of;
        element.replaceChildren(...choices.map(([each, words]) => h("label", { class: "wl-segment" },
          h("input", { type: "radio", name, value: each, class: "wl-hidden", onchange: () => chosen(each) }), h("span", {}, words))));
      }
      for (const input of element.querySelectorAll("input")) input.checked = input.value === value;
    };
    return { element, show, value: () => radio()?.value };
  };
})(window.WandaLab);
