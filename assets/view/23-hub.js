/* Pushing a checkpoint to the hub: where to, who sees it, and how far it is. */
"use strict";
((W) => {
  const { h } = W;
  const REPOSITORY = "[\\w.\\-]{1,96}/[\\w.\\-]{1,96}"; // owner/name

  /** The form that pushes a checkpoint to the hub. start({repository, private, token}); cancel(). */
  W.pushForm = (start, cancel) => {
    const repository = h("input", { type: "text", id: "take-repository", required: true, maxlength: 193, pattern: REPOSITORY, spellcheck: "false", autocapitalize: "none", autocomplete: "off", "aria-describedby": "take-repository-help" });
    const visibility = W.segments("take-visibility", W.say("view.away.visibility"));
    visibility.show(["private", "public"].map((name) => [name, W.say(`view.away.${name}`)]), "private");
    const token = h("input", { type: "password", id: "take-token", autocomplete: "off", maxlength: 200, "aria-describedby": "take-token-help" });
    const send = h("button", { type: "submit", class: "wl-secondary", id: "take-push" }, W.say("view.away.push"));
    const stop = h("button", { type: "button", class: "wl-secondary", id: "take-push-cancel", hidden: true, onclick: cancel }, W.say("view.cancel"));
    const bar = h("i");
    const said = h("span", {});
    const address = h("a", { target: "_blank", rel: "noopener noreferrer", hidden: true });
    const status = h("div", { class: "wl-push-status", role: "status", hidden: true }, h("div", { class: "wl-push-bar", "aria-hidden": "true" }, bar), h("p", { class: "wl-note", id: "take-push-said" }, said, " ", address));
    const form = h("form", { class: "wl-push", onsubmit: (event) => {
      event.preventDefault();
      start({ repository: repository.value.trim(), private: visibility.value() === "private", token: token.value });
      token.value = ""; // it is sent once
    } },
    h("div", { class: "wl-field" }, h("label", { for: "take-repository" }, W.say("view.away.repository")), repository, h("p", { id: "take-repository-help" }, W.say("view.away.repository_help"))),
    h("div", { class: "wl-field" }, h("label", { for: "take-token" }, W.say("view.away.token")), token, h("p", { id: "take-token-help" }, W.say("view.away.token_help"))),
    h("div", { class: "wl-row" }, visibility.element, send, stop));
    const element = h("details", { class: "wl-details", id: "take-hub" }, h("summary", {}, W.say("view.away.hub")), form, status);
    const show = ({ offered, push, name, old }) => {
      element.hidden = !offered;
      const busy = Boolean(push && !push.ended);
      if (!repository.value && document.activeElement !== repository) repository.placeholder = W.say("view.away.repository_like", { name });
      send.disabled = busy || old;
      stop.hidden = !busy;
      status.hidden = !push;
      if (!push) return;
      status.classList.toggle("wl-running", busy);
      bar.style.width = `${push.progress?.percent ?? 0}%`;
      W.put(said, busy ? push.progress.words : push.problem || push.done);
      said.parentElement.classList.toggle("wl-problem-words", Boolean(push.problem));
      address.hidden = !/^https:\/\//.test(push.url || "");
      if (!address.hidden) [address.href, address.textContent] = [push.url, push.url];
    };
    return { element, show };
  };
})(window.WandaLab);
