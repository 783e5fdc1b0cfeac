// The button of a deletion looks as if it could be pressed once the words are right, and says why not before. The
// server looks again in any case.
"use strict";
for (const typed of document.querySelectorAll("input[data-phrase]")) {
  const form = typed.form;
  const button = form.querySelector(".button.danger");
  const help = document.getElementById(typed.getAttribute("aria-describedby"));
  const first = help.textContent;
  const isRight = () => typed.value.trim().split(/\s+/).join(" ") === typed.dataset.phrase;
  const show = () => {
    button.setAttribute("aria-disabled", String(!isRight()));
    help.textContent = isRight() ? help.dataset.right : typed.value ? help.dataset.wrong : first;
  };
  button.setAttribute("aria-describedby", help.id);
  show();
  typed.addEventListener("input", show);
  form.addEventListener(
    "submit",
    (event) => {
      if (isRight()) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      help.textContent = help.dataset.wrong;
      typed.focus();
    },
    { capture: true },
  );
}
