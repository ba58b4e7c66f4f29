// The page put together: what is chosen, what is asked for it, and when it is asked again.

import { DEFAULT_BUCKET, addressOf, chosenBy } from "./address.js";
import { ApiError, key } from "./api.js";
import { calendarAround } from "./calendar.js";
import { PriceChart } from "./chart.js";
import { Choices } from "./choices.js";
import { companyOf, knowsCompanies } from "./company.js";
import { Exports } from "./exports.js";
import { dayPlus, localDate } from "./format.js";
import * as market from "./market.js";
import { SnapshotSlider } from "./snapshots.js";
import { SymbolPicker } from "./symbols.js";
import { Trouble } from "./trouble.js";
import { View, moment, say, showBadge, showEmpty } from "./view.js";

const POLL_MS = 2000;
// Adjusted answers have no ETag: each is computed anew.
const POLL_ADJUSTED_MS = 10_000;

const at = (id) => document.getElementById(id);
// `snapshot` null is live; `following`: the newest day is shown, also when a newer one begins.
const chosen = {
  symbol: null, exchange: null, bucket: DEFAULT_BUCKET, day: null, following: true,
  session: "all", profile: null, adjusted: null, snapshot: null,
};
let answer = null;
// When the exchange of what is chosen trades; null where that is not known (yet).
let calendar = null;
let isToldAll = false;
let confirmed = 0;
let isListed = false;
let running = new AbortController();
let timer = 0;

const view = new View();
const choices = new Choices((changed) => { Object.assign(chosen, changed); load({ byHand: true }); });
const picker = new SymbolPicker(at("symbol"), at("symbols"), (info) => pickSymbol(info, null, { byHand: true }).catch(report));
const slider = new SnapshotSlider({
  slider: at("snapshots"),
  output: at("snapshot"),
  live: at("live"),
  travel: (snapshot) => { chosen.snapshot = snapshot?.snapshot_id ?? null; load({ byHand: true }); },
  describe: describeSnapshot,
});
const trouble = new Trouble({
  retry: () => (isListed && chosen.day ? load() : begin()),
  askForKey,
  goLive: () => { chosen.snapshot = null; slider.goLive(); again(5000, begin); },
});

// --- asking ---

/** Begin anew: without a key, ask for it; with one, ask what there is and show what is chosen of it. */
async function begin() {
  supersede();
  if (!key.get()) {
    showEmpty("An API key is needed to see data.");
    showBadge("none", "No key");
    askForKey("");
    return;
  }
  try {
    const symbols = await catalogue();
    trouble.settle();
    slider.choose(chosen.snapshot);
    if (!slider.chosen) chosen.snapshot = null;
    const wanted = symbols.find(isChosen) ?? symbols.reduce(busier, null);
    if (wanted) {
      await pickSymbol(wanted, chosen.following || !isChosen(wanted) ? null : chosen.day);
    } else {
      showEmpty("No trades are stored yet. They appear here when the first ones are committed.");
      showBadge("none", "No data");
      again(POLL_MS, begin);
    }
  } catch (error) {
    report(error);
  }
}

/** What there is to choose from, as it is now. */
async function catalogue() {
  const { signal } = running;
  // One after the other: a key may be good for one request at a time.
  const symbols = await market.symbols(signal);
  picker.symbols = symbols;
  slider.snapshots = await market.snapshots(signal);
  isListed = true;
  return symbols;
}

function isChosen({ symbol, exchange }) {
  return symbol === chosen.symbol && (!chosen.exchange || exchange === chosen.exchange);
}

function busier(best, each) {
  return best && best.rows >= each.rows ? best : each;
}

/** Show a symbol; without a day, its newest. */
async function pickSymbol(info, day = null, how = {}) {
  supersede();
  if (info.exchange !== chosen.exchange && how.byHand) chosen.profile = null; // another exchange has others
  if (!isChosen(info)) view.company(null);
  chosen.symbol = info.symbol;
  chosen.exchange = info.exchange;
  chosen.following = day === null;
  picker.chosen = info;
  chosen.day = day ?? (await market.lastDay(info, running.signal));
  await load(how);
}

/** Ask for what is chosen, and show all of it. `byHand`: a person chose, and may go back to what was before. */
async function load({ byHand = false } = {}) {
  if (!chosen.symbol || !chosen.day) return;
  supersede();
  at("day").value = chosen.day;
  remember(byHand);
  view.day(null, chosen.day);
  choices.show(chosen, calendar);
  at("chart").setAttribute("aria-busy", "true");
  try {
    await show();
    await tellTheRest();
    if (!answer.isRefused) again(chosen.adjusted ? POLL_ADJUSTED_MS : POLL_MS, poll);
  } catch (error) {
    report(error);
  } finally {
    at("chart").removeAttribute("aria-busy");
  }
}

