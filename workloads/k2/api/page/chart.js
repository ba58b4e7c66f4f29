// Candles, volume and VWAP, drawn by the library. It draws numbers; what is written beside it are the exact strings.

/** Of larger numbers the library does not find the round ones, and looks for them without end: they are not drawn. */
const MOST = 9e13;

/** Bars as the library takes them. VWAP runs from the beginning of each trading date; a daily bar has its own. */
export function drawable(bars, daily) {
  let date = null;
  let notional = 0;
  let volume = 0;
  // Volumes are drawn without a scale beside them: the largest are drawn smaller, all alike.
  const largest = Math.max(0, ...bars.map((bar) => Number(bar.volume)));
  const part = largest > MOST ? 10 ** -Math.ceil(Math.log10(largest / MOST)) : 1;
  return bars.map((bar, index) => {
    if (daily || bar.date !== date) {
      date = bar.date;
      notional = 0;
      volume = 0;
    }
    const [open, high, low, close, size] = [bar.open, bar.high, bar.low, bar.close, bar.volume].map(Number);
    if (bar.vwap !== null) {
      notional += Number(bar.vwap) * size;
      volume += size;
    }
    const vwap = volume > 0 ? notional / volume : null;
    const ends = !daily && index + 1 < bars.length && bars[index + 1].date !== date;
    return { time: bar.wall, open, high, low, close, size: size * part, vwap, ends };
  });
}

export class PriceChart {
  #element;
  #library;
  #chart;
  #candles;
  #volume;
  #vwap;
  #drawn = [];
  #pointed = -1;
  // Of what is pointed at: the bar that keys chose; -1 when it was the pointer, or nothing is.
  #chosen = -1;
  #point;
  // Whether all bars are in view: then they stay so when others come or the window changes, until somebody zooms.
  #isFitted = true;

