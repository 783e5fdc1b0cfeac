// A request's page follows the request; the list says how many are selected. Both work without.
"use strict";
{
  // <div data-progress="address"> is asked for anew until its request is at rest. Then the page is shown as it is now,
  // unless somebody is writing in it.
  const live = document.querySelector("[data-progress]");
  if (live) {
    const refresh = document.querySelector("[data-refresh]");
    let wait = 2000;
    const again = () => setTimeout(ask, wait);
    const ask = async () => {
      if (document.hidden) return again();
      try {
        const answer = await fetch(live.dataset.progress, { headers: { Accept: "text/html" }, redirect: "error" });
        if (!answer.ok) return; // logged out, or no longer theirs: a reload will tell
        const text = await answer.text();
        const now = new DOMParser().parseFromString(text, "text/html").querySelector(".now");
        const before = live.querySelector(".now");
        wait = now.isEqualNode(before) ? Math.min(wait * 1.5, 30000) : 2000;
        if (!now.isEqualNode(before)) before.replaceWith(document.adoptNode(now));
        if (now.dataset.atRest === "yes") return atRest();
      } catch {
        wait = Math.min(wait * 2, 60000);
      }
      again();
    };
    const atRest = () => {
      if (document.querySelector("dialog[open]")) refresh.textContent = "Show what came of it";
      // By its own address: a page that answers a form would send the form once more. First time to be told of it.
      else setTimeout(() => location.replace(refresh.href), 1500);
    };
    again();
  }

  const bulk = document.querySelector("form[data-bulk]");
  const said = bulk && bulk.querySelector("[data-selected]");
  if (said) {
    bulk.addEventListener("change", () => {
      const number = bulk.querySelectorAll("input[name=selected]:checked").length;
      said.textContent = number ? `${number} selected` : "";
    });
  }
}
