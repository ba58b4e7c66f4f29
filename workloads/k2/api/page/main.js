// The page put together: what is chosen, what is asked for it, and what is shown of the answer.

import { ApiError, key } from "./api.js";
import { PriceChart, drawable } from "./chart.js";
import { ageOf, dayName, decimal, localDate, localTime, placesOf } from "./format.js";
import * as market from "./market.js";
import { SnapshotSlider } from "./snapshots.js";
import { SymbolPicker } from "./symbols.js";

const POLL_MS = 2000;
const RETRY_S = 5;
const LATE_MS = 15_000;

const at = (id) => document.getElementById(id);
const chosen = { symbol: null, exchange: null, bucket: "5m", day: null, snapshot: null };
// What is on the screen: the last answer, when it was last confirmed, and whether the newest day is followed.
const shown = { answer: null, confirmed: 0, following: true, places: 2 };

let chart = null;
let running = new AbortController();
let timer = 0;
let retrying = 0;

const picker = new SymbolPicker(at("symbol"), at("symbols"), (info) => pickSymbol(info).catch(report));
const slider = new SnapshotSlider({
  slider: at("snapshots"), output: at("snapshot"), live: at("live"),
  travel: (snapshot) => { chosen.snapshot = snapshot?.snapshot_id ?? null; load(); },
  describe: describeSnapshot,
});

// --- asking ------------------------------------------------------------------------------------------------------------

/** Begin anew: with a key, ask what there is; without one, ask for it. */
async function begin() {
  running.abort();
  running = new AbortController();
  clearTimeout(timer);
  if (!key.get()) {
    showEmpty("An API key is needed to see data.");
    badge("none", "No key", "");
    askForKey("");
    return;
  }
  try {
    const { signal } = running;
    const [symbols, snapshots] = await Promise.all([market.symbols(signal), market.snapshots(signal)]);
    picker.symbols = symbols;
    slider.snapshots = snapshots;
    slider.choose(chosen.snapshot);
    if (chosen.snapshot && !slider.chosen) chosen.snapshot = null;
    settle();
    const wanted = symbols.find((each) => each.symbol === chosen.symbol && isOn(each, chosen.exchange)) ?? busiest(symbols);
    if (!wanted) {
      showEmpty("No trades are stored yet. They appear here when the first ones are committed.");
      badge("none", "No data", "");
      again(POLL_MS, begin);
      return;
    }
    await pickSymbol(wanted, chosen.day);
  } catch (error) {
    report(error);
  }
}

function isOn(info, exchange) {
  return !exchange || info.exchange === exchange;
}

function busiest(symbols) {
  return symbols.reduce((best, each) => (best && best.rows >= each.rows ? best : each), null);
}

async function pickSymbol(info, day = null) {
  const { signal } = running;
  chosen.symbol = info.symbol;
  chosen.exchange = info.exchange;
  picker.chosen = info;
  shown.following = day === null;
  chosen.day = day ?? (await market.lastDay(info, signal)).day;
  await load();
}

/** Ask for what is chosen and show it, all of it in view. */
async function load() {
  if (!chosen.symbol || !chosen.day) return;
  running.abort();
  running = new AbortController();
  at("day").value = chosen.day;
  remember();
  at("chart").setAttribute("aria-busy", "true");
  try {
    const answer = await market.bars(chosen, { signal: running.signal });
    settle();
    show(answer, { fit: true });
    say(answer.bars.length ? `${at("title").textContent}: ${answer.bars.length} bars` : at("empty").textContent);
    again(POLL_MS, poll);
  } catch (error) {
    report(error);
  } finally {
    at("chart").removeAttribute("aria-busy");
  }
}

/** Ask whether anything is new; a snapshot of the past never changes. */
async function poll() {
  if (chosen.snapshot !== null || document.hidden) {
    again(POLL_MS, poll);
    return;
  }
  const { signal } = running;
  try {
    const answer = await market.bars(chosen, { signal, etag: shown.answer?.etag });
    settle();
    shown.confirmed = Date.now();
    if (answer) {
      const isNew = answer.snapshot !== shown.answer?.snapshot;
      show(answer, { fit: false });
      if (isNew) await refresh(signal);
    }
    showFreshness();
    again(POLL_MS, poll);
  } catch (error) {
    report(error);
  }
}

/** After a commit: the symbols and snapshots that it brought, and the new day, if it began one. */
async function refresh(signal) {
  const [symbols, snapshots] = await Promise.all([market.symbols(signal), market.snapshots(signal)]);
  picker.symbols = symbols;
  slider.snapshots = snapshots;
  const info = symbols.find((each) => each.symbol === chosen.symbol && each.exchange === chosen.exchange);
  if (!shown.following || !info) return;
  const newest = localDate(info.last_time, shown.answer.zone);
  if (newest > chosen.day) {
    chosen.day = newest;
    await load();
  }
}

function again(milliseconds, what) {
  clearTimeout(timer);
  timer = setTimeout(what, milliseconds);
}

