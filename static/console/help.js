// Help: lists the pages that contain every typed word. Nothing is sent.
"use strict";
{
  const form = document.querySelector(".help-search");
  const input = form.querySelector("input");
  const found = form.querySelector("[role=status]");
  const pages = [...document.querySelectorAll("[data-words]")];

  const search = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const page of pages) page.hidden = !words.every((word) => page.dataset.words.includes(word));
    for (const group of document.querySelectorAll(".help-groups > section")) {
      group.hidden = !group.querySelector("[data-words]:not([hidden])");
    }
    const left = pages.filter((page) => !page.hidden);
    const number = left.length === 1 ? "1 page" : `${left.length} pages`;
    found.textContent = words.length ? (left.length ? number : "No page has all of these words.") : "";
    return left;
  };

  form.hidden = false;
  input.addEventListener("input", search);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const [first] = search();
    if (first && input.value.trim()) first.querySelector("a").focus();
  });
  search(); // a browser restores the text of a page that it shows again
}
