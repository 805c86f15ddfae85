/** Keys: slash to the question, Escape empties it, j and k go from hit to hit. */

/** input: the field of the question. */
export function listen(input) {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    const isTyping = event.target.closest("input:not([type=checkbox], [type=radio], [type=range]), textarea, select");
    if (event.key === "/" && !isTyping) {
      event.preventDefault();
      input.focus();
      input.select();
    } else if (event.key === "Escape" && event.target === input) {
      event.preventDefault();
      input.value = "";
    } else if ((event.key === "j" || event.key === "k") && event.target.closest("#results")) {
      step(event.key === "j" ? 1 : -1);
    }
  });
}

/** From hit to hit. Only inside the results, so that no letter is taken from anything else. */
function step(by) {
  const hits = [...document.querySelectorAll("article.hit")];
  const at = hits.indexOf(document.activeElement?.closest("article.hit"));
  hits[Math.min(hits.length - 1, Math.max(0, at + by))]?.focus();
}
