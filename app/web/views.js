/** The ways between the views. */

import { EMPTY, address } from "./state.js";

/** Views that take the whole width and ask no question of the collection, with their names. */
export const WIDE = new Map([["evaluate", "Evaluation"], ["collections", "Collections"]]);

/** A click that opens a new tab, as for any link. */
const isElsewhere = (event) => event.ctrlKey || event.metaKey || event.shiftKey;

/** The attributes of a link to a place on this page, which go() shows without loading it anew. */
export function within(href, go) {
  const click = (event) => {
    if (isElsewhere(event)) return;
    event.preventDefault();
    go();
  };
  return { href, on: { click } };
}

/** go(changes) changes the state; the collection stays. */
export function listenTo(nav, go) {
  nav.addEventListener("click", (event) => {
    const view = event.target.dataset.view;
    if (view === undefined || isElsewhere(event)) return;
    event.preventDefault();
    go({ ...EMPTY, view });
  });
}

export function drawViews(nav, { view, collection }) {
  for (const link of nav.children) {
    link.setAttribute("href", address({ ...EMPTY, view: link.dataset.view, collection }));
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}
