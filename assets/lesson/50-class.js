/* The page of a class: light or dark. */
"use strict";
((W) => {
  const asked = document.body.dataset.theme;
  document.body.classList.toggle("dark", asked ? asked === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
  W.words = JSON.parse(document.getElementById("wl-words").textContent);
})(window.WandaLab);
