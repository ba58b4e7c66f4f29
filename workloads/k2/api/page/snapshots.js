// Time travel: a slider whose right end is live and whose other stops are the retained snapshots, oldest first.

export class SnapshotSlider {
  #slider;
  #output;
  #live;
  #travel;
  #snapshots = [];
  #pending = 0;

  /** `travel` is called with a snapshot, or null for live. `describe` makes the text of a snapshot. */
  constructor({ slider, output, live, travel, describe }) {
    this.#slider = slider;
    this.#output = output;
    this.#live = live;
    this.#travel = travel;
    this.describe = describe;
    slider.addEventListener("input", () => {
      this.#show();
      // Each stop is a question to the service: wait until the hand rests.
      clearTimeout(this.#pending);
      this.#pending = setTimeout(() => this.#travel(this.chosen), 150);
    });
    live.addEventListener("click", () => {
      this.goLive();
      this.#travel(null);
    });
  }

  /** The chosen snapshot; null when live. */
  get chosen() {
    const index = Number(this.#slider.value);
    return index >= this.#snapshots.length ? null : this.#snapshots[index];
  }

  /** Take the snapshots as they are now, oldest first. The choice stays, unless it is gone: then it is live again. */
  set snapshots(found) {
    const before = this.chosen?.snapshot_id;
    this.#snapshots = found;
    this.#slider.max = String(found.length);
    this.#slider.disabled = found.length === 0;
    this.choose(before);
  }

  /** Choose by id; live where there is none of that id. */
  choose(id) {
    const index = this.#snapshots.findIndex((each) => each.snapshot_id === id);
    this.#slider.value = String(index < 0 ? this.#snapshots.length : index);
    this.#show();
  }

  goLive() {
    clearTimeout(this.#pending);
    this.#slider.value = this.#slider.max;
    this.#show();
  }

  #show() {
    const chosen = this.chosen;
    const text = this.#snapshots.length === 0 ? "No snapshots yet" : this.describe(chosen, this.#snapshots);
    this.#output.textContent = text;
    this.#slider.setAttribute("aria-valuetext", text);
    this.#live.setAttribute("aria-pressed", String(chosen === null));
  }
}