  /** `library` is the module of the chart library; `point` is called with the index of the bar pointed at, or -1. */
  constructor(element, library, point) {
    this.#element = element;
    this.#library = library;
    this.#point = point;
    const { createChart, CandlestickSeries, HistogramSeries, LineSeries, CrosshairMode } = library;
    this.#chart = createChart(element, {
      autoSize: true,
      // Its logo brings a style of its own, which the page's security policy refuses: the notice stands in the footer.
      layout: { attributionLogo: false, fontFamily: getComputedStyle(element).fontFamily },
      crosshair: { mode: CrosshairMode.Normal },
      rightPriceScale: { scaleMargins: { top: 0.06, bottom: 0.26 }, borderVisible: false, entireTextOnly: true },
      timeScale: { borderVisible: false, rightOffset: 2 },
      localization: { locale: "en-GB" },
    });
    // To a screen reader the canvases are an empty table: it gets the legend, what is read out, and the page's table.
    this.#chart.chartElement().setAttribute("aria-hidden", "true");
    this.#volume = this.#chart.addSeries(HistogramSeries, {
      priceScaleId: "volume", priceFormat: { type: "volume" }, lastValueVisible: false, priceLineVisible: false,
    });
    this.#volume.priceScale().applyOptions({ scaleMargins: { top: 0.8, bottom: 0 } });
    this.#candles = this.#chart.addSeries(CandlestickSeries, { borderVisible: false });
    this.#vwap = this.#chart.addSeries(LineSeries, {
      lineWidth: 2, lastValueVisible: false, priceLineVisible: false, crosshairMarkerVisible: false,
    });
    this.#chart.subscribeCrosshairMove(({ logical, time, sourceEvent }) => {
      // The cross stands at a place of the screen: when the scale moves under it, a bar that keys have chosen stays chosen.
      if (!sourceEvent && this.#chosen >= 0) return;
      this.#chosen = -1;
      const index = time === undefined || logical === undefined ? -1 : logical;
      this.#pointed = index >= 0 && index < this.#drawn.length ? index : -1;
      this.#point(this.#pointed, false);
    });
    this.#chart.timeScale().subscribeVisibleLogicalRangeChange(() => this.#cross());
    element.addEventListener("keydown", (event) => this.#onKey(event));
    for (const gesture of ["wheel", "pointerdown", "touchstart"]) {
      element.addEventListener(gesture, () => { this.#isFitted = false; }, { passive: true, capture: true });
    }
    new ResizeObserver(() => requestAnimationFrame(() => this.#isFitted && this.fit())).observe(element);
    this.recolour();
  }

  /** Index of the bar that is pointed at; -1 for none. */
  get pointed() {
    return this.#pointed;
  }

  /** What the candle series holds: for tests and the browser's console. */
  candles() {
    return this.#candles.data();
  }

  /** Show these bars (of `drawable`). `fit` shows all of them; otherwise the view stays where it is. */
  show(bars, { daily, places, fit }) {
    const same = commonLength(this.#drawn, bars);
    // An update may change the last bar and add others; what changed before it is drawn anew.
    const isUpdate = !fit && same > 0 && same >= this.#drawn.length - 1;
    this.#drawn = bars;
    this.#chart.applyOptions({ timeScale: { timeVisible: !daily, secondsVisible: false } });
    // The library's own format knows no more than 16 places; its steps are parts of `base`.
    const formatter = (price) => price.toFixed(places).replace("-", "−");
    const [minMove, base] = [Number(`1e-${places}`), Number(`1e${places}`)];
    this.#candles.applyOptions({ priceFormat: { type: "custom", formatter, minMove, base } });
    if (fit || this.#chosen >= bars.length) this.#forget();
    if (!isUpdate) {
      this.#candles.setData(bars.map(candle));
      this.#volume.setData(bars.map((bar) => this.#column(bar)));
      this.#vwap.setData(bars.map(point));
    } else {
      for (const bar of bars.slice(same)) {
        this.#candles.update(candle(bar));
        this.#volume.update(this.#column(bar));
        this.#vwap.update(point(bar));
      }
    }
    if (fit || this.#isFitted) this.fit();
  }

  /** Bring all bars into view, with room at the sides; few of them do not become as broad as houses. */
  fit() {
    this.#isFitted = true;
    const count = this.#drawn.length;
    const room = Math.max(2, count * 0.05, (40 - count) / 2);
    this.#chart.timeScale().setVisibleLogicalRange({ from: -room, to: count - 1 + room });
  }

  /** A canvas with what is to be seen of the chart. */
  picture() {
    return this.#chart.takeScreenshot();
  }

  /** Take the theme's colours anew. */
  recolour() {
    const colour = (name) => colourOf(this.#element, name);
    const grid = { color: colour("--grid") };
    this.#chart.applyOptions({
      layout: { background: { color: "transparent" }, textColor: colour("--quiet") },
      grid: { vertLines: grid, horzLines: grid },
      crosshair: {
        vertLine: { color: colour("--cross"), labelBackgroundColor: colour("--label") },
        horzLine: { color: colour("--cross"), labelBackgroundColor: colour("--label") },
      },
    });
    const [up, down] = [colour("--up"), colour("--down")];
    this.#candles.applyOptions({ upColor: up, downColor: down, wickUpColor: up, wickDownColor: down });
    this.#vwap.applyOptions({ color: colour("--vwap") });
    this.#volume.setData(this.#drawn.map((bar) => this.#column(bar)));
  }

  #column(bar) {
    const name = bar.close < bar.open ? "--down-volume" : "--up-volume";
    return { time: bar.time, value: bar.size, color: colourOf(this.#element, name) };
  }

  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const last = this.#drawn.length - 1;
    const from = this.#pointed < 0 ? last + 1 : this.#pointed;
    const moves = { ArrowLeft: from - 1, ArrowRight: this.#pointed < 0 ? last : from + 1, Home: 0, End: last };
    if (event.key in moves && last >= 0) {
      this.#pointAt(Math.min(last, Math.max(0, moves[event.key])));
    } else if (event.key === "+" || event.key === "=") {
      this.#zoom(0.7);
    } else if (event.key === "-") {
      this.#zoom(1 / 0.7);
    } else if (event.key === "0") {
      this.fit();
    } else if (event.key === "Escape") {
      this.#forget();
      this.#point(-1, true);
    } else {
      return;
    }
    event.preventDefault();
  }

  #forget() {
    this.#pointed = this.#chosen = -1;
    this.#chart.clearCrosshairPosition();
  }

  #pointAt(index) {
    const scale = this.#chart.timeScale();
    const view = scale.getVisibleLogicalRange();
    if (view && (index < view.from || index > view.to)) {
      const width = view.to - view.from;
      const from = index < view.from ? index : index - width;
      scale.setVisibleLogicalRange({ from, to: from + width });
    }
    this.#pointed = this.#chosen = index;
    this.#cross();
    this.#point(index, true);
  }

  /** Draw the cross at the bar that keys have chosen. */
  #cross() {
    const bar = this.#drawn[this.#chosen];
    if (bar) this.#chart.setCrosshairPosition(bar.close, bar.time, this.#candles);
  }

  #zoom(factor) {
    const scale = this.#chart.timeScale();
    const view = scale.getVisibleLogicalRange();
    if (!view) return;
    this.#isFitted = false;
    const middle = this.#pointed < 0 ? (view.from + view.to) / 2 : this.#pointed;
    scale.setVisibleLogicalRange({
      from: middle - (middle - view.from) * factor,
      to: middle + (view.to - middle) * factor,
    });
  }
}

function candle({ time, open, high, low, close }) {
  return Math.max(Math.abs(high), Math.abs(low)) > MOST ? { time } : { time, open, high, low, close };
}

function point({ time, vwap, ends }) {
  if (vwap === null || Math.abs(vwap) > MOST) return { time };
  // No line leads from one date's last value to the next one's first.
  return ends ? { time, value: vwap, color: "transparent" } : { time, value: vwap };
}

/** How many bars at the beginning are the same; 0 where there are fewer than before, for updates take nothing away. */
function commonLength(before, after) {
  if (before.length > after.length) return 0;
  const most = before.length;
  for (let index = 0; index < most; index += 1) {
    const [one, other] = [before[index], after[index]];
    if (Object.keys(one).some((name) => one[name] !== other[name])) return index;
  }
  return most;
}

function colourOf(element, name) {
  // A custom property is only text until it colours something.
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  element.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}
