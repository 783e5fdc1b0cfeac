// What can be copied has a button: <div class="copyable"><pre>…</pre><button data-copies="id" hidden>Copy</button></div>
"use strict";
for (const copier of document.querySelectorAll("[data-copies]")) {
  const source = document.getElementById(copier.dataset.copies);
  if (!source || !navigator.clipboard) continue;
  copier.hidden = false;
  const said = [...copier.childNodes];
  copier.addEventListener("click", async () => {
    await navigator.clipboard.writeText(source.textContent);
    copier.textContent = "Copied";
    setTimeout(() => copier.replaceChildren(...said), 2000);
  });
}
