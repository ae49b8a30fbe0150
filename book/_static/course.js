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

/* What scrolls sideways can be reached and moved by keyboard, too. */
window.addEventListener("load", () => {
  for (const place of document.querySelectorAll("main table, main pre, main div.cell_output, main div.math, main .text_html, main figure > div")) {
    const style = getComputedStyle(place);
    const scrolls = ["auto", "scroll"].includes(style.overflowX) || ["auto", "scroll"].includes(style.overflowY);
    const larger = place.scrollWidth > place.clientWidth || place.scrollHeight > place.clientHeight;
    if (scrolls && larger && !place.hasAttribute("tabindex")) place.tabIndex = 0;
  }
});
