// What is shown of an answer: headline, legend, chart, table and badge.

import { drawable } from "./chart.js";
import { profileText } from "./choices.js";
import { companyText } from "./company.js";
import { ageOf, dayName, decimal, drawnPlaces, localDate, localTime, placesOf } from "./format.js";
import { firstDay } from "./market.js";

const LATE_MS = 15_000;
/** Places of adjusted prices on the scale: products have many, which say nothing there. The legend and the table have all. */
const ADJUSTED_PLACES = 4;
const ADJUSTED = { splits: "splits", all: "splits and dividends" };
const PRICES = ["open", "high", "low", "close"];

const at = (id) => document.getElementById(id);

/** Say something to a screen reader. */
export function say(text) {
  at("status").textContent = text;
}

/** In place of the chart; nothing where the chart is to be seen. `ways` lead on from here: each a `name`, and what `go` does. */
export function showEmpty(text, ways = []) {
  at("empty-text").textContent = text;
  at("empty-ways").replaceChildren(
    ...ways.map(({ name, go }) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name;
      button.addEventListener("click", go);
      return button;
    }),
  );
  at("empty").hidden = !text;
}

/** `state` chooses the colour: live, late, past, away, none. */
export function showBadge(state, name, detail = "") {
  at("badge").dataset.state = state;
  at("badge-state").textContent = name;
  at("badge-detail").textContent = detail;
}

/** An instant by the clock of a time zone. */
export function moment(instant, zone) {
  return `${localDate(instant, zone)} ${localTime(instant, zone, { seconds: true })}`;
}

export class View {
  /** The chart, where there is a library for it. */
  chart = null;

  #chosen = { bucket: "5m", snapshot: null };
  #answer = null;
  #drawn = [];
  #places = 2;
  // Of those, what the chart's numbers can show.
  #drawnPlaces = 2;

  /** Show an answer to what was chosen; `fit` brings all of it into view. */
  show(chosen, answer, { fit }) {
    const { bars } = answer;
    this.#chosen = { ...chosen };
    this.#answer = answer;
    this.#places = Math.max(2, ...bars.map((bar) => Math.max(placesOf(bar.high), placesOf(bar.low))));
    this.#drawnPlaces = drawnPlaces(bars.flatMap((bar) => [bar.high, bar.low]), this.#places);
    if (answer.adjusted) this.#drawnPlaces = Math.min(this.#drawnPlaces, ADJUSTED_PLACES);
    const daily = chosen.bucket === "1d";
    this.#drawn = drawable(bars, daily);
    this.#headline();
    if (bars.length) showEmpty("");
    else this.nothing();
    at("vwap-since").textContent = daily ? "" : "of the day so far";
    this.chart?.show(this.#drawn, { daily, places: this.#drawnPlaces, fit });
    this.#table();
    this.point(this.chart?.pointed ?? -1, false);
  }

  /** Write the bar of that index, or the last one, into the legend. One that the keyboard went to is also read out. */
  point(index, byKeyboard) {
    const bar = this.#answer?.bars.at(index);
    const running = this.#drawn.at(index)?.vwap;
    at("legend").dataset.moved = !bar ? "" : Number(bar.close) < Number(bar.open) ? "down" : "up";
    this.#write("time", bar && this.#timeOf(bar));
    for (const name of [...PRICES, "volume"]) this.#write(name, bar && this.#text(bar, name));
    this.#write("running", running?.toFixed(this.#drawnPlaces + 1));
    if (byKeyboard && bar && index >= 0) {
      const prices = PRICES.map((name) => `${name} ${this.#text(bar, name)}`).join(", ");
      say(`${this.#timeOf(bar)}: ${prices}, volume ${this.#text(bar, "volume")}`);
    }
  }

  /** How fresh and how complete what is shown is. `confirmed`: when the service last said that it is current. */
  freshness(confirmed) {
    const answer = this.#answer;
    if (!answer || answer.isRefused) return;
    if (!answer.completeUntil) {
      showBadge("none", "No data");
      return;
    }
    const unconfirmed = Date.now() - confirmed;
    const reach = `· complete until ${moment(answer.completeUntil, answer.zone)}, ${ageText(answer, unconfirmed)}`;
    if (this.#chosen.snapshot !== null) showBadge("past", "Past", reach);
    else if (unconfirmed > LATE_MS) showBadge("late", "Late", `· not confirmed for ${ageOf(unconfirmed)}`);
    else if (answer.incomplete) showBadge("late", "Incomplete", `· ${answer.incomplete}`);
    else showBadge("live", "Live", reach);
  }

  #headline() {
    const { symbol, exchange, bucket, session } = this.#chosen;
    const [from, day] = this.#days();
    const days = from === day ? dayName(day) : `${dayName(from)} to ${dayName(day)}`;
    document.title = `${symbol} – K2`;
    at("title").textContent = `${symbol} · ${exchange}`;
    const when = session === "regular" ? "regular session" : "whole day";
    const { profile, adjusted, isRefused, zone } = this.#answer;
    const parts = [days, ` · bars of ${bucket}`];
    if (!isRefused) {
      parts.push(` · ${when} · ${profile ? `trades of profile ${profile.name}` : "all trades"}`);
      if (profile) parts.push(detail(` (${profileText(profile)})`));
      if (adjusted) parts.push(` · prices adjusted for ${ADJUSTED[adjusted.to]}`, detail(` (${eventsText(adjusted)})`));
      parts.push(` · time of ${zone}`);
    }
    at("subtitle").replaceChildren(...parts);
    const count = this.#answer.bars.length;
    at("chart").setAttribute("aria-label", `Candlestick chart of ${symbol}, ${days}, ${count} bars of ${bucket}`);
  }

  /** Say that there is nothing in these days, by whose clock, and where there is something. */
  nothing(around = [], go = null) {
    const { symbol, exchange, session } = this.#chosen;
    const { profile } = this.#answer;
    const [from, day] = this.#days();
    const days = from === day ? `on ${dayName(day)}` : `from ${dayName(from)} to ${dayName(day)}`;
    const of = profile ? ` of profile ${profile.name}` : "";
    const which = `${of}${session === "regular" ? " in the regular session" : ""}`;
    const clock = `dates of ${exchange}, by the clock of ${this.#answer.zone}`;
    const nearest = around.length ? " Nearest days with trades:" : "";
    const ways = around.map((each) => ({ name: dayName(each), go: () => go(each) }));
    showEmpty(`No trades of ${symbol} ${days}${which} (${clock}).${nearest}`, ways);
  }

  /** Say that the exchange does not trade on this day, and on which ones nearby it does. */
  closed(calendar, nearest, go) {
    const { exchange, day } = this.#chosen;
    const ways = nearest.map((each) => ({ name: calendar.nameOf(each), go: () => go(each) }));
    const lead = ways.length ? " Nearest trading days:" : "";
    showEmpty(`${exchange} is closed on ${dayName(day)} (by the clock of ${calendar.zone}).${lead}`, ways);
  }

  /** Say why what was chosen cannot be shown, with the choices that can: `choose` takes what is to be changed for one. */
  refused(error, choose) {
    const { symbol, adjusted } = this.#chosen;
    const way = (name, changed) => ({ name, go: () => choose(changed) });
    if (error.kind === "not-adjustable") {
      const lead = `Prices of ${symbol} cannot be adjusted for ${ADJUSTED[adjusted]}.`;
      const splits = adjusted === "all" ? [way("Adjust for splits alone", { adjusted: "splits" })] : [];
      showEmpty(`${lead} ${error.reason}`, [...splits, way("Show prices as traded", { adjusted: null })]);
    } else {
      showEmpty(error.reason, [way("Show all trades", { profile: "none" })]);
    }
    showBadge("none", "Not shown");
  }

  /** Who it is that is traded: a record of reference data, or null. */
  company(record, currency) {
    at("company").textContent = record ? companyText(record, currency) : "";
    at("company").hidden = !record;
  }

  /** What is special about the day, and where the buttons beside it lead; `calendar` is null where nothing is known. */
  day(calendar, day) {
    const note = calendar?.noteOf(day) ?? "";
    at("day-note").textContent = note;
    at("day-note").hidden = !note;
    for (const [id, step] of [["day-before", -1], ["day-after", 1]]) {
      const next = calendar?.near(day, step) ?? null;
      at(id).title = next === null ? "" : calendar.nameOf(next);
    }
  }

  #days() {
    const { bucket, day } = this.#chosen;
    return [firstDay(bucket, day), day];
  }

