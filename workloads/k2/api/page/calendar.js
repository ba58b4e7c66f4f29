// When an exchange trades, from its calendar: asked for where it is needed, and kept.

import { ask } from "./api.js";
import { dayName, dayPlus, localTime } from "./format.js";

/** Days that have to be known on either side of one (no exchange was closed for as long), and those that are asked for then. */
const NEEDED = 20;
const ASKED = 45;

const OPEN = new Set(["regular", "special"]);

export class Calendar {
  #exchange;
  #rows = new Map();

  /** What /v1/calendar says, piece after piece. */
  take(body) {
    this.#exchange = body;
    for (const row of body.data) this.#rows.set(row.date, row);
  }

  /** Whether a date and those around it are at hand. */
  reaches(day) {
    return this.#rows.has(dayPlus(day, -NEEDED)) && this.#rows.has(dayPlus(day, NEEDED));
  }

  get zone() {
    return this.#exchange.time_zone;
  }

  /** What its prices are in. */
  get currency() {
    return this.#exchange.currency;
  }

  /** Which of the exchange's trades count, by name: the conditions of each. */
  get profiles() {
    return this.#exchange.profiles;
  }

  /** The profile that its regular session has unless asked otherwise; null for none. */
  get defaultProfile() {
    return this.#exchange.default_profile;
  }

  /** `regular`, `special` (a half day, say), `closed`, or `unknown`: beyond what the calendar knows. */
  status(day) {
    return this.#rows.get(day)?.status ?? "unknown";
  }

  /** The nearest trading date before (`step` -1) or after (1) a date; null where the calendar does not know it. */
  near(day, step) {
    let found = dayPlus(day, step);
    while (this.status(found) === "closed") found = dayPlus(found, step);
    return OPEN.has(this.status(found)) ? found : null;
  }

  /** The trading date of an instant, which may begin the evening before; null where it is not at hand. */
  dateOf(instant) {
    const at = Date.parse(instant);
    const row = [...this.#rows.values()].find(({ begins, ends }) => Date.parse(begins) <= at && at < Date.parse(ends));
    return row?.date ?? null;
  }

  /** What has to be known of a date that is none like the others; nothing of one that is. */
  noteOf(day) {
    const { exchange, known_from: from, known_until: until } = this.#exchange;
    switch (this.status(day)) {
      case "closed":
        return `${exchange} is closed on this day.`;
      case "special":
        return `${this.#hours(day)}.`;
      case "unknown":
        return `The calendar of ${exchange} does not know this date, only those ${reach(from, until)}.`;
      default:
        return "";
    }
  }

  /** A date by its name, with its hours where these are not the usual ones. */
  nameOf(day) {
    return this.status(day) === "special" ? `${dayName(day)} (${this.#hours(day)})` : dayName(day);
  }

  #hours(day) {
    const [opens, closes] = this.#session(this.#rows.get(day));
    const [, usual] = this.#usual(day);
    const kind = usual && closes < usual ? "Half day" : "Hours of its own";
    return `${kind}: open from ${opens} to ${closes}`;
  }

  /** Hours of the nearest date that is like the others; none where there is no such one at hand. */
  #usual(day) {
    for (let away = 1; away <= ASKED; away += 1) {
      for (const date of [dayPlus(day, -away), dayPlus(day, away)]) {
        if (this.status(date) === "regular") return this.#session(this.#rows.get(date));
      }
    }
    return [];
  }

  #session({ opens, closes }) {
    return [localTime(opens, this.zone), localTime(closes, this.zone)];
  }
}

function reach(from, until) {
  return [from && `from ${from}`, until && `until ${until}`].filter(Boolean).join(" ");
}

/** Calendars by exchange and symbol: some symbols go by one of their own. */
const held = new Map();

/** The calendar of what is chosen, at hand around a day. */
export async function calendarAround({ symbol, exchange }, day, signal) {
  const name = `${exchange} ${symbol}`;
  const calendar = held.get(name) ?? new Calendar();
  if (!calendar.reaches(day)) {
    const range = { start: dayPlus(day, -ASKED), end: dayPlus(day, ASKED), symbol };
    calendar.take((await ask(`calendar/${encodeURIComponent(exchange)}`, range, { signal })).body);
    held.set(name, calendar);
  }
  return calendar;
}
