// Keeps the page as the server draws it: each part is replaced when it is another one. Without this file the page
// is as it was when it was opened.
"use strict";

const address = document.body.dataset.events;
if (address) {
  const live = document.getElementById("live");
  const source = new EventSource(address);
  source.addEventListener("open", () => { live.textContent = "live"; });
  source.addEventListener("error", () => { live.textContent = "not connected: gpuplan dashboard has ended, or is busy"; });
  source.addEventListener("part", (event) => {
    const { id, html } = JSON.parse(event.data);
    const place = document.getElementById(id);
    const selection = document.getSelection();
    if (!place || (selection && !selection.isCollapsed && place.contains(selection.anchorNode))) return;
    const focused = place.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    place.innerHTML = html; // escaped where it was made
    if (focused) place.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
  });
}
