"""Raters with a real browser: keyboards, phones, closed windows, double clicks, no script. What they said is looked up in the database."""

import dataclasses
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio")
pytest.importorskip("playwright")

from playwright.sync_api import expect

from eval.human.material import draw_material
from eval.human.opening import open_store
from eval.human.store import Store
from eval.human.study import load_study
from tests.browser import needs_browser
from tests.chromium import DESKTOP, PHONE, chromium
from tests.human.conftest import REASON, STUDY
from tests.human.study_server import in_thread

pytestmark = needs_browser
QUESTIONS = 4
SHOWN = {"light": DESKTOP, "dark": PHONE}
# Every visible text with its colour and the colour behind it; every target with its size; what is wider than the window.
MEASURE = """() => {
  const channels = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const ground = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = channels(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) { return colour.slice(0, 3); }
    }
    return [255, 255, 255];
  };
  const linear = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = c => 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
  const seen = e => e.checkVisibility({visibilityProperty: true, opacityProperty: true}) && e.getBoundingClientRect().width > 1;
  const ratios = [], words = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !seen(element)) { continue; }
    const both = [light(channels(getComputedStyle(element).color)), light(ground(element))].sort((a, b) => b - a);
    ratios.push((both[0] + 0.05) / (both[1] + 0.05));
    words.push(walker.currentNode.data.trim().slice(0, 40));
  }
  const worst = ratios.indexOf(Math.min(...ratios));
  const small = [...document.querySelectorAll("button, .button, summary, .error a, .choice label, .tick label, input[type=text], textarea")]
    .filter(seen).filter(e => e.getBoundingClientRect().height < 43.9 || e.getBoundingClientRect().width < 44).map(e => e.outerHTML);
  return {texts: ratios.length, ratio: ratios[worst], words: words[worst], small: small, title: document.title,
          wide: document.documentElement.scrollWidth - document.documentElement.clientWidth};
}"""


@pytest.fixture(scope="module")
def served(published_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Store]]:
    """The address of a study with room for all raters of this file, and its database."""
    folder = tmp_path_factory.mktemp("browser")
    (folder / "data").symlink_to(published_data)
    path = folder / "STUDY.yaml"
    path.write_text(STUDY, encoding="utf-8")
    study = dataclasses.replace(load_study(path), raters_per_persona=50, requests_per_minute=1000)
    store = open_store(folder / "study.sqlite", study, lambda: draw_material(study, folder / study.dataset))
    with in_thread(study, store) as address:
        yield address, store
    store.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture
def person(browser: Any) -> Iterator[Callable[..., Any]]:
    """Somebody with an empty memory, by the options of new_context. No page of theirs may ask another machine, nor complain."""
    asked: list[str] = []
    complaints: list[str] = []
    contexts = []

    def new(**options: Any) -> Any:
        context = browser.new_context(**({"viewport": DESKTOP} | options))
        context.set_default_timeout(10_000)
        context.on("request", lambda request: asked.append(request.url))
        context.on("console", lambda message: complaints.append(message.text))
        context.on("weberror", lambda error: complaints.append(str(error.error)))
        contexts.append(context)
        return context

    yield new
    for context in contexts:
        context.close()
    assert asked
    assert not [url for url in asked if not url.startswith(("http://127.0.0.1:", "data:"))]
    # A refused form is an answer with status 422 or 413, which the browser notes; and that a page's focus came too late on a slow machine.
    harmless = ("status of 422", "status of 413", "Autofocus processing was blocked")
    assert not [text for text in complaints if not any(note in text for note in harmless)]


def rater(served: tuple[str, Store]) -> tuple[str, str]:
    """A new rater's token and link."""
    address, store = served
    token = store.issue_tokens(1)[0]
    return token, f"{address}/?token={token}"


def started(page: Any, link: str) -> None:
    page.goto(link)
    page.check("#consent")
    page.get_by_role("button", name="Begin").click()
    page.wait_for_url("**/question?**")


def answer(page: Any, choice: str = "A", reason: str = REASON) -> None:
    page.locator(f"label[for=choice-{choice}]").click()
    page.fill("#reason", reason)
    with page.expect_navigation():
        page.click("#save")


