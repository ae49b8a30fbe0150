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
