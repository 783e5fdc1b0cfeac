// A page that follows what workers do. It works without.
"use strict";
{
  // What the page says of its reader's last act stays when the page shows itself anew, until they leave it.
  const KEPT = "kept-notices";
  const keepNotices = (address) => {
    const notices = [...document.querySelectorAll(".messages, .page > [role=alert]")].map((one) => one.outerHTML);
    sessionStorage.setItem(KEPT, JSON.stringify({ address, notices }));
  };
  const kept = JSON.parse(sessionStorage.getItem(KEPT));
  sessionStorage.removeItem(KEPT);
  if (kept?.address === location.href) {
    const notices = new DOMParser().parseFromString(kept.notices.join(""), "text/html").body.children;
    document.querySelector(".page .head").after(...notices);
  }

  // <div data-progress="address"> is asked for anew until what it shows is at rest. Then, where the page has a link with
  // data-refresh, the page is shown as it is now, unless the user is writing in it.
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
      if (!refresh) return;
      if (document.querySelector("dialog[open]")) refresh.textContent = "Show what came of it";
      // By its own address: a page that answers a form would send the form once more. First time to be told of it.
      else
        setTimeout(() => {
          keepNotices(refresh.href);
          location.replace(refresh.href);
        }, 1500);
    };
    refresh?.addEventListener("click", () => keepNotices(refresh.href));
    again();
  }
}