// --- showing -------------------------------------------------------------------------------------------------------------

function show(answer, { fit }) {
  const { bars, zone } = answer;
  const daily = chosen.bucket === "1d";
  shown.answer = answer;
  shown.confirmed = Date.now();
  shown.places = Math.min(8, Math.max(2, ...bars.map((bar) => Math.max(placesOf(bar.high), placesOf(bar.low)))));
  at("title").textContent = `${chosen.symbol} · ${chosen.exchange}`;
  document.title = `${chosen.symbol} – K2`;
  const from = market.firstDay(chosen.bucket, chosen.day);
  const days = from === chosen.day ? dayName(chosen.day) : `${dayName(from)} to ${dayName(chosen.day)}`;
  at("subtitle").textContent = `${days} · bars of ${chosen.bucket} · time of ${zone}`;
  at("vwap-since").textContent = daily ? "" : "of the day so far";
  showEmpty(bars.length ? "" : answer.note || `No trades of ${chosen.symbol} in these days.`);
  shown.drawn = drawable(bars, daily);
  chart?.show(shown.drawn, { daily, places: shown.places, fit });
  at("chart").setAttribute("aria-label", `Candlestick chart of ${chosen.symbol}, ${days}, ${bars.length} bars`);
  showTable(bars, daily);
  showBar(-1, false);
  showFreshness();
}

function timeOf(bar) {
  const zone = shown.answer.zone;
  if (chosen.bucket === "1d") return bar.date;
  const time = localTime(bar.start, zone);
  return chosen.bucket === "1h" ? `${bar.date} ${time}` : time;
}

function showTable(bars) {
  at("caption").textContent = `${at("title").textContent}, ${at("subtitle").textContent}, oldest first`;
  const names = ["open", "high", "low", "close", "volume", "vwap", "trade_count"];
  const rows = bars.map((bar) => {
    const row = document.createElement("tr");
    const time = document.createElement("th");
    time.scope = "row";
    time.textContent = timeOf(bar);
    row.append(time);
    for (const name of names) {
      const cell = document.createElement("td");
      cell.textContent = name === "trade_count" ? bar[name].toLocaleString("en") : textOf(bar, name);
      row.append(cell);
    }
    return row;
  });
  at("bars").replaceChildren(...rows);
}

function textOf(bar, name) {
  return decimal(bar[name], name === "volume" ? 0 : shown.places);
}

/** The legend: the bar of that index, or the last one. A bar that the keyboard went to is also read out. */
function showBar(index, byKeyboard) {
  const bars = shown.answer?.bars ?? [];
  const bar = bars.at(index);
  const write = (name, text) => { at("legend").querySelector(`[data-of=${name}]`).textContent = text; };
  at("legend").dataset.moved = !bar ? "" : Number(bar.close) < Number(bar.open) ? "down" : "up";
  write("time", bar ? timeOf(bar) : "–");
  for (const name of ["open", "high", "low", "close", "volume"]) write(name, bar ? textOf(bar, name) : "–");
  const running = bar && shown.drawn.at(index).vwap;
  write("running", running ? running.toFixed(shown.places + 1) : "–");
  if (byKeyboard && bar && index >= 0) {
    const prices = ["open", "high", "low", "close"].map((name) => `${name} ${textOf(bar, name)}`).join(", ");
    say(`${timeOf(bar)}: ${prices}, volume ${textOf(bar, "volume")}`);
  }
}

function showEmpty(text) {
  at("empty").textContent = text;
}

function badge(state, name, detail) {
  at("badge").dataset.state = state;
  at("badge-state").textContent = name;
  at("badge-detail").textContent = detail;
}

function showFreshness() {
  const { answer, confirmed } = shown;
  if (!answer) return;
  if (!answer.completeUntil) {
    badge("none", "No data", "");
    return;
  }
  const until = moment(answer.completeUntil);
  const age = ageOf(Date.now() - Date.parse(answer.snapshotTime));
  if (chosen.snapshot !== null) {
    badge("past", "Past", `complete until ${until}, as committed ${age} ago`);
  } else if (Date.now() - confirmed > LATE_MS) {
    badge("late", "Late", `not confirmed for ${ageOf(Date.now() - confirmed)}`);
  } else {
    badge("live", "Live", `complete until ${until}, committed ${age} ago`);
  }
}

function moment(instant) {
  const zone = shown.answer?.zone ?? "UTC";
  return `${localDate(instant, zone)} ${localTime(instant, zone, { seconds: true })}`;
}

function describeSnapshot(snapshot, all) {
  if (snapshot === null) return `Live: newest of ${all.length} snapshots`;
  const place = all.indexOf(snapshot) + 1;
  const added = snapshot.rows_added.toLocaleString("en");
  return `${place} of ${all.length}: as of ${moment(snapshot.time)}, ${added} rows added`;
}

function say(text) {
  at("status").textContent = text;
}

// --- what goes wrong -------------------------------------------------------------------------------------------------------

