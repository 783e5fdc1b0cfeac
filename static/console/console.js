// Small helps for every page of the console. All of it works without: menus stand open, dialogs are sections, what is
// to be copied can be selected.
"use strict";
{
  const menu = document.querySelector(".side .menu");
  if (menu) {
    const side = menu.closest(".side");
    const show = (open) => {
      side.classList.toggle("folded", !open);
      menu.setAttribute("aria-expanded", String(open));
    };
    show(false); // wide screens show the drawer all the same
    menu.addEventListener("click", () => show(side.classList.contains("folded")));
    side.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !side.classList.contains("folded")) {
        show(false);
        menu.focus();
      }
    });
  }

  // <button data-opens="id-of-dialog">; the dialog's own buttons with data-closes close it.
  for (const dialog of document.querySelectorAll("dialog[open]:not([data-stays])")) dialog.close();
  for (const opener of document.querySelectorAll("[data-opens]")) {
    const dialog = document.getElementById(opener.dataset.opens);
    if (!dialog) continue;
    opener.hidden = false;
    opener.addEventListener("click", (event) => {
      event.preventDefault();
      opener.dataset.opened = "yes";
      dialog.showModal();
    });
    // The event of its closing above arrives only later, when the user has not opened it.
    dialog.addEventListener("close", () => opener.dataset.opened && opener.focus());
    for (const closer of dialog.querySelectorAll("[data-closes]")) {
      closer.hidden = false;
      closer.addEventListener("click", () => dialog.close());
    }
  }
  for (const dialog of document.querySelectorAll("dialog[data-stays]")) {
    dialog.close();
    dialog.showModal(); // it came back with errors
  }

  // <input data-hash> takes what follows # in a link, which leaves the address. Links within the page have a # too.
  for (const input of document.querySelectorAll("[data-hash]")) {
    const field = input.closest(".form-row");
    const take = () => {
      if (/^#\d+-/.test(location.hash)) {
        input.value = location.hash.slice(1);
        history.replaceState(null, "", location.pathname);
      }
      field.hidden = Boolean(input.value) && !field.querySelector(".errors");
    };
    take();
    addEventListener("hashchange", take); // another link, pasted into this tab
  }

  for (const button of document.querySelectorAll("[data-prints]")) {
    button.hidden = false;
    button.addEventListener("click", () => print());
  }

  // A form is sent once: a second click on its button does nothing.
  for (const form of document.querySelectorAll("form[data-once]")) {
    form.addEventListener("submit", (event) => {
      if (form.dataset.sent) event.preventDefault();
      form.dataset.sent = "yes";
    });
    addEventListener("pageshow", () => delete form.dataset.sent);
  }

  // <select data-submits> sends its form when it is changed; its button is for users without scripts.
  for (const select of document.querySelectorAll("select[data-submits]")) {
    select.addEventListener("change", () => select.form.requestSubmit());
    for (const button of select.form.querySelectorAll("[data-noscript]")) button.hidden = true;
  }
}
