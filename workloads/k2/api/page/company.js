// The company behind a symbol, from reference data, where there is any.

import { ask } from "./api.js";
import { timeOf } from "./market.js";

let isKnown = null;

/** Whether there is reference data that this key may see, found out once: of a table that is not there nothing can be asked. */
export async function knowsCompanies(signal) {
  if (isKnown === null) {
    const { tables } = (await ask("stats", {}, { signal })).body;
    isKnown = tables.some(({ data_type, rows }) => data_type === "reference_data" && rows > 0);
  }
  return isKnown;
}

/** The record of the company that a symbol was of on a date, as known at the snapshot that is looked at; null without one. */
export async function companyOf({ symbol, exchange, day, snapshot }, signal) {
  const asked = { symbol, exchange, kind: "company", date: day, as_of: timeOf(snapshot) };
  const { body } = await ask("reference", asked, { signal });
  return body.data.findLast((each) => each.symbol === symbol) ?? null;
}

/** The record in a line; `currency` is what the exchange's prices are in. */
export function companyText({ company_name: name, listing_date: since, delisting_date: until, isin, sector, ...more }, currency) {
  const listed = since && `listed ${until ? `${since} to ${until}` : `since ${since}`}`;
  const paid = more.currency ?? currency;
  return [name, listed, paid && `in ${paid}`, isin && `ISIN ${isin}`, sector].filter(Boolean).join(" · ");
}
