/* What is taken away: the control that saves a figure, its numbers as CSV, and names of files that every system takes. */
"use strict";
((W) => {
  const { h } = W;
  const MOST_PART = 60, MOST_NAME = 200; // bytes of a part of a file's name and of all of it; file systems take 255
  const RESERVED = /^(con|prn|aux|nul|com[\d¹²³]|lpt[\d¹²³])(\.|$)/i; // names of devices, which Windows opens

  // Names ------------------------------------------------------------------------------------------------------------
  /** Cut a text to so many bytes of UTF-8, between characters. */
  const cut = (text, most) => {
    const coder = new TextEncoder();
    let [kept, size] = ["", 0];
    for (const letter of text) {
      size += coder.encode(letter).length;
      if (size > most) break;
      kept += letter;
    }
    return kept.replace(/[-._]+$/, "");
  };
  /** Letters and digits of any script in lower case, and `-` for all else: path separators, blanks, what turns the
   * direction of writing; `.` and `_` stay inside of a word. */
  const plain = (text) => cut(String(text).normalize("NFKC").toLowerCase().replace(/\p{Default_Ignorable_Code_Point}/gu, "")
    .replace(/[^\p{L}\p{M}\p{N}._]+/gu, "-").replace(/[._]*-[._-]*|[._]{2,}/g, "-").replace(/^[-._]+|[-._]+$/g, ""), MOST_PART);
  /** A file's name without its ending, of parts that may be any text. */
  W.stem = (...parts) => {
    const name = cut(parts.flat(9).filter((part) => part !== null && part !== undefined).map(plain).filter(Boolean).join("-"), MOST_NAME);
    return !name || RESERVED.test(name) ? `wanda-${name || "lab"}` : name;
  };
  /** What a recipe is called in a file's name, in every language alike: wanda-45, wanda-faithful-2-4. */
  W.recipeStem = (recipe, at) => {
    const [method, ...apart] = W.keyOf({ ...recipe, pattern: "unstructured" }).split(",");
    const said = apart.map((part) => part.split("=")).map(([name, value]) => (["order", "group", "allocation", "update"].includes(name) ? value : `${name}-${value.slice(0, 8)}`));
    return [method, ...said, W.amount(recipe, at)].map(plain).join("-");
  };

  // Files ------------------------------------------------------------------------------------------------------------
  const link = (href, name) => h("a", { href, download: name }).click();
  /** Hand a file over. content: text or Blob. */
  W.save = (name, content, type) => {
    const address = URL.createObjectURL(new Blob([content], { type }));
    link(address, name);
    setTimeout(() => URL.revokeObjectURL(address), 60000);
  };
  /** Have the browser fetch a file of this server. */
  W.fetchFile = (address, name) => link(new URL(address, document.baseURI), name);

  // The control ------------------------------------------------------------------------------------------------------
  const SAID = 4000; // milliseconds that a failure stands there
  /**
   * Build the control that saves a figure. of: functions, asked when it is pressed: title() and caption(), texts; name(),
   * parts of the file's name; rows(), of the CSV; node(), the element that is drawn, or drawing(), a promise of what
   * `W.drawingOf` returns; legend() and foot() where there are such. -> {element, named(title)}
   */
  W.take = (of) => {
    const words = h("span", { class: "wl-take-word", "aria-hidden": "true" }, W.say("view.take.save"));
    const said = h("span", { class: "wl-hidden", role: "status" });
    const framed = async () => W.framed(of.drawing ? await of.drawing() : W.drawingOf(of.node()), {
      title: of.title(), caption: of.caption?.() || "", legend: of.legend?.() || [], foot: of.foot?.() || "", font: getComputedStyle(of.node()).fontFamily });
    const kinds = {
      csv: [async () => W.csv(of.rows()), "text/csv;charset=utf-8"],
      svg: [async () => W.svgText(await framed()), "image/svg+xml"],
      png: [async () => W.png(await framed()), "image/png"],
    };
    let busy = false;
    const save = async (kind) => {
      if (busy) return;
      busy = true;
      element.setAttribute("aria-busy", "true");
      const name = `${W.stem(of.name())}.${kind}`;
      try {
        const [make, type] = kinds[kind];
        W.save(name, await make(), type);
        W.put(said, W.say("view.take.saved", { name }));
      } catch (error) {
        console.error(error);
        for (const place of [words, said]) W.put(place, W.say("view.take.failed", { kind: kind.toUpperCase() }));
        setTimeout(() => W.put(words, W.say("view.take.save")), SAID);
      }
      busy = false;
      element.setAttribute("aria-busy", "false");
    };
    const element = h("div", { class: "wl-take", role: "group", "aria-label": W.say("view.take.save") }, words,
      Object.keys(kinds).map((kind) => h("button", { type: "button", class: "wl-quiet wl-take-as", "data-kind": kind, onclick: () => save(kind) }, kind.toUpperCase())), said);
    return { element, named: (title) => element.setAttribute("aria-label", W.say("view.take.save_of", { title })) };
  };
})(window.WandaLab);
