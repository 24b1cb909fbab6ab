/* The view in the page of the server: drawn at once from what the page carries, then handed to the server's component. */
"use strict";
((W) => {
  const LATER = 2000; // milliseconds after the page stands
  const REST = 8000; // milliseconds without a sign of the visitor
  const data = JSON.parse(document.getElementById("wl-data").textContent);
  W.words = data.words;
  const theme = new URLSearchParams(location.search).get("__theme");
  const dark = theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.body.classList.toggle("dark", dark);
  let printed = false; // dark, before paper, which is white
  addEventListener("beforeprint", () => {
    printed = document.body.classList.contains("dark");
    document.body.classList.remove("dark");
  });
  addEventListener("afterprint", () => { if (printed) document.body.classList.add("dark"); });

  const stage = document.getElementById("wl-stage");
  const views = Object.fromEntries(["compare", "scores"].map((name) => {
    const view = document.createElement("div");
    view.className = `wl-view wl-view-${name}`;
    stage.append(view);
    return [name, view];
  }));
  const tabOf = (name) => document.querySelector(`gradio-app button[role=tab][data-tab-id="${name}"]`);
  /** Open a tab; its own button, which is out of sight, does so once the page is there. */
  const open = (name) => {
    head.tab(name);
    tabOf(name)?.click();
    if (name === "scores") scores.opened();
    if (name !== "compare") requestAnimationFrame(() => window.dispatchEvent(new Event("resize")));
  };
  const go = (name) => {
    if (name === head.now) return;
    W.writeAddress({ tab: name === "compare" ? null : name }, true);
    open(name);
    scrollTo(0, 0);
  };
  const head = W.head(document.getElementById("wl-head"), data, { tab: go });
  const page = W.mount(views.compare, data, go);
  let scores = { changed: () => {}, agreed: () => {}, opened: () => {}, address: () => ({}) };
  const shared = page.beside({ changed: () => scores.changed(), agreed: (message) => scores.agreed(message) });
  head.model(data.chip);
  head.tab(W.readAddress().tab);
  const remember = W.later(() => {
    if (head.now !== "scores") return;
    const { kind = null, block = null, weight = null } = scores.address();
    W.writeAddress({ kind, block, weight });
  }, 300);
  scores = W.scores(views.scores, data.replay, { ...shared, remember, open: () => head.now === "scores" }, W.readAddress());
  scores.opened();
  addEventListener("DOMContentLoaded", () => W.watchPlots(document.querySelector("gradio-app"))); // it comes behind this
  addEventListener("popstate", () => open(W.readAddress().tab));

  /** Move a view to its place on the server's page, where focus and a handle that is held stay. */
  const settle = (name, element) => {
    const slot = element.querySelector(".wl-slot") || element;
    const view = views[name];
    if (slot.moveBefore && view.isConnected) slot.moveBefore(view, null);
    else slot.append(view);
    if (!views[head.now] || !stage.contains(views[head.now])) stage.remove(); // what is not in sight settles later
  };
  /** Bring what other tabs need while nothing else is to do, unless data are dear. It runs, which keeps the browser for a
   * second or two, when the visitor has done nothing for a while or goes to such a tab; failing that, with the tab. */
  const bringLater = () => {
    if (navigator.connection?.saveData) return;
    const later = data.later.map((path) => new URL(path, document.baseURI));
    document.head.append(...later.map((href) => W.h("link", { rel: "modulepreload", href: href.href })));
    const signs = ["pointermove", "pointerdown", "keydown", "wheel"];
    const options = { passive: true, capture: true };
    const run = () => {
      for (const sign of signs) removeEventListener(sign, rested, options);
      for (const href of later) import(href).catch(() => {});
    };
    const rested = W.later(() => whenIdle(run), REST);
    for (const sign of signs) addEventListener(sign, rested, options);
    document.getElementById("nav-outliers")?.addEventListener("pointerenter", run, { once: true });
    rested();
  };
  const whenIdle = window.requestIdleCallback || ((call) => setTimeout(call, 200));
  W.page = {
    go,
    settle,
    /** Called by the server's component once it stands: move the view there, and let the server answer. */
    attach: (element, host) => {
      settle("compare", element);
      page.attach({ ...W.reaching(host), head: head.model });
      setTimeout(() => whenIdle(bringLater), LATER);
      const now = head.now;
      if (now !== "compare") {
        const wait = () => (tabOf(now) ? open(now) : setTimeout(wait, 50));
        wait();
      }
    },
  };
})(window.WandaLab);
