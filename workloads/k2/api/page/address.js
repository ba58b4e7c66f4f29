// What is chosen, in the page's address: it can be kept and passed on. The key is never in it.

export const DEFAULT_BUCKET = "5m";

const DAY = /^\d{4}-\d\d-\d\d$/;
const ADJUSTED = ["splits", "all"];

/** The query of the address that stands for what is chosen. */
export function addressOf({ symbol, exchange, bucket, session, day, snapshot, profile, adjusted, following }) {
  const query = new URLSearchParams({ symbol, exchange, bucket, session });
  const others = { profile, adjusted, day: following ? null : day, snapshot };
  for (const [name, value] of Object.entries(others)) {
    if (value) query.set(name, value);
  }
  return `?${query}`;
}

/** What an address chooses of bars of these lengths; all that it leaves open is as it is at the beginning. */
export function chosenBy(search, buckets) {
  const query = new URLSearchParams(search);
  const [bucket, day, adjusted] = ["bucket", "day", "adjusted"].map((name) => query.get(name));
  const isDay = DAY.test(day ?? "");
  return {
    symbol: query.get("symbol"),
    exchange: query.get("exchange"),
    snapshot: query.get("snapshot"),
    bucket: buckets.includes(bucket) ? bucket : DEFAULT_BUCKET,
    session: query.get("session") === "regular" ? "regular" : "all",
    profile: query.get("profile"),
    adjusted: ADJUSTED.includes(adjusted) ? adjusted : null,
    day: isDay ? day : null,
    following: !isDay,
  };
}