function report(error) {
  if (error.name === "AbortError") return;
  clearTimeout(timer);
  if (!(error instanceof ApiError)) {
    problem("The page made a mistake", String(error.message));
    throw error;
  }
  const { status, message } = error;
  if (status === 401) {
    badge("away", "Key refused", "");
    problem("The key was refused", message);
    askForKey(message);
  } else if (status === 404) {
    settle();
    showEmpty(message);
  } else if (status === 410) {
    problem("That snapshot is gone", `${message} Live data is shown instead.`);
    chosen.snapshot = null;
    slider.goLive();
    again(RETRY_S * 1000, begin);
  } else if (status === 0 || status === 429 || status >= 500) {
    badge("away", status === 429 ? "Too many requests" : "Away", "");
    const title = { 0: "No answer", 429: "Too many requests", 503: "The service is not ready" }[status] ?? error.title;
    retryIn(error.retryAfter ?? RETRY_S, title, correlated(error));
  } else {
    problem(error.title, correlated(error));
  }
}

function correlated(error) {
  return error.correlationId && error.status >= 500 ? `${error.message} (correlation id ${error.correlationId})` : error.message;
}

function problem(title, detail) {
  at("problem-title").textContent = title;
  at("problem-detail").textContent = detail;
  at("problem").hidden = false;
}

/** Nothing is wrong any more. */
function settle() {
  clearInterval(retrying);
  at("problem").hidden = true;
}

function retryIn(seconds, title, detail) {
  clearInterval(retrying);
  // A screen reader hears the problem once; the seconds are for the eye.
  problem(title, detail);
  const button = at("retry");
  let left = seconds;
  const tick = () => { button.textContent = left > 0 ? `Try again (${left} s)` : "Trying …"; };
  tick();
  retrying = setInterval(() => {
    left -= 1;
    tick();
    if (left <= 0) {
      clearInterval(retrying);
      button.textContent = "Try again";
      retry();
    }
  }, 1000);
}

function retry() {
  if (shown.answer && chosen.day) load();
  else begin();
}

// --- choosing ----------------------------------------------------------------------------------------------------------------

function askForKey(reason) {
  const dialog = at("key-dialog");
  at("key-problem").textContent = reason;
  at("key-problem").hidden = !reason;
  at("key-value").value = "";
  dialog.returnValue = "cancel";
  if (!dialog.open) dialog.showModal();
}

function remember() {
  const { symbol, exchange, bucket, day, snapshot } = chosen;
  const query = new URLSearchParams({ symbol, exchange, bucket, ...(shown.following ? {} : { day }), ...(snapshot ? { snapshot } : {}) });
  history.replaceState(null, "", `?${query}`);
}

function recall() {
  const query = new URLSearchParams(location.search);
  for (const name of ["symbol", "exchange", "snapshot"]) chosen[name] = query.get(name);
  const bucket = at("buckets").querySelector(`[value="${CSS.escape(query.get("bucket") ?? "")}"]`);
  if (bucket) {
    chosen.bucket = bucket.value;
    bucket.checked = true;
  }
  if (/^\d{4}-\d\d-\d\d$/.test(query.get("day") ?? "")) chosen.day = query.get("day");
}

function chooseDay(day) {
  shown.following = false;
  chosen.day = day;
  load();
}

async function stepDay(step) {
  if (!chosen.symbol || !chosen.day) return;
  try {
    chooseDay(await market.nearDay(chosen, step, running.signal));
  } catch (error) {
    report(error);
  }
}

function isDark() {
  const told = document.documentElement.dataset.theme;
  return told ? told === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function showTheme() {
  at("theme-name").textContent = isDark() ? "Light" : "Dark";
  chart?.recolour();
}

function listen() {
  at("buckets").addEventListener("change", (event) => { chosen.bucket = event.target.value; load(); });
  at("day").addEventListener("change", (event) => event.target.value && chooseDay(event.target.value));
  at("day-before").addEventListener("click", () => stepDay(-1));
  at("day-after").addEventListener("click", () => stepDay(1));
  at("retry").addEventListener("click", () => { clearInterval(retrying); retry(); });
  at("key").addEventListener("click", () => askForKey(""));
  at("key-dialog").addEventListener("close", ({ target }) => {
    if (target.returnValue === "cancel") return;
    if (target.returnValue === "use") key.set(at("key-value").value.trim());
    else key.forget();
    at("key-value").value = "";
    settle();
    begin();
  });
  at("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    localStorage.setItem("k2-theme", document.documentElement.dataset.theme);
    showTheme();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showTheme);
  document.addEventListener("visibilitychange", () => !document.hidden && shown.answer && poll());
  setInterval(showFreshness, 5000);
}

async function loadChart() {
  const address = document.body.dataset.charts;
  if (!address) {
    showEmpty("This build has no chart library; the table below shows the bars.");
    at("listing").open = true;
    return;
  }
  const library = await import(new URL(address, document.baseURI));
  chart = new PriceChart(at("chart"), library, showBar);
  at("chart").chart = chart;
}

recall();
listen();
showTheme();
await loadChart();
await begin();