def answers(store: Store, token: str) -> list[Any]:
    found = store.rater(token)
    assert found is not None
    return store.answers(found.rater_id)


def versions(store: Store, token: str) -> int:
    """How often an answer of this rater was written, its later versions among them."""
    found = store.rater(token)
    assert found is not None
    with closing(sqlite3.connect(store.path)) as connection:
        return int(connection.execute("SELECT COUNT(*) FROM log WHERE rater_id = ?", (found.rater_id,)).fetchone()[0])


def tab_to(page: Any, selector: str) -> None:
    """Press Tab until it has the focus, and see that it shows."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("s => document.activeElement.matches(s)", selector):
            seen = page.evaluate(
                "() => [document.activeElement, document.activeElement.nextElementSibling].filter(Boolean)"
                ".some(e => getComputedStyle(e).outlineStyle === 'solid' && parseFloat(getComputedStyle(e).outlineWidth) >= 2)"
            )
            assert seen, f"{selector} has the focus and does not show it"
            return
    raise AssertionError(f"Tab never reaches {selector} on {page.url}")


def test_a_whole_study_by_keyboard(served, person):
    token, link = rater(served)
    page = person().new_page()
    page.goto(link)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    tab_to(page, "#consent")
    page.keyboard.press("Space")
    tab_to(page, "button")
    page.keyboard.press("Enter")
    titles = set()
    for number in range(1, QUESTIONS + 1):
        page.wait_for_url(f"**&n={number}*")
        titles.add(page.title())
        tab_to(page, "input[type=radio]")
        # Three ways to choose: the space bar, the arrow keys, the letter.
        page.keyboard.press({1: "Space", 2: "ArrowDown", 3: "b", 4: "a"}[number])
        tab_to(page, "#reason")
        page.keyboard.type(f"{REASON} {number}")
        if number % 2:
            tab_to(page, "#save")
            page.keyboard.press("Enter")
        else:
            page.keyboard.press("Control+Enter")
    page.wait_for_url("**/finish?**")
    tab_to(page, "button")
    page.keyboard.press("Enter")
    page.wait_for_url("**/thanks?**")
    assert page.inner_text("#code") == "DONE-1234"
    assert len(titles) == QUESTIONS
    given = answers(served[1], token)
    assert [a.choice for a in given] == ["A", "B", "B", "A"]
    assert [a.reason for a in given] == [f"{REASON} {n}" for n in range(1, QUESTIONS + 1)]
    assert [a.pasted for a in given] == [0] * QUESTIONS
    assert served[1].rater(token).state == "finished"


def test_who_closes_the_browser_goes_on_by_the_link(served, person):
    token, link = rater(served)
    first = person()
    page = first.new_page()
    started(page, link)
    answer(page, "B")
    answer(page, "A")
    first.close()
    page = person().new_page()
    page.goto(link)
    assert page.title().startswith("Question 3 of 4")
    answer(page, "B")
    answer(page, "B")
    page.get_by_role("button", name="Finish").click()
    page.wait_for_url("**/thanks?**")
    assert [a.choice for a in answers(served[1], token)] == ["B", "A", "B", "B"]


def test_unsaved_text_outlives_a_closed_page_until_it_is_saved(served, person):
    token, link = rater(served)
    context = person()
    page = context.new_page()
    started(page, link)
    page.locator("label[for=choice-B]").click()
    page.fill("#reason", "Half a thought")
    page.close()
    page = context.new_page()
    page.goto(link)
    assert page.input_value("#reason") == "Half a thought"
    assert page.is_checked("#choice-B")
    assert page.is_visible("#restored")
    answer(page, "B", "Half a thought, and then the other half of it.")
    kept = "() => Object.keys(localStorage).length"
    assert page.evaluate(kept) == 0, "what is saved needs no draft"
    for _ in range(3):
        answer(page)
    page.get_by_role("link", name="Change your answer to question 2").click()
    page.fill("#reason", "Left behind in the browser, not saved")
    page.go_back()
    assert page.evaluate(kept) == 1
    page.get_by_role("button", name="Finish").click()
    page.wait_for_url("**/thanks?**")
    assert page.evaluate(kept) == 0
    assert answers(served[1], token)[0].reason == "Half a thought, and then the other half of it."


def test_two_at_once_have_places_of_their_own(served, person):
    store = served[1]
    (one, first_link), (two, second_link) = rater(served), rater(served)
    first, second = person().new_page(), person().new_page()
    started(first, first_link)
    started(second, second_link)
    assert store.rater(one).persona_id != store.rater(two).persona_id
    for number in range(QUESTIONS):
        answer(first, "A", f"{REASON} The first rater, {number}.")
        answer(second, "B", f"{REASON} The second rater, {number}.")
    assert [(a.choice, a.reason) for a in answers(store, one)] == [
        ("A", f"{REASON} The first rater, {n}.") for n in range(4)
    ]
    assert [(a.choice, a.reason) for a in answers(store, two)] == [
        ("B", f"{REASON} The second rater, {n}.") for n in range(4)
    ]


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_double_click_reload_and_back_lose_and_repeat_nothing(served, person, script):
    token, link = rater(served)
    store = served[1]
    page = person(java_script_enabled=script).new_page()
    page.goto(link)
    page.locator("label[for=consent]").click()
    page.get_by_role("button", name="Begin").dblclick()
    page.wait_for_url("**/question?**")
    page.locator("label[for=choice-A]").click()
    page.fill("#reason", REASON)
    page.dblclick("#save")
    page.wait_for_url("**&n=2*")
    assert (len(answers(store, token)), versions(store, token)) == (1, 1)
    page.reload()
    assert page.title().startswith("Question 2 of 4")
    assert (len(answers(store, token)), versions(store, token)) == (1, 1)
    page.go_back()
    page.wait_for_url("**&n=1*")
    page.reload()  # without script a browser may show what stood there before it was sent
    assert page.is_checked("#choice-A")
    assert page.input_value("#reason") == REASON
    with page.expect_navigation():
        page.click("#save")
    page.wait_for_url("**&n=2*")
    assert (len(answers(store, token)), versions(store, token)) == (1, 1)
    for _ in range(3):
        answer(page)
    page.get_by_role("button", name="Finish").dblclick()
    page.wait_for_url("**/thanks?**")
    page.go_back()
    page.wait_for_url("**/thanks?**")
    assert (len(answers(store, token)), versions(store, token)) == (4, 4)


def test_without_script_everything_is_there(served, person):
    token, link = rater(served)
    page = person(java_script_enabled=False, viewport=PHONE).new_page()
    started(page, link)
    page.fill("#reason", "short")
    page.click("#save")
    assert page.locator("#problems").is_visible()
    assert page.input_value("#reason") == "short"
    page.locator("label[for=choice-B]").click()
    assert page.locator("label[for=choice-B] .mark").is_visible()
    for _ in range(QUESTIONS):
        answer(page, "B")
    page.get_by_role("link", name="Change your answer to question 3").click()
    answer(page, "A", f"{REASON} Changed.")
    page.get_by_role("button", name="Finish").click()
    assert page.inner_text("#code") == "DONE-1234"
    assert [(a.choice, a.changes) for a in answers(served[1], token)] == [("B", 0), ("B", 0), ("A", 1), ("B", 0)]


def test_pasted_and_dropped_characters_are_counted(served, person):
    token, link = rater(served)
    page = person().new_page()
    started(page, link)
    send = """([kind, text]) => {
      const data = new DataTransfer();
      data.setData("text/plain", text);
      const event = kind === "paste" ? new ClipboardEvent("paste", {clipboardData: data}) : new DragEvent("drop", {dataTransfer: data});
      const area = document.getElementById("reason");
      area.dispatchEvent(event);
      area.value += text;
      area.dispatchEvent(new InputEvent("input"));
    }"""
    page.evaluate(send, ["paste", "x" * 30])
    page.evaluate(send, ["drop", "\U0001f642" * 5])
    page.reload()  # the count is kept with the draft
    page.evaluate(send, ["paste", "y"])
    answer(page)
    assert answers(served[1], token)[0].pasted == 30 + 5 + 1
    page.locator("#reason").focus()
    page.keyboard.type("Typed by hand and counted as nothing.")
    page.locator("label[for=choice-A]").click()
    with page.expect_navigation():
        page.click("#save")
    assert answers(served[1], token)[1].pasted == 0


def test_the_count_follows_and_is_spoken_after_a_pause(served, person):
    _, link = rater(served)
    page = person().new_page()
    started(page, link)
    page.locator("#reason").press_sequentially("Twelve chars")
    assert page.inner_text("#count") == "12 of at least 20 characters"
    assert page.inner_text("#spoken") == ""
    page.fill("#reason", "x" * 4001)
    assert page.inner_text("#count") == "4001 characters, 1 too many"
    expect(page.locator("#spoken")).to_have_text("4001 characters, 1 too many")


def test_far_too_long_a_text_is_refused_and_still_there(served, person):
    _, link = rater(served)
    page = person(java_script_enabled=False).new_page()
    started(page, link)
    page.locator("label[for=choice-A]").click()
    page.fill("#reason", "long " * 60_000)
    page.click("#save")
    assert page.inner_text("h1") == "This text is too long"
    page.go_back()
    assert len(page.input_value("#reason")) == 300_000


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.thorough)])
def test_every_page_is_readable(served, person, scheme):
    """Contrast of every text, size of every target, no sideways scrolling at 320 and 375 pixels nor at twice the size of letters."""
    address, _ = served
    _, link = rater(served)
    page = person(color_scheme=scheme).new_page()
    titles = []

    def measure() -> None:
        for width, size in ((1280, ""), (375, ""), (320, ""), (1280, "212.5%"), (640, "212.5%")):
            page.set_viewport_size({"width": width, "height": 800})
            page.evaluate("size => { document.documentElement.style.fontSize = size; }", size)
            seen = page.evaluate(MEASURE)
            where = f"{seen['title']} at {width} px {size}, {scheme}"
            assert seen["texts"] > 3
            assert seen["ratio"] >= 4.5, f"{where}: {seen['words']!r} has {seen['ratio']:.2f}"
            assert seen["wide"] <= 0, f"{where}: {seen['wide']} px wider than the window"
            assert not seen["small"], f"{where}: {seen['small']}"
        page.evaluate("document.documentElement.style.fontSize = ''")
        page.set_viewport_size(DESKTOP)
        titles.append(seen["title"])

    page.goto(f"{address}/")
    measure()
    page.goto(link)
    measure()
    page.check("#consent")
    page.get_by_role("button", name="Begin").click()
    page.click(".help summary")
    measure()
    page.click("#save")
    page.wait_for_selector("#problems")
    assert page.evaluate("document.activeElement.id") == "problems"
    measure()
    page.locator("label[for=choice-B]").click()
    page.fill("#reason", "W" * 300)  # one word that no line can hold
    measure()
    answer(page)
    measure()
    for _ in range(3):
        answer(page, reason="W" * 300)
    measure()
    page.get_by_role("button", name="Finish").click()
    page.wait_for_url("**/thanks?**")
    measure()
    assert len(set(titles)) == len(titles) - 1, f"pages share a title: {titles}"  # the same question with errors, twice


def test_a_choice_shows_by_more_than_colour(served, person):
    _, link = rater(served)
    page = person(forced_colors="active").new_page()
    started(page, link)
    assert not page.locator(".mark >> visible=true").count()
    page.locator("label[for=choice-A] .text").click()  # the whole panel
    assert page.is_checked("#choice-A")
    assert page.locator("label[for=choice-A] .mark").is_visible()
    assert not page.locator("label[for=choice-B] .mark").is_visible()


def test_names_and_roles_are_what_a_screen_reader_needs(served, person):
    _, link = rater(served)
    page = person().new_page()
    started(page, link)
    radio = page.get_by_role("radio", name="Answer A", exact=True)
    assert radio.count() == 1
    group = page.get_by_role("group", name="Which answer would this person prefer?")
    assert group.get_by_role("radio").count() == 2
    assert page.get_by_role("textbox", name="Why would this person prefer it?").count() == 1
    assert page.get_by_role("progressbar", name="Questions answered").count() == 1
    assert page.get_by_role("complementary", name="The person").count() == 1
    assert page.get_by_role("heading", level=1).count() == 1
    described = page.locator("#reason").get_attribute("aria-describedby")
    assert json.dumps(described) == '"hint count"'
