/** The pages of hits that were seen in this tab, by their place in its history: going back shows them at once. */

const REMEMBERED = 30;

export class Visits {
  constructor() {
    this.seen = new Map();
    this.n_places = 0;
    history.scrollRestoration = "manual"; // hits come after the page: the browser would scroll in an empty one
    this.place = history.state?.place ?? this.newPlace();
    history.replaceState({ place: this.place }, "");
  }

  newPlace() {
    return `${performance.timeOrigin}-${++this.n_places}`;
  }

  /** What was seen here: {pages, scroll}. */
  get here() {
    return this.seen.get(this.place);
  }

  remember(pages) {
    this.seen.delete(this.place);
    this.seen.set(this.place, { pages, scroll: 0 });
    if (this.seen.size > REMEMBERED) this.seen.delete(this.seen.keys().next().value);
  }

  leave() {
    if (this.here) this.here.scroll = window.scrollY;
  }

  /** A new entry in the history. */
  push(url) {
    this.place = this.newPlace();
    history.pushState({ place: this.place }, "", url);
  }

  /** The entry that the browser went to. */
  arrive(event) {
    this.place = event.state?.place ?? "";
    return this.here;
  }
}
