// What goes wrong, said once and in words that help; what passes by itself is tried again when the service asks for it.

import { ApiError } from "./api.js";
import { showBadge, showEmpty } from "./view.js";

const RETRY_S = 5;
const TITLES = { 0: "No answer", 429: "Too many requests", 503: "The service is not ready" };

const at = (id) => document.getElementById(id);

export class Trouble {
  #retry;
  #askForKey;
  #goLive;
  #ticking = 0;

  /** Whether something is wrong. */
  get isOpen() {
    return !at("problem").hidden;
  }

  /** `retry` asks again, `askForKey(reason)` opens the dialog, `goLive` leaves a snapshot that is gone. */
  constructor({ retry, askForKey, goLive }) {
    this.#retry = retry;
    this.#askForKey = askForKey;
    this.#goLive = goLive;
    at("retry").addEventListener("click", () => this.#again());
  }

  /** Nothing is wrong (any more). */
  settle() {
    clearInterval(this.#ticking);
    at("problem").hidden = true;
  }

  /** Show an error, and do what helps. */
  report(error) {
    if (error.name === "AbortError") return;
    clearInterval(this.#ticking);
    if (!(error instanceof ApiError)) {
      this.#say("The page made a mistake", String(error.message));
      throw error;
    }
    const { status, message, title, correlationId } = error;
    if (status === 401) {
      showBadge("away", "Key refused");
      this.#say("The key was refused", message);
      this.#askForKey(message);
    } else if (status === 404) {
      this.settle();
      showEmpty(message);
    } else if (status === 410) {
      this.#goLive();
      this.#say("That snapshot is gone", `${message} Live data is shown instead.`);
    } else if (error.passes) {
      showBadge("away", status === 429 ? "Slowed down" : "Away");
      const traced = status >= 500 && correlationId ? `${message} (correlation id ${correlationId})` : message;
      this.#say(TITLES[status] ?? title, traced);
      this.#countDown(error.retryAfter ?? RETRY_S);
    } else {
      this.#say(title, message);
    }
  }

  #say(title, detail) {
    at("problem-title").textContent = title;
    at("problem-detail").textContent = detail;
    at("retry").textContent = "Try again";
    at("problem").hidden = false;
  }

  #countDown(seconds) {
    let left = seconds;
    const tick = () => {
      // Only for the eye: a screen reader would read every second of an alert.
      at("retry").textContent = `Try again (${left} s)`;
      if (left <= 0) this.#again();
      left -= 1;
    };
    tick();
    this.#ticking = setInterval(tick, 1000);
  }

  #again() {
    clearInterval(this.#ticking);
    at("retry").textContent = "Try again";
    this.#retry();
  }
}
