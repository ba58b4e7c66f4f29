// Times and numbers as text. Prices stay the strings that the service sent: JavaScript's numbers would lose digits.

/** A decimal string without needless zeros, with at least `places` of them kept; thousands in groups. */
export function decimal(text, places = 0) {
  if (text === null || text === undefined) return "–";
  const [whole, fraction = ""] = text.split(".");
  const kept = fraction.replace(/0+$/, "").padEnd(places, "0");
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  return kept ? `${grouped}.${kept}` : grouped;
}

/** How many decimal places a decimal string needs. */
export function placesOf(text) {
  return (text?.split(".")[1] ?? "").replace(/0+$/, "").length;
}

/** How many of so many places a floating-point number has right that is as large as the largest of these decimal strings. */
export function drawnPlaces(texts, places) {
  const most = Math.max(...texts.map((text) => Math.abs(Number(text ?? 0))));
  return most > 0 ? Math.max(0, Math.min(places, 15 - Math.ceil(Math.log10(most)))) : places;
}

const formats = new Map();

function formatOf(zone) {
  if (!formats.has(zone)) {
    formats.set(
      zone,
      new Intl.DateTimeFormat("en-CA", {
        timeZone: zone, hourCycle: "h23",
        year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
      }),
    );
  }
  return formats.get(zone);
}

function partsOf(instant, zone) {
  return Object.fromEntries(formatOf(zone).formatToParts(new Date(instant)).map(({ type, value }) => [type, value]));
}

/** `2014-03-10` of an instant (ISO 8601 or milliseconds) in a time zone. */
export function localDate(instant, zone) {
  const { year, month, day } = partsOf(instant, zone);
  return `${year}-${month}-${day}`;
}

/** `10:30` or `10:30:05` of an instant in a time zone. */
export function localTime(instant, zone, { seconds = false } = {}) {
  const { hour, minute, second } = partsOf(instant, zone);
  return seconds ? `${hour}:${minute}:${second}` : `${hour}:${minute}`;
}

/** What a clock in the zone shows, as if it were UTC, in seconds since 1970: the chart knows no time zones. */
export function wallClock(instant, zone) {
  const { year, month, day, hour, minute, second } = partsOf(instant, zone);
  return Date.UTC(year, month - 1, day, hour, minute, second) / 1000;
}

const longDay = new Intl.DateTimeFormat("en-GB", {
  timeZone: "UTC", weekday: "long", day: "numeric", month: "long", year: "numeric",
});

/** `Monday, 10 March 2014` of a calendar date. */
export function dayName(date) {
  return longDay.format(new Date(`${date}T00:00:00Z`));
}

/** The calendar date `days` after a date. */
export function dayPlus(date, days) {
  const at = new Date(`${date}T00:00:00Z`);
  at.setUTCDate(at.getUTCDate() + days);
  return at.toISOString().slice(0, 10);
}

/** `5 s`, `3 min`, `2 h`, `4 days`. */
export function ageOf(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 100) return `${seconds} s`;
  if (seconds < 100 * 60) return `${Math.round(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}