/** The bars, or why there are none of what is chosen. */
async function show() {
  try {
    take(await market.bars(chosen, { signal: running.signal }), { fit: true });
  } catch (error) {
    if (!isRefusal(error)) throw error;
    refuse(error);
  }
  trouble.settle();
  say(answer.bars.length ? `${at("title").textContent}: ${answer.bars.length} bars` : at("empty-text").textContent);
}

/** Whether it is about a choice that stands beside a better one on the page. */
function isRefusal({ kind }) {
  return kind === "not-adjustable" || kind === "unknown-profile";
}

/** Say why what is chosen cannot be shown; nothing else stays in its place. */
function refuse(error) {
  answer = { bars: [], zone: calendar?.zone ?? "UTC", isRefused: true };
  view.show(chosen, answer, { fit: true });
  view.refused(error, (changed) => { Object.assign(chosen, changed); load({ byHand: true }); });
}

/** What there is to know beside the bars. Asked after them: they do not wait for it, and are shown without it where it cannot be had. */
async function tellTheRest() {
  const about = { ...chosen };
  calendar = await unless(calendarAround(about, about.day, running.signal));
  isToldAll = calendar !== undefined;
  view.day(calendar ?? null, about.day);
  choices.show(chosen, calendar);
  if (!answer.bars.length && !answer.isRefused) await tellOfDaysAround();
  if (isToldAll) await tellOfCompany(about);
}

async function tellOfCompany(about) {
  const { signal } = running;
  const isKnown = await unless(knowsCompanies(signal));
  const company = isKnown ? await unless(companyOf(about, signal)) : isKnown;
  isToldAll = company !== undefined;
  choices.canAdjust = Boolean(isKnown);
  choices.show(chosen, calendar);
  view.company(company || null, calendar?.currency);
}

/** What was asked for: null where it was refused, undefined where it may come another time. */
async function unless(asked) {
  try {
    return await asked;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return error.passes ? undefined : null;
  }
}

/** Of an empty day: where there is something to be seen. */
async function tellOfDaysAround() {
  const isClosed = calendar?.status(chosen.day) === "closed" && market.firstDay(chosen.bucket, chosen.day) === chosen.day;
  const { days, zone } = isClosed
    ? { days: [-1, 1].map((step) => calendar.near(chosen.day, step)).filter(Boolean), zone: calendar.zone }
    : await market.daysAround(chosen, running.signal);
  if (answer.bars.length) return; // a commit may have come between
  answer = { ...answer, zone };
  view.show(chosen, answer, { fit: false });
  if (isClosed) view.closed(calendar, days, chooseDay);
  else view.nothing(days, chooseDay);
  view.freshness(confirmed);
}

/** Ask whether anything is new. A snapshot of the past never changes, and nobody looks at a hidden tab. */
async function poll() {
  if (chosen.snapshot !== null || document.hidden) {
    again(POLL_MS, poll);
    return;
  }
  try {
    const newer = await market.bars(chosen, { signal: running.signal, etag: answer.etag });
    const isNewSnapshot = newer && newer.snapshot !== answer.snapshot;
    take(newer, { fit: false });
    trouble.settle();
    if (!isToldAll) await tellTheRest();
    else if (newer && !answer.bars.length) await tellOfDaysAround();
    again(chosen.adjusted ? POLL_ADJUSTED_MS : POLL_MS, poll);
    if (isNewSnapshot) await followCommit();
  } catch (error) {
    report(error);
  }
}

/** After a commit: the symbols and snapshots that it brought, and the new day, if it began one. */
async function followCommit() {
  const info = (await catalogue()).find(isChosen);
  const newest = info && (calendar?.dateOf(info.last_time) ?? localDate(info.last_time, answer.zone));
  if (chosen.following && newest > chosen.day) {
    chosen.day = newest;
    await load();
  }
}

function take(newer, { fit }) {
  confirmed = Date.now();
  if (newer) {
    answer = newer;
    view.show(chosen, answer, { fit });
  }
  view.freshness(confirmed);
}

/** What was asked before is of no interest any more. */
function supersede() {
  running.abort();
  running = new AbortController();
  clearTimeout(timer);
}

function again(milliseconds, what) {
  clearTimeout(timer);
  timer = setTimeout(what, milliseconds);
}

