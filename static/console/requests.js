// A request's page follows the request; the list says how many are selected. Both work without.
"use strict";
{
  const bulk = document.querySelector("form[data-bulk]");
  const said = bulk && bulk.querySelector("[data-selected]");
  if (said) {
    bulk.addEventListener("change", () => {
      const number = bulk.querySelectorAll("input[name=selected]:checked").length;
      said.textContent = number ? `${number} selected` : "";
    });
  }
}
