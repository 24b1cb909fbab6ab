/* A model whose licence has to be accepted first: where that is done, and the token with which it then opens. */
"use strict";
((W) => {
  const { h } = W;

  /** The form for a gated model. open(model, token). -> {element, show({model, address} or null)} */
  W.gated = (open) => {
    let model = null;
    const licence = h("a", { target: "_blank", rel: "noopener noreferrer" });
    const token = h("input", { type: "password", id: "gated-token", required: true, autocomplete: "off", maxlength: 400, "aria-describedby": "gated-token-help" });
    const element = h("form", { class: "wl-push wl-gated", id: "gated", hidden: true, onsubmit: (event) => {
      event.preventDefault();
      open(model, token.value);
      token.value = ""; // it is sent once
    } },
    licence,
    h("div", { class: "wl-field" }, h("label", { for: "gated-token" }, W.say("view.gated.token")), token, h("p", { id: "gated-token-help" }, W.say("view.gated.token_help"))),
    h("div", { class: "wl-row" }, h("button", { type: "submit", class: "wl-secondary" }, W.say("view.gated.open"))));
    const show = (gated) => {
      element.hidden = !gated;
      if (!gated) return;
      model = gated.model;
      W.put(licence, W.say("view.gated.licence", { model }));
      licence.hidden = !/^https:\/\//.test(gated.address);
      if (!licence.hidden) licence.href = gated.address;
    };
    return { element, show };
  };
})(window.WandaLab);
