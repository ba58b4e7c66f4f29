// Requests to /v1. The key lives in this tab's sessionStorage and leaves it only in the header of these requests.

const KEY = "k2-api-key";
const TIMEOUT_MS = 60_000;

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

/**
 * What went wrong with a request. `status` is 0 where there was no answer; `retryAfter` is in seconds or null; `kind` is the last
 * part of the problem's type, and `remedy` the end of its message.
 */
export class ApiError extends Error {
  constructor(status, title, detail, { retryAfter = null, correlationId = "", kind = "", remedy = "" } = {}) {
    super(detail);
    this.name = "ApiError";
    this.status = status;
    this.title = title;
    this.retryAfter = retryAfter;
    this.correlationId = correlationId;
    this.kind = kind;
    this.remedy = remedy;
  }

  /** What was found, and what was expected: the message without the remedy, which is of who writes a question by hand. */
  get reason() {
    const at = this.remedy ? this.message.lastIndexOf(this.remedy.replace(/\.$/, "")) : -1;
    return at > 0 ? this.message.slice(0, at).trim() : this.message;
  }

  /** Whether the same may be answered another time. */
  get passes() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

/**
 * The answer to a question: `body`, and the `etag` by which the same question can be asked again cheaply.
 * `body` is null where `etag` was given and the answer is still the same.
 */
export async function ask(path, parameters = {}, { signal, etag = "" } = {}) {
  const url = new URL(`v1/${path}`, document.baseURI);
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, value);
  }
  const headers = { Accept: "application/json", "X-API-Key": key.get() };
  if (etag) headers["If-None-Match"] = etag;
  let reply;
  try {
    // What a key may see must not stay in the browser's cache when the tab is gone.
    const patience = AbortSignal.timeout(TIMEOUT_MS);
    const either = signal ? AbortSignal.any([signal, patience]) : patience;
    reply = await fetch(url, { headers, signal: either, cache: "no-store", credentials: "omit" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "No answer", "The service cannot be reached.");
  }
  if (reply.status === 304) return { body: null, etag };
  if (!reply.ok) throw await problemOf(reply);
  return { body: await reply.json(), etag: reply.headers.get("ETag") ?? "" };
}

async function problemOf(reply) {
  let body = {};
  try {
    body = await reply.json();
  } catch {
    // A proxy in between answers in its own way.
  }
  const detail = body.detail ?? `The service answered ${reply.status}.`;
  return new ApiError(reply.status, body.title ?? reply.statusText, detail, {
    retryAfter: secondsOf(reply.headers.get("Retry-After")),
    correlationId: body.correlation_id ?? reply.headers.get("X-Correlation-ID") ?? "",
    kind: body.type?.split(":").at(-1) ?? "",
    remedy: body.remedy ?? "",
  });
}

function secondsOf(text) {
  if (text === null) return null;
  const seconds = /^\d+$/.test(text) ? Number(text) : (Date.parse(text) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(1, Math.ceil(seconds)) : null;
}
