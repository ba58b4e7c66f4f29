// The controls that say which bars of which trades are shown, and how a profile is told of.

const at = (id) => document.getElementById(id);

/** What a profile lets through, in a few words: of `{exclude_conditions: ["1", "3"]}`, `without conditions 1, 3`. */
export function profileText({ conditions = [], exclude_conditions: excluded = [] }) {
  const some = conditions.length ? `with conditions ${conditions.join(", ")}` : "";
  const none = excluded.length ? `without conditions ${excluded.join(", ")}` : "";
  return [some, none].filter(Boolean).join(" and ");
}

/** The profile that counts: the one that is chosen, or in regular sessions the exchange's default; else `none`. */
export function profileOf({ profile, session }, calendar) {
  return profile ?? (session === "regular" && calendar?.defaultProfile ? calendar.defaultProfile : "none");
}

export class Choices {
  #buckets = [...at("buckets").querySelectorAll("input")];

  /** `choose` is called with what was changed: `{bucket}`, `{session}`, `{profile}` or `{adjusted}`. */
  constructor(choose) {
    at("buckets").addEventListener("change", ({ target }) => choose({ bucket: target.value }));
    at("regular").addEventListener("change", ({ target }) => choose({ session: target.checked ? "regular" : "all" }));
    at("profile").addEventListener("change", ({ target }) => choose({ profile: target.value }));
    at("adjusted").addEventListener("change", ({ target }) => choose({ adjusted: target.value || null }));
  }

  /** Lengths of bars. */
  get buckets() {
    return this.#buckets.map(({ value }) => value);
  }

  /** Whether there is reference data to adjust prices by. */
  canAdjust = false;

  /** Show what is chosen, and of profiles those that the exchange has by its calendar (null: not known, or not yet). */
  show(chosen, calendar) {
    for (const each of this.#buckets) each.checked = each.value === chosen.bucket;
    at("regular").checked = chosen.session === "regular";
    const profiles = calendar?.profiles ?? {};
    const counts = profileOf(chosen, calendar);
    // One that an address names may be there or not: the service says so, and here it can be changed.
    const names = [...new Set(["none", ...Object.keys(profiles), counts])];
    at("profile").replaceChildren(
      ...names.map((name) => {
        const text = name === "none" ? "All trades" : `Profile ${name}`;
        const option = new Option(text, name, false, name === counts);
        option.title = name in profiles ? `Trades ${profileText(profiles[name])}` : "";
        return option;
      }),
    );
    at("profiles").hidden = names.length === 1;
    at("adjusted").value = chosen.adjusted ?? "";
    at("prices").hidden = !this.canAdjust && !chosen.adjusted;
  }
}