  #table() {
    at("caption").textContent = `${at("title").textContent}, ${at("subtitle").textContent}, oldest first`;
    const body = at("bars");
    const { bars } = this.#answer;
    while (body.rows.length > bars.length) body.deleteRow(-1);
    bars.forEach((bar, index) => {
      const texts = [this.#timeOf(bar), ...[...PRICES, "volume", "vwap"].map((name) => this.#text(bar, name))];
      const row = rowOf([...texts, bar.trade_count.toLocaleString("en")]);
      // A row that stays as it is keeps its place under a reader's cursor.
      if (index >= body.rows.length) body.append(row);
      else if (!row.isEqualNode(body.rows[index])) body.replaceChild(row, body.rows[index]);
    });
  }

  #timeOf(bar) {
    if (this.#chosen.bucket === "1d") return bar.date;
    const time = localTime(bar.start, this.#answer.zone);
    const [from, day] = this.#days();
    return from === day ? time : `${bar.date} ${time}`;
  }

  #text(bar, name) {
    return decimal(bar[name], name === "volume" ? 0 : this.#places);
  }

  #write(name, text) {
    at("legend").querySelector(`[data-of=${name}]`).textContent = text || "–";
  }
}

/** With the topics' tails an answer is as old as they are; without, as the snapshot's commit. */
function ageText({ isHybrid, staleSeconds, snapshotTime }, unconfirmed) {
  if (isHybrid && staleSeconds !== null) return `${ageOf(staleSeconds * 1000 + unconfirmed)} behind`;
  return snapshotTime ? `committed ${ageOf(Date.now() - Date.parse(snapshotTime))} ago` : "not committed yet";
}

function eventsText({ events }) {
  return events === 1 ? "1 event since" : `${events || "no"} events since`;
}

/** What a narrow screen has no room for. */
function detail(text) {
  const part = document.createElement("span");
  part.className = "detail";
  part.textContent = text;
  return part;
}

function rowOf(texts) {
  const row = document.createElement("tr");
  texts.forEach((text, index) => {
    const cell = document.createElement(index ? "td" : "th");
    if (!index) cell.scope = "row";
    cell.textContent = text;
    row.append(cell);
  });
  return row;
}
