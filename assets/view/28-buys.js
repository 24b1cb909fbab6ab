/* What pruning buys: which runtimes make anything of zeros, of 2:4 and of smaller matrices. */
"use strict";
((W) => {
  const { h } = W;

  /** The table of runtimes, folded. runtimes: {checked, rows: [{name, scattered, two_of_four, smaller, source, address}]} */
  W.where = ({ checked, rows }) => {
    const uses = ["scattered", "two_of_four", "smaller"];
    const head = h("tr", {}, ["runtime", ...uses, "source"].map((name) => h("th", { scope: "col" }, W.say(`view.where.${name}`))));
    const body = rows.map((row) => h("tr", {}, h("th", { scope: "row" }, row.name), uses.map((use) => h("td", { class: `wl-use-${row[use]}` }, W.say(`view.where.${row[use]}`))),
      h("td", {}, h("a", { href: row.address, target: "_blank", rel: "noopener noreferrer" }, row.source))));
    return h("details", { class: "wl-details", id: "where" }, h("summary", {}, W.say("view.where.title")), h("p", { class: "wl-note" }, W.say("view.where.text")),
      h("div", { class: "wl-scroll", tabindex: 0, role: "region", "aria-label": W.say("view.where.title") }, h("table", { class: "wl-table wl-where" }, h("thead", {}, head), h("tbody", {}, body))), h("p", { class: "wl-note" }, W.say("view.where.foot", { checked })));
  };
})(window.WandaLab);