function report(error) {
  if (error.name === "AbortError") return;
  clearTimeout(timer);
  if (isRefusal(error)) refuse(error);
  else trouble.report(error);
}

// --- choosing ---

function describeSnapshot(snapshot, all) {
  if (snapshot === null) return `Live: newest of ${all.length} snapshots`;
  const time = moment(snapshot.time, answer?.zone ?? "UTC");
  // A key that may see some rows only is not told how many there are.
  const added = snapshot.rows_added === null ? "" : `, ${snapshot.rows_added.toLocaleString("en")} rows added`;
  return `${all.indexOf(snapshot) + 1} of ${all.length}: as of ${time}${added}`;
}

function askForKey(reason) {
  const dialog = at("key-dialog");
  at("key-problem").textContent = reason;
  at("key-problem").hidden = !reason;
  at("key-value").value = "";
  dialog.returnValue = "cancel";
  if (!dialog.open) dialog.showModal();
}

function takeKey({ target: dialog }) {
  if (dialog.returnValue === "cancel") return;
  if (dialog.returnValue === "forget") {
    key.forget();
    location.reload(); // what the key let see is not left on the screen
    return;
  }
  key.set(at("key-value").value.trim());
  at("key-value").value = "";
  trouble.settle();
  begin();
}

async function audit() {
  at("audited").textContent = "…";
  try {
    at("audited").textContent = await market.audit(running.signal);
  } catch (error) {
    // Not for everyone: a key that may see some rows only cannot ask for it.
    at("audited").textContent = error.name === "AbortError" ? "" : error.message;
  }
}

function chooseDay(day) {
  chosen.following = false;
  chosen.day = day;
  load({ byHand: true });
}

async function stepDay(step) {
  if (!chosen.symbol || !chosen.day) return;
  try {
    const known = await unless(calendarAround(chosen, chosen.day, running.signal));
    const next = known?.near(chosen.day, step) ?? (await market.nearDay(chosen, step, running.signal));
    chooseDay(next ?? dayPlus(chosen.day, step));
  } catch (error) {
    report(error);
  }
}

/** Keep the choice in the address; `anew`: as a step of its own, to go back from. */
function remember(anew) {
  const address = addressOf(chosen);
  if (location.search === address) return;
  if (anew) history.pushState(null, "", address);
  else history.replaceState(null, "", address);
}

/** Back and forward: what the address says now. */
function goBack() {
  recall();
  if (!key.get()) return;
  begin();
}

function recall() {
  Object.assign(chosen, chosenBy(location.search, choices.buckets));
  choices.show(chosen, calendar);
}

// --- theme, chart, events ---

const prefersDark = matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  const told = document.documentElement.dataset.theme;
  return told ? told === "dark" : prefersDark.matches;
}

function showTheme() {
  at("theme-name").textContent = isDark() ? "Light" : "Dark";
  view.chart?.recolour();
}

function switchTheme() {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  localStorage.setItem("k2-theme", document.documentElement.dataset.theme);
  showTheme();
}

async function loadChart() {
  const address = document.body.dataset.charts;
  try {
    if (!address) throw new Error("This build has no chart library.");
    const library = await import(new URL(address, document.baseURI));
    view.chart = new PriceChart(at("chart"), library, (index, byKeyboard) => view.point(index, byKeyboard));
    at("chart").chart = view.chart;
  } catch (error) {
    at("no-chart").textContent = `${error.message} The table below shows the bars.`;
    at("no-chart").hidden = false;
    at("listing").open = true;
  }
}

function listen() {
  at("day").addEventListener("change", ({ target }) => target.value && chooseDay(target.value));
  at("day-before").addEventListener("click", () => stepDay(-1));
  at("day-after").addEventListener("click", () => stepDay(1));
  at("audit").addEventListener("click", audit);
  at("key").addEventListener("click", () => askForKey(""));
  at("key-dialog").addEventListener("close", takeKey);
  at("theme").addEventListener("click", switchTheme);
  prefersDark.addEventListener("change", showTheme);
  window.addEventListener("popstate", goBack);
  document.addEventListener("visibilitychange", () => !document.hidden && answer && !answer.isRefused && again(0, poll));
  setInterval(() => trouble.isOpen || view.freshness(confirmed), 5000);
}

new Exports(() => ({
  chosen, answer, chart: view.chart, title: `${at("title").textContent} · ${at("subtitle").textContent}`,
}));
recall();
listen();
showTheme();
await loadChart();
await begin();
