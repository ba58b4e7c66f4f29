// The symbol picker: a combobox with a list, by the ARIA pattern; all of it works from the keyboard.

const MOST = 50;

/** Symbols that fit what was typed: those that begin with it first, then those that contain it. */
export function matching(symbols, typed) {
  const wanted = typed.trim().toUpperCase();
  if (!wanted) return symbols;
  const beginning = symbols.filter((each) => each.symbol.toUpperCase().startsWith(wanted));
  const containing = symbols.filter((each) => {
    const symbol = each.symbol.toUpperCase();
    return !symbol.startsWith(wanted) && `${symbol} ${each.exchange}`.includes(wanted);
  });
  return [...beginning, ...containing];
}

export class SymbolPicker {
  #input;
  #list;
  #choose;
  #symbols = [];
  #shown = [];
  #active = -1;
  #chosen = null;

  /** `choose` is called with the `{symbol, exchange}` that was picked. */
  constructor(input, list, choose) {
    this.#input = input;
    this.#list = list;
    this.#choose = choose;
    input.addEventListener("focus", () => { input.select(); this.#open(""); });
    input.addEventListener("click", () => this.#list.hidden && this.#open(""));
    input.addEventListener("input", () => this.#open(input.value));
    input.addEventListener("keydown", (event) => this.#onKey(event));
    input.addEventListener("blur", () => this.#close());
    // Before the click would take the focus away and close the list.
    list.addEventListener("mousedown", (event) => {
      event.preventDefault();
      const option = event.target.closest("[role=option]");
      if (option) this.#pick(this.#shown[Number(option.dataset.index)]);
    });
    document.addEventListener("keydown", (event) => {
      // Whatever has the focus, but for the search itself (BTC/USD) and an open dialog, behind which nothing can have it.
      const isElsewhere = event.target !== input && !document.querySelector("dialog[open]");
      if (event.key === "/" && !event.ctrlKey && !event.metaKey && !event.altKey && isElsewhere) {
        event.preventDefault();
        input.focus();
      }
    }, { capture: true });
  }

  set symbols(found) {
    this.#symbols = found;
  }

  /** Show which one is chosen. */
  set chosen(info) {
    this.#chosen = info;
    if (document.activeElement !== this.#input) this.#input.value = info?.symbol ?? "";
  }

  #open(typed) {
    const found = matching(this.#symbols, typed);
    this.#shown = found.slice(0, MOST);
    this.#active = typed && this.#shown.length ? 0 : -1;
    this.#list.replaceChildren(...this.#shown.map((info, index) => this.#option(info, index)));
    if (!found.length) this.#note(this.#symbols.length ? "No symbol matches" : "No symbols yet");
    if (found.length > MOST) this.#note(`and ${found.length - MOST} more: type to narrow`);
    this.#list.hidden = false;
    this.#input.setAttribute("aria-expanded", "true");
    this.#mark();
  }

  #option(info, index) {
    const option = document.createElement("li");
    option.id = `symbol-${index}`;
    option.role = "option";
    option.dataset.index = index;
    const name = document.createElement("span");
    name.textContent = info.symbol;
    const where = document.createElement("span");
    where.className = "quiet";
    where.textContent = `${info.exchange} · ${info.rows.toLocaleString("en")} trades`;
    option.append(name, where);
    return option;
  }

  #note(text) {
    const note = document.createElement("li");
    note.className = "quiet note";
    note.role = "presentation";
    note.textContent = text;
    this.#list.append(note);
  }

  #mark() {
    for (const option of this.#list.querySelectorAll("[role=option]")) {
      const isActive = Number(option.dataset.index) === this.#active;
      option.setAttribute("aria-selected", String(isActive));
      if (isActive) option.scrollIntoView({ block: "nearest" });
    }
    if (this.#active < 0) this.#input.removeAttribute("aria-activedescendant");
    else this.#input.setAttribute("aria-activedescendant", `symbol-${this.#active}`);
  }

  #close() {
    this.#list.hidden = true;
    this.#active = -1;
    this.#input.setAttribute("aria-expanded", "false");
    this.#input.removeAttribute("aria-activedescendant");
    this.#input.value = this.#chosen?.symbol ?? "";
  }

  #pick(info) {
    if (!info) return;
    this.#chosen = info;
    this.#close();
    this.#input.select();
    this.#choose(info);
  }

  #onKey(event) {
    const last = this.#shown.length - 1;
    const isOpen = !this.#list.hidden;
    if (event.key === "Escape" && isOpen) {
      this.#close();
      this.#input.select();
    } else if (event.key === "Enter") {
      if (isOpen) this.#pick(this.#shown[Math.max(0, this.#active)]);
      else this.#open("");
    } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (!isOpen) this.#open("");
      const step = event.key === "ArrowDown" ? 1 : -1;
      this.#active = this.#active + step > last ? 0 : this.#active + step < 0 ? last : this.#active + step;
      this.#mark();
    } else {
      return;
    }
    event.preventDefault();
  }
}
