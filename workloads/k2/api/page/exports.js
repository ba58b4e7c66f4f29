// What is shown, to take along: as CSV, as a picture, as the question that curl or Python asks. The key is in none of them.

import { questionOf } from "./market.js";

const COLUMNS = [
  "symbol", "exchange", "date", "start", "end", "open", "high", "low", "close", "volume", "vwap", "twap", "trade_count",
];
const at = (id) => document.getElementById(id);

/** The bars as CSV (RFC 4180), each number as the service wrote it. */
export function csvOf(bars) {
  const cell = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [COLUMNS, ...bars.map((bar) => COLUMNS.map((name) => bar[name]))].map((row) => row.map(cell).join(",") + "\n").join("");
}

/** A shell's command that asks for what is chosen. */
export function curlOf(chosen) {
  const url = new URL("v1/bars", document.baseURI);
  for (const [name, value] of told(chosen)) url.searchParams.set(name, value);
  return `curl -H "X-API-Key: $K2_API_KEY" '${url.href.replaceAll("'", "%27")}'`;
}

/** Python that asks for what is chosen; the key comes from K2_API_KEY. */
export function pythonOf(chosen) {
  const { symbol, ...others } = Object.fromEntries(told(chosen));
  const words = Object.entries(others).map(([name, value]) => `${name}=${JSON.stringify(value)}`);
  const service = JSON.stringify(new URL(".", document.baseURI).href.replace(/\/$/, ""));
  return `import k2

db = k2.connect(${service})  # its key: K2_API_KEY
bars = db.bars(${[JSON.stringify(symbol), ...words].join(", ")}).df()
`;
}

function told(chosen) {
  return Object.entries(questionOf(chosen)).filter(([, value]) => value !== null && value !== undefined);
}

export class Exports {
  #shown;

  /** `shown` gives `{chosen, answer, chart, title}` of what is to be seen; `answer` is null before the first. */
  constructor(shown) {
    this.#shown = shown;
    at("export-csv").addEventListener("click", () => this.#csv());
    at("export-png").addEventListener("click", () => this.#png());
    at("export-curl").addEventListener("click", () => this.#code("curl", curlOf));
    at("export-python").addEventListener("click", () => this.#code("Python", pythonOf));
    at("copy").addEventListener("click", () => copy());
  }

  #csv() {
    const { answer, chosen } = this.#shown();
    if (answer) save(new Blob([csvOf(answer.bars)], { type: "text/csv" }), `${nameOf(chosen)}.csv`);
  }

  #png() {
    const { answer, chosen, chart, title } = this.#shown();
    if (!answer || !chart) return;
    const drawn = chart.picture();
    const scale = window.devicePixelRatio || 1;
    const style = getComputedStyle(document.querySelector("main"));
    const picture = document.createElement("canvas");
    const room = 34 * scale;
    [picture.width, picture.height] = [drawn.width, drawn.height + room];
    const pen = picture.getContext("2d");
    pen.fillStyle = style.backgroundColor;
    pen.fillRect(0, 0, picture.width, picture.height);
    pen.fillStyle = style.color;
    pen.font = `${14 * scale}px ${style.fontFamily}`;
    pen.fillText(title, 10 * scale, 22 * scale, picture.width - 20 * scale);
    pen.drawImage(drawn, 0, room);
    picture.toBlob((blob) => save(blob, `${nameOf(chosen)}.png`), "image/png");
  }

  #code(name, of) {
    const { answer, chosen } = this.#shown();
    if (!answer) return;
    at("code-title").textContent = `Ask for this with ${name}`;
    at("code").value = of(chosen);
    at("copied").textContent = "";
    at("code-dialog").showModal();
  }
}

async function copy() {
  at("code").select();
  try {
    await navigator.clipboard.writeText(at("code").value);
    at("copied").textContent = "Copied.";
  } catch {
    // Where the page came by plain HTTP from elsewhere, browsers give it no clipboard.
    at("copied").textContent = "It is selected: copy it with the keyboard.";
  }
}

function nameOf({ symbol, exchange, bucket, day, profile, adjusted }) {
  return [symbol, exchange, bucket, day, profile, adjusted && `adjusted-${adjusted}`].filter(Boolean).join("-").replace(/[^\w.-]+/g, "_");
}

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
