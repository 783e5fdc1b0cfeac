// Settings of a chatbot. Without this all fields stand open, messages stay at the top of the page, and the overview lists
// links to what was once a section of it.
"use strict";
{
  // An address with the anchor of a section, from the time when all sections were on the overview.
  const follow = () => {
    const link = document.getElementById(location.hash.slice(1));
    if (link?.matches("a[data-moved]")) location.replace(link.href);
  };
  follow();
  addEventListener("hashchange", follow);

  // What was saved is told where one was.
  const section = document.getElementById(location.hash.slice(1));
  const messages = document.querySelector(".messages");
  if (messages && section?.matches("section.card")) section.querySelector("h2").after(messages);

  // What is wrong is read out first; in a dialog that came back open it is the field itself.
  const dialog = document.querySelector("dialog[open]");
  if (dialog) dialog.querySelector("[aria-invalid='true']")?.focus();
  else document.querySelector("[data-takes-focus]")?.focus();

  // The number of days is for another period than those listed.
  for (const fields of document.querySelectorAll("[data-other]")) {
    const [choice, number] = fields.querySelectorAll("select, input");
    const show = () => {
      number.disabled = choice.value !== fields.dataset.other; // one that is not shown is not sent
      number.closest(".field").hidden = number.disabled;
    };
    choice.addEventListener("change", show);
    show();
  }

  // The operator's bucket has no settings.
  for (const form of document.querySelectorAll("form[data-bucket]")) {
    const show = () => {
      form.querySelector(".client").hidden = form.elements.hosting.value !== "client";
    };
    form.addEventListener("change", show);
    show();
  }
}
