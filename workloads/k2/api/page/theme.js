// A plain script, run before the first paint: a chosen theme must not flash the other one. The choice is no secret, so
// it may outlive the tab.
{
  const kept = localStorage.getItem("k2-theme");
  if (kept === "light" || kept === "dark") {
    document.documentElement.dataset.theme = kept;
  }
}
