// The questions that the page asks, and their answers as the page uses them.

import { ask } from "./api.js";
import { dayPlus, localDate, wallClock } from "./format.js";

/** Calendar days that are shown at once, ending with the chosen one. */
const DAYS = { "1m": 1, "5m": 1, "15m": 1, "30m": 3, "1h": 7, "4h": 31, "1d": 366 };
const MOST_SNAPSHOTS = 500;

/** Symbols with trades: `{symbol, exchange, rows, first_time, last_time}`. */
export async function symbols(signal) {
  return (await ask("symbols", { table: "trades" }, { signal })).body.data;
}

/** When each snapshot was committed, by its id. */
const times = new Map();
/** Where trades lie in several tables a snapshot is of one of them: all of them answer at its time. */
let isOfOneTable = true;

/** Retained snapshots of the trades, oldest first. */
export async function snapshots(signal) {
  const { body } = await ask("snapshots", { table: "trades", limit: MOST_SNAPSHOTS }, { signal });
  times.clear();
  for (const { snapshot_id, time } of body.data) times.set(snapshot_id, time);
  isOfOneTable = body.tables.length === 1;
  return body.data.reverse();
}

function at(snapshot) {
  return isOfOneTable || !times.has(snapshot) ? { snapshot } : { as_of: times.get(snapshot) };
}

/** When a snapshot of the trades was committed: as of then other tables answer; null for now. */
export function timeOf(snapshot) {
  return times.get(snapshot) ?? null;
}

/** Whether every offset of the newest snapshots is in the tables once, in a few words. */
export async function audit(signal) {
  const { body } = await ask("audit", { table: "trades" }, { signal });
  const { ok, tables } = body;
  const number = (value) => value.toLocaleString("en");
  const total = (all, name) => all.reduce((so, each) => so + each[name], 0);
  const [rows, missing, lost] = ["rows", "missing", "lost"].map((name) => total(tables, name));
  const partitions = tables.flatMap((table) => table.partitions);
  const findings = tables.flatMap((table) => table.files.findings);
  const sum = (name) => total(partitions, name);
  const counts = `${number(missing)} offsets missing, ${number(sum("doubled"))} doubled`;
  const given = lost ? `, ${number(lost)} lost by decision` : "";
  if (!ok) return `Not whole: ${counts}, ${number(findings.length)} files not as they were${given}`;
  const accepted = missing || sum("doubled") ? ` (accepted: ${counts})` : "";
  if (!partitions.length) return `No offsets recorded: ${number(rows)} rows`;
  return `${accepted ? "As accepted" : "Every offset once"}: ${number(rows)} rows${accepted}${given}`;
}

/** First of the days that bars of this length are shown for. */
export function firstDay(bucket, day) {
  return dayPlus(day, 1 - DAYS[bucket]);
}

/**
 * Bars of a symbol up to a day: `{bars, zone, ...}`, or null where the answer that `etag` stands for is still right.
 * Each bar has the service's strings, and `date` and `wall` of the exchange's clock.
 */
export async function bars(chosen, { signal, etag } = {}) {
  const answer = await ask("bars", questionOf(chosen), { signal, etag });
  return answer.body && { ...shaped(answer.body, chosen.exchange), etag: answer.etag };
}

/** The parameters of the question that what is chosen stands for. */
export function questionOf({ symbol, exchange, bucket, day, session, profile, adjusted, snapshot }) {
  const period = { interval: bucket, date: firstDay(bucket, day), last_date: day };
  return { symbol, exchange, ...period, session, profile, adjusted, ...at(snapshot) };
}

/** The last date of the exchange's calendar on which the symbol traded. */
export async function lastDay({ symbol, exchange, last_time }, signal) {
  // The day's bar starts less than 26 hours before any of its trades.
  const start = new Date(Date.parse(last_time) - 26 * 3600_000).toISOString();
  const { body } = await ask("bars", { symbol, exchange, interval: "1d", start }, { signal });
  const found = shaped(body, exchange);
  return found.bars.at(-1)?.date ?? localDate(last_time, found.zone);
}

/** The nearest day before (`step` -1) or after (1) with trades of the symbol, so many days away at most; else null. */
export async function nearDay({ symbol, exchange, day, session, profile, snapshot }, step, signal, most = 14) {
  const [date, last_date] = step < 0 ? [dayPlus(day, -most), dayPlus(day, -1)] : [dayPlus(day, 1), dayPlus(day, most)];
  const parameters = { symbol, exchange, interval: "1d", date, last_date, session, profile, ...at(snapshot) };
  const { body } = await ask("bars", parameters, { signal });
  const found = shaped(body, exchange).bars;
  return (step < 0 ? found.at(-1) : found[0])?.date ?? null;
}

/** The nearest days with trades before and after a day without: those that there are; and the time zone, which they tell. */
export async function daysAround(chosen, signal) {
  const days = [];
  for (const step of [-1, 1]) {
    days.push((await nearDay(chosen, step, signal)) ?? (await nearDay(chosen, step, signal, 366)));
  }
  return { days: days.filter((day) => day !== null), zone: zones.get(chosen.exchange) ?? "UTC" };
}

/** Time zones of exchanges, of all answers so far: one without rows names none. */
const zones = new Map();

function shaped(body, exchange) {
  Object.entries(body.time_zones ?? {}).forEach(([name, zone]) => zones.set(name, zone));
  const zone = zones.get(exchange) ?? "UTC";
  let bars = body.data.map((bar) => ({ ...bar, wall: wallClock(bar.start, zone) }));
  // Where clocks go back an hour comes twice, which the chart cannot draw: such a stretch is shown in UTC.
  if (bars.some((bar, index) => index > 0 && bar.wall <= bars[index - 1].wall)) {
    bars = bars.map((bar) => ({ ...bar, wall: Date.parse(bar.start) / 1000 }));
  }
  return {
    bars,
    zone,
    profile: body.profile?.[exchange] ?? null,
    adjusted: body.adjusted ?? null,
    snapshot: body.sources.map((source) => source.snapshot_id ?? "").join(),
    snapshotTime: body.snapshot_time ?? body.sources.map((source) => source.snapshot_time ?? "").sort().at(-1),
    completeUntil: body.complete_until,
    isHybrid: body.hybrid ?? false,
    staleSeconds: body.stale_seconds ?? null,
    incomplete: body.incomplete ?? "",
    more: body.more,
  };
}
