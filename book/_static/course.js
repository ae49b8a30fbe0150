/* One switch for the folded code of all drawings on a page. Without scripts each still opens alone. */
document.addEventListener("DOMContentLoaded", () => {
  const folds = [...document.querySelectorAll("main details.hide")];
  const title = document.querySelector("article h1");
  if (!folds.length || !title) return;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "course-folds";
  const set = open => {
    folds.forEach(fold => { fold.open = open; });
    button.setAttribute("aria-pressed", open);
    button.textContent = open ? "Hide the code of all drawings" : "Show the code of all drawings";
  };
  button.addEventListener("click", () => set(button.getAttribute("aria-pressed") !== "true"));
  set(false);
  title.after(button);
});

/* What scrolls sideways can be reached and moved by keyboard, too; looked at again when sizes change. */
window.addEventListener("load", () => {
  const places = document.querySelectorAll("main table, main pre, main div.cell_output, main div.math, main .text_html, main figure > div");
  const look = () => {
    for (const place of places) {
      if (place.hasAttribute("tabindex")) continue;
      const style = getComputedStyle(place);
      const scrolls = ["auto", "scroll"].includes(style.overflowX) || ["auto", "scroll"].includes(style.overflowY);
      const larger = place.scrollWidth > place.clientWidth || place.scrollHeight > place.clientHeight;
      if (scrolls && larger) place.tabIndex = 0;
    }
  };
  look();
  document.fonts?.ready.then(look);
  const watcher = new ResizeObserver(() => look());
  watcher.observe(document.querySelector("main"));
  places.forEach(place => watcher.observe(place));
});
