"""The explorer in a real browser, on a wide screen and on a phone."""

import json

import pytest

from tests.browser import needs_browser
from tests.chromium import DESKTOP, PHONE, chromium
from tests.explore.conftest import RARE

pytestmark = needs_browser

FIRST = "/pair?id=dpf/p00000/q00000"
PAGES = (
    "/",
    "/personas?show=religion",
    "/persona?id=p00000",
    "/prompts",
    "/prompt?id=q00001",
    "/pairs?q=nurse",
    FIRST,
    "/pairs?topic=x",
)
# Of every element that shows text itself: its ratio of contrast on what lies behind it (WCAG 2.1, 1.4.3).
CONTRAST = """() => {
  const numbers = color => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = element => {
    for (let at = element; at; at = at.parentElement) {
      const color = numbers(getComputedStyle(at).backgroundColor);
      if (color.length === 3 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const weak = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility() || element.closest("option")) continue;
    const [a, b] = [light(numbers(getComputedStyle(element).color)), light(ground(element))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) weak.push(`${element.tagName} ${element.className}: ${element.textContent.trim().slice(0, 40)}`);
  }
  return weak;
}"""


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def page(request, browser, address):
    """A page that fails the test at its end if it wrote to the console or asked anybody else for anything."""
    context = browser.new_context(viewport=request.param)
    opened = context.new_page()
    said, asked = [], []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda sent: asked.append(sent.url))
    yield opened
    context.close()
    # The browser reports a page that answers 400 by itself.
    assert [text for text in said if "status of 400" not in text] == []
    assert [url for url in asked if not url.startswith((address, "data:"))] == []


def test_filter_search_open_a_row_and_follow_it_to_its_mirror(page, address):
    page.goto(f"{address}/pairs")
    page.locator("select[name=config]").select_option("contrast")
    page.locator("main input[name=q]").fill("farmer")
    page.locator("select[name=in]").select_option("chosen")
    page.get_by_role("button", name="Show").click()
    # Fields left empty are not in the address, so that it can be read.
    assert page.url == f"{address}/pairs?q=farmer&in=chosen&config=contrast"
    assert page.locator("mark").first.inner_text() == "farmer"
    page.locator("tbody th a").nth(1).click()
    opened = page.locator(".crumbs b").inner_text()
    chosen, rejected = (page.locator(".side .text").nth(n).inner_text() for n in (0, 1))
    assert "farmer" in chosen
    page.get_by_role("link", name="The mirror").click()
    assert page.locator(".crumbs b").inner_text() != opened
    assert [page.locator(".side .text").nth(n).inner_text() for n in (0, 1)] == [rejected, chosen]


def test_a_link_to_a_row_opened_afresh_gives_the_same_row(page, browser, address):
    page.goto(f"{address}/pairs?q={RARE}")
    page.locator("tbody th a").first.click()
    url, text = page.url, page.locator("main").inner_text()
    context = browser.new_context()
    other = context.new_page()
    other.goto(url)
    assert other.title() == page.title()
    assert other.locator(".side .text").first.inner_text() in text
    context.close()


def test_keys_go_through_the_rows(page, address):
    page.goto(f"{address}/pairs?verdict=tie")
    page.locator("tbody th a").first.click()
    first = page.locator(".crumbs b").inner_text()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("id => document.querySelector('.crumbs b').innerText !== id", arg=first)
    page.keyboard.press("p")
    page.wait_for_function("id => document.querySelector('.crumbs b').innerText === id", arg=first)
    page.keyboard.press("/")
    page.keyboard.type("arrows nn")
    assert page.locator("#find").input_value() == "arrows nn"


def test_values_of_an_attribute_become_a_filter(page, address):
    page.goto(f"{address}/personas")
    page.locator("select[name=show]").select_option("religion")
    page.get_by_role("button", name="Show").click()
    page.get_by_role("link", name="Catholic 8").click()
    assert page.get_by_role("status").inner_text() == "8 personas"
    page.get_by_role("link", name="Religion: Catholic").click()
    assert page.get_by_role("status").inner_text() == "9 personas"


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.thorough)])
def test_no_page_is_wider_than_the_window_and_all_text_can_be_read(page, address, scheme):
    page.emulate_media(color_scheme=scheme)
    width = page.viewport_size["width"]
    for place in PAGES:
        page.goto(address + place)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, place
        weak = page.evaluate(CONTRAST)
        assert weak == [], f"{place}: {json.dumps(weak)}"


def test_answers_stand_side_by_side_or_below_one_another(page, address):
    page.goto(address + FIRST)
    left, right = (page.locator(".side").nth(n).bounding_box() for n in (0, 1))
    beside = left["y"] == right["y"] and left["x"] + left["width"] <= right["x"]
    below = left["x"] == right["x"] and left["y"] + left["height"] <= right["y"]
    assert beside if page.viewport_size == DESKTOP else below


def test_marks_are_told_apart_without_colour(page, address):
    page.goto(address + FIRST)
    line = "element => getComputedStyle(element).textDecorationLine"
    assert page.locator(".side ins").first.evaluate(line) == "underline"
    assert page.locator(".side del").first.evaluate(line) == "line-through"


def test_it_works_without_script(browser, address):
    context = browser.new_context(java_script_enabled=False, viewport=PHONE)
    page = context.new_page()
    page.goto(f"{address}/pairs")
    page.locator("select[name=verdict]").select_option("tie")
    page.get_by_role("button", name="Show").click()
    page.locator("tbody th a").first.click()
    page.get_by_role("link", name="Next").click()
    assert page.locator(".tag", has_text="tie").count() == 1
    context.close()
