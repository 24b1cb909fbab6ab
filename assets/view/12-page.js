/* The view in the page of the server: drawn at once from what the page carries, then handed to the server's component. */
"use strict";
((W) => {
  const data = JSON.parse(document.getElementById("wl-data").textContent);
  W.words = data.words;
  const theme = new URLSearchParams(location.search).get("__theme");
  const dark = theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.body.classList.toggle("dark", dark);

  const stage = document.getElementById("wl-stage");
  const view = document.createElement("div");
  view.className = "wl-view";
  stage.append(view);
  const tabOf = (name) => document.querySelector(`gradio-app button[role=tab][data-tab-id="${name}"]`);
  /** Open a tab; its own button, which is out of sight, does so once the page is there. */
  const open = (name) => {
    head.tab(name);
    tabOf(name)?.click();
    if (name !== "compare") requestAnimationFrame(() => window.dispatchEvent(new Event("resize")));
  };
  const go = (name) => {
    if (name === head.now) return;
    W.writeAddress({ tab: name === "compare" ? null : name }, true);
    open(name);
    scrollTo(0, 0);
  };
  const head = W.head(document.getElementById("wl-head"), data, { tab: go });
  const page = W.mount(view, data, go);
  head.model(data.chip);
  head.tab(W.readAddress().tab);
  addEventListener("popstate", () => open(W.readAddress().tab));

  W.page = {
    go,
    /** Called by the server's component once it stands: move the view there, and let the server answer. */
    attach: (element, host) => {
      const slot = element.querySelector(".wl-slot") || element;
      if (slot.moveBefore) slot.moveBefore(view, null); // keeps focus and a handle that is held
      else slot.append(view);
      stage.remove();
      page.attach({ ...host, head: head.model });
      const now = head.now;
      if (now !== "compare") {
        const wait = () => (tabOf(now) ? open(now) : setTimeout(wait, 50));
        wait();
      }
    },
  };
})(window.WandaLab);
