"""The study's pages without a browser: what each request answers and what then stands in the database."""

import base64
import dataclasses
import io
import logging
import re
import signal
import zipfile
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("gradio")

from starlette.testclient import TestClient

from builder.errors import InputError
from eval.human import app, pages
from eval.human.app import study_server
from eval.human.database import StorageError
from eval.human.export import export_files
from eval.human.forms import address_of
from eval.human.material import Item, ShownPersona
from eval.human.opening import open_store
from eval.human.store import Store, plain_text
from eval.human.study import LONGEST_ANSWER, Consent, Study
from eval.web import rate_limit, server
from eval.web.rate_limit import RateLimit
from tests.human.conftest import REASON, answer_all
from tests.human.study_server import as_process, free_port, hidden_fields, in_thread

PASSWORD = "correct horse battery"
HOSTILE = {
    "script": "<script>alert(1)</script></textarea></title><img src=x onerror=alert(1)> and so on and on.",
    "quotes": "\"'><a href=\"javascript:alert(1)\" style='x'>&amp;&lt;{{ 7 * 7 }}{% raw %} `${1}` and so on.",
    "direction": "\u202eabc\u2066 \u200f\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 and on and on and on",
    "emoji": "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f3f4\U000e0067\U000e0062 \u00e9 e\u0301 Z\u0351\u036b and on and on",
    "newlines": "\nfirst line\n\n  second line\twith a tab\n%0d%0aSet-Cookie: a=b and so on and on and on",
    "sql": "'; DROP TABLE answers; -- and so on and on and on and on",
}  # fmt: skip


class Page(HTMLParser):
    """Tags with their attributes, in order; the text of every textarea; the title; every visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.areas: list[str] = []
        self.title = ""
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("textarea", "title"):
            self._inside = tag
            self.areas += [""] if tag == "textarea" else []

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "textarea":
            self.areas[-1] += data
        elif self._inside == "title":
            self.title += data
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def find(self, tag: str, **attributes: str) -> dict[str, str | None]:
        return next(a for t, a in self.tags if t == tag and all(a.get(k) == v for k, v in attributes.items()))


@pytest.fixture
def client(study: Study, store: Store) -> TestClient:
    return browser(study, store)


def browser(study: Study, store: Store, **options: Any) -> TestClient:
    return TestClient(study_server(study, store, **options), raise_server_exceptions=False, base_url="http://127.0.0.1")


@pytest.fixture
def token(store: Store) -> str:
    return store.issue_tokens(1)[0]


@pytest.fixture
def at_work(client: TestClient, token: str) -> str:
    """The token of a rater who has agreed."""
    client.post("/begin", data={"token": token, "consent": "yes"})
    return token


def send(
    client: TestClient, token: str, choice: str = "A", reason: str = REASON, n: int | None = None, **more: str
) -> Any:
    """Answers question n, or the first open one, as its page would; not following the redirect."""
    shown = client.get("/question", params={"token": token} | ({"n": n} if n else {}))
    form = hidden_fields(shown.text) | {"choice": choice, "reason": reason} | more
    return client.post("/answer", data=form, follow_redirects=False)


def is_page(response: Any, status: int) -> Page:
    """A whole page in our look, with our headers and, if something is wrong, a way forward."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"].startswith("text/html")
    for name, value in server.HEADERS.items():
        assert response.headers[name] == value
    page = Page(response.text)
    assert page.find("html")["lang"] == "en"
    assert page.title.strip()
    assert sum(tag == "h1" for tag, _ in page.tags) == 1
    assert status < 400 or any(tag in ("a", "form") and a.get("class") != "skip" for tag, a in page.tags)
    return page


def test_from_the_instructions_to_the_code(client, store, token):
    page = is_page(client.get("/", params={"token": token}), 200)
    assert "4 questions" in page.text  # three of the persona and a check
    is_page(client.post("/begin", data={"token": token}), 422)
    assert store.rater(token).state == "new", "nobody takes part who has not agreed"
    begun = client.post("/begin", data={"token": token, "consent": "yes"}, follow_redirects=False)
    assert begun.status_code == 303
    for number in range(1, 5):
        page = is_page(client.get("/question", params={"token": token}), 200)
        assert page.title.startswith(f"Question {number} of 4")
        assert page.find("progress")["value"] == str(number - 1)
        sent = send(client, token, "AB"[number % 2], f"{REASON} {number}", pasted=str(number))
        assert sent.status_code == 303
    assert sent.headers["location"].startswith("finish?")
    rater = store.rater(token)
    answers = store.answers(rater.rater_id)
    assert [a.choice for a in answers] == ["B", "A", "B", "A"]
    assert [a.reason for a in answers] == [f"{REASON} {n}" for n in range(1, 5)]
    assert [a.pasted for a in answers] == [1, 2, 3, 4]
    review = is_page(client.get("/finish", params={"token": token}), 200)
    assert all(a.reason in review.text for a in answers)
    assert store.rater(token).state == "open"
    last = client.post("/finish", data={"token": token})
    assert "DONE-1234" in is_page(last, 200).text
    assert store.rater(token).state == "finished"
    for path in ("/", "/question", "/finish", "/thanks"):
        assert "DONE-1234" in client.get(path, params={"token": token}).text


def test_the_code_is_shown_to_nobody_who_has_not_finished(client, store, at_work):
    for path in ("/", "/question", "/finish", "/thanks"):
        assert "DONE-1234" not in client.get(path, params={"token": at_work}).text
    assert (
        client.post("/finish", data={"token": at_work}, follow_redirects=False)
        .headers["location"]
        .startswith("question")
    )
    assert store.rater(at_work).state == "open"


def test_instructions_make_every_point_of_the_paper(study, token):
    text = Page(pages.instructions_page(study, token)).text
    for words in (
        "play the role of somebody else",
        "may or may not exist",
        "hypothetical",
        "explain in detail",
        "change your mind while you write",
        "more likely prefer",
        "No chatbots",
        "neither for your choices nor for your reasoning",
        "not from your own preferences",
        "Thank you",
    ):
        assert words in text
    # A bonus is promised by the study's own words or not at all.
    assert "bonus" not in text
    paid = dataclasses.replace(study, consent=dataclasses.replace(study.consent, payment="A bonus of 2 euros."))
    assert "A bonus of 2 euros." in Page(pages.instructions_page(paid, token)).text


def test_question_page_is_labelled_throughout(client, at_work, store):
    page = is_page(client.get("/question", params={"token": at_work}), 200)
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert len(ids) == sum("id" in attributes for _, attributes in page.tags), "an id stands twice"
    for name in ("choice-A", "choice-B", "reason"):
        page.find("label", **{"for": name})
    for _, attributes in page.tags:
        for reference in ("aria-describedby", "aria-labelledby"):
            assert set((attributes.get(reference) or "").split()) <= ids
    assert [t for t, _ in page.tags].count("button") == 1
    rater = store.rater(at_work)
    card = next(p.card for p in store.material.personas if p.persona_id == rater.persona_id)
    assert all(what in page.text and value in page.text for what, value in card)
    assert "open" in page.find("details")
    send(client, at_work)
    assert "open" not in Page(client.get("/question", params={"token": at_work}).text).find("details")


def test_answers_stand_in_the_drawn_order(client, store, at_work):
    rater = store.rater(at_work)
    items = {item.item_id: item for persona in store.material.personas for item in persona.items}
    for number, (item_id, first) in enumerate(store.items_of(rater), start=1):
        html = client.get("/question", params={"token": at_work, "n": number}).text
        item = items[item_id]
        a, b = item.answers if first == "chosen" else item.answers[::-1]
        text = Page(html).text
        assert item.question in text
        assert text.index(f"Answer A ✓ Your choice {a}") < text.index(f"Answer B ✓ Your choice {b}")
        send(client, at_work, "A")
        assert store.answers(rater.rater_id)[-1].preferred == first


def test_nothing_tells_the_kinds_or_the_labels(client, store, at_work):
    """No rater learns which answer the data prefer, which question is a check, nor the persona's id."""
    html = client.get("/question", params={"token": at_work}).text
    for number in range(4):
        shown = client.get("/question", params={"token": at_work}).text
        assert 'value="chosen"' not in shown
        assert 'value="rejected"' not in shown
        assert number == 0 or shown != html
        send(client, at_work)


@pytest.mark.parametrize(
    ("choice", "reason", "words"),
    [
        ("", REASON, ["Choose one"]),
        ("C", REASON, ["Choose one"]),
        ("A", "   too short \r\n ", ["9 characters"]),
        ("B", "x" * 4001, ["4,001 characters"]),
        ("", "", ["Choose one", "0 characters"]),
    ],
)
def test_what_does_not_fit_comes_back_as_typed(client, store, at_work, choice, reason, words):
    page = is_page(send(client, at_work, choice, reason, pasted="7"), 422)
    assert page.title.startswith("Error: Question 1 of 4")
    assert all(word in page.text for word in words)
    assert page.areas == ["\n" + reason.replace("\r\n", "\n")]
    assert page.find("input", id="pasted")["value"] == "7"
    summary = page.find("div", id="problems")
    assert {"autofocus", "role", "tabindex"} <= summary.keys()
    assert ("checked" in page.find("input", id="choice-B")) == (choice == "B")
    assert store.answers() == []


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_reasoning_is_kept_and_shown_as_text(client, store, at_work, text):
    assert send(client, at_work, reason=text).status_code == 303
    assert store.answers()[0].reason == text.strip()
    page = is_page(client.get("/question", params={"token": at_work, "n": 1}), 200)
    assert page.areas == ["\n" + text.strip()]
    assert_only_ours(page)
    for _ in range(3):
        send(client, at_work)
    review = is_page(client.get("/finish", params={"token": at_work}), 200)
    assert_only_ours(review)
    assert " ".join(text.split()) in review.text


def assert_only_ours(page: Page) -> None:
    """No tag, no script and no attribute that runs one came in with a text."""
    assert [a["src"] for t, a in page.tags if t == "script"] == ["page/study.js"]
    assert not any(t == "img" for t, _ in page.tags)
    assert not any(name.startswith("on") or name == "style" for _, a in page.tags for name in a)
    assert not any((a.get("href") or "").startswith("javascript") for _, a in page.tags)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("0", 0), ("007", 7), ("150000", LONGEST_ANSWER), ("9" * 5000, LONGEST_ANSWER), ("-5", 0), ("1e9", 0), ("", 0)],
)
def test_as_many_as_were_pasted_are_counted(client, store, at_work, sent, kept):
    assert send(client, at_work, pasted=sent).status_code == 303
    assert store.answers()[0].pasted == kept


def test_control_characters_are_left_out(client, store, at_work):
    assert plain_text("a\0b\x07c\x1b[31m\x85\r\nd\te\rf\ud800") == "abc[31m\nd\te\nf"
    send(client, at_work, reason=f"\0{REASON}\x08\x1b")
    assert store.answers()[0].reason == REASON


def test_bytes_that_are_no_text_break_nothing(client, store, at_work):
    html = client.get("/question", params={"token": at_work}).text
    form = hidden_fields(html)
    body = "&".join(f"{k}={v}" for k, v in form.items()).encode() + b"&choice=A&reason=" + b"%ED%A0%80%FF%C3" * 20
    sent = client.post("/answer", content=body, headers={"content-type": "application/x-www-form-urlencoded"})
    assert sent.status_code == 200
    assert set(store.answers()[0].reason) == {"\ufffd"}


@pytest.mark.parametrize(
    "text", [*HOSTILE.values(), "x" * 100_000, "a\0b", "half \ud83d of one"], ids=[*HOSTILE, "100 kB", "nul", "half"]
)
def test_hostile_material_is_shown_as_text(study, tmp_path, text):
    """Whatever a persona, a question, an answer or the study file says."""
    consent = Consent(*[text] * 5)
    study = dataclasses.replace(study, title=text, consent=consent, completion_code=text)
    item = Item("check/<b>\"'&?", "contrast", "p", "check/<b>", text, (text, text + "2"))
    persona = ShownPersona("p", ((text, text), ("Age", "40")), (item,), (item.item_id,))
    asked = pages.asked_of(persona, [(item.item_id, "rejected")], [])
    assert asked[0].texts == (text + "2", text)
    typed = pages.Typed("A", text, 3)
    for html in (
        pages.instructions_page(study, "T", ""),
        pages.instructions_page(study, "", text, text),
        pages.token_page(study),
        pages.question_page(study, "T", "r1", persona, asked, 1, typed=typed, problems=[("reason", text)]),
        pages.thanks_page(study, "r1"),
        pages.message_page(study, text, text, "./", text),
    ):
        page = is_page_text(server.page_response(html).body.decode("utf-8"))
        assert_only_ours(page)


def is_page_text(html: str) -> Page:
    page = Page(html)
    assert html.rstrip().endswith("</html>")
    return page


def test_a_later_answer_replaces_and_going_on_is_offered(client, store, at_work):
    for _ in range(2):
        send(client, at_work)
    page = is_page(client.get("/question", params={"token": at_work, "n": 1}), 200)
    assert page.areas == ["\n" + REASON]
    assert "go to question 3" in page.text
    again = send(client, at_work, "B", f"{REASON} On second thoughts.", n=1)
    assert "n=3" in again.headers["location"]
    answers = store.answers()
    assert [(a.choice, a.changes) for a in answers] == [("B", 1), ("A", 0)]
    assert "Question 1 is saved" in client.get(f"/{again.headers['location']}").text


def test_no_question_is_skipped_and_any_number_is_survived(client, at_work):
    send(client, at_work)
    for number in ("3", "4", "5", "99999", "0", "-1", "x", "²", "1e3", "9" * 400):
        where = client.get("/question", params={"token": at_work, "n": number}).url
        assert where.params["n"] == "2", number
    assert client.get("/question", params={"token": at_work, "n": "1", "saved": "<b>"}).status_code == 200
    assert client.get("/finish", params={"token": at_work}).url.path == "/question"


def test_sent_twice_is_one_answer(client, store, at_work):
    shown = client.get("/question", params={"token": at_work}).text
    form = hidden_fields(shown) | {"choice": "A", "reason": REASON}
    first, second = (client.post("/answer", data=form, follow_redirects=False) for _ in range(2))
    assert first.headers["location"] == second.headers["location"]
    assert [a.changes for a in store.answers()] == [0]


def test_nobody_answers_for_another(client, store, at_work):
    other = store.issue_tokens(1)[0]
    client.post("/begin", data={"token": other, "consent": "yes"})
    theirs = hidden_fields(client.get("/question", params={"token": other}).text)["item"]
    mine = {item for item, _ in store.items_of(store.rater(at_work))}
    assert theirs not in mine, "the two have the same persona; the test needs two"
    page = is_page(
        client.post("/answer", data={"token": at_work, "item": theirs, "choice": "A", "reason": REASON}), 422
    )
    assert "not one of yours" in page.text
    assert store.answers() == []


def test_who_has_finished_changes_nothing(client, store, at_work):
    html = client.get("/question", params={"token": at_work}).text
    rater = store.rater(at_work)
    answer_all(store, rater.rater_id, 1000.0)
    store.finish(rater.rater_id)
    before = store.answers()
    sent = client.post("/answer", data=hidden_fields(html) | {"choice": "A", "reason": f"{REASON} Other."})
    assert "finished" in is_page(sent, 409).text
    assert store.answers() == before


def test_unknown_tokens(client, store):
    for token in ("nobody", "", "é" * 22, "x" * 5000, "' OR 1=1 --", "a\0b"):
        for path in ("/question", "/finish", "/thanks"):
            response = client.get(path, params={"token": token}, follow_redirects=False)
            assert response.status_code in (404, 429)
            is_page(response, response.status_code)
    assert store.raters() == []


def test_wrong_tokens_are_counted_and_right_ones_go_on(client, at_work):
    seen = [client.get("/", params={"token": f"guess-{n}"}).status_code for n in range(25)]
    assert seen == [404] * 20 + [429] * 5
    refused = client.get("/", params={"token": "guess"})
    assert 1 <= int(refused.headers["retry-after"]) <= 61
    is_page(refused, 429)
    assert client.get("/question", params={"token": at_work}).status_code == 200


def test_a_rater_who_sends_too_much_waits_and_loses_nothing(study, store):
    study = dataclasses.replace(study, requests_per_minute=5)
    client = browser(study, store)
    first, second = store.issue_tokens(2)
    seen = [client.get("/", params={"token": first}).status_code for _ in range(7)]
    assert seen == [200] * 5 + [429] * 2
    assert client.get("/", params={"token": second}).status_code == 200


def test_every_error_is_a_page(client, at_work, monkeypatch):
    form = {"content-type": "application/x-www-form-urlencoded"}
    is_page(client.get("/nothing-here"), 404)
    deep = is_page(client.get("/a/b/c"), 404)
    assert deep.find("link", rel="stylesheet")["href"] == "../../page/style.css"
    is_page(client.get("/page/server.py"), 404)
    is_page(client.get("/page/..%2Fserver.py"), 404)
    is_page(client.get("/begin"), 405)
    is_page(client.post("/thanks", data={"token": at_work}), 405)
    is_page(client.post("/answer", content=b"x" * 70_000, headers=form), 413)
    is_page(client.post("/answer", content=(b"x" * 10_000 for _ in range(10)), headers=form), 413)
    is_page(client.post("/answer", json={"token": at_work}), 415)
    is_page(client.post("/answer", files={"reason": b"x"}), 415)
    is_page(client.post("/answer", content="&".join(f"a{n}=1" for n in range(50)), headers=form), 422)
    is_page(client.get("/export"), 404)

    def broken(*_: Any) -> Any:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(app.pages, "asked_of", broken)
    page = is_page(client.get("/question", params={"token": at_work}), 500)
    assert "Nothing that was saved is lost" in page.text
    assert "luck" not in page.text
    assert page.find("a", **{"class": "button"})["href"] == f"./?token={at_work}"


def test_a_database_that_cannot_be_written_is_no_fault_of_the_rater(client, store, at_work, monkeypatch, caplog):
    def full(*_: Any, **__: Any) -> Any:
        raise StorageError("the disk is full")

    monkeypatch.setattr(store, "save", full)
    with caplog.at_level(logging.ERROR):
        page = is_page(send(client, at_work), 503)
    assert "reload" in page.text
    assert "the disk is full" in caplog.text
    assert at_work not in caplog.text


@pytest.mark.parametrize("content", [b"\xff" * 4096, b"no database at all " * 400], ids=["damaged", "none"])
def test_a_database_that_was_damaged_meanwhile_is_no_fault_of_the_rater(study, store, at_work, content, caplog):
    client = browser(study, store, password=PASSWORD)
    shown = client.get("/question", params={"token": at_work})
    form = hidden_fields(shown.text) | {"choice": "A", "reason": REASON}
    store._database.close()
    store._database._closed = False  # as if every connection were in use: the next one is new
    for beside in store.path.parent.glob(f"{store.path.name}-*"):
        beside.unlink()
    whole = store.path.read_bytes()
    store.path.write_bytes(whole[:4096] + content * (len(whole) // 4096) if content[0] == 0xFF else content)
    with caplog.at_level(logging.ERROR):
        answers = [
            client.post("/answer", data=form),
            client.get("/question", params={"token": at_work}),
            client.get("/export", headers=basic(PASSWORD)),
        ]
    for answer in answers:
        page = is_page(answer, 503)
        assert "Not possible just now" in page.text
        assert "sqlite" not in answer.text
    assert str(store.path) in caplog.text
    store.path.write_bytes(whole)


def test_no_log_holds_a_token(client, at_work, monkeypatch, caplog):
    monkeypatch.setattr(app.pages, "asked_of", lambda *_: 1 / 0)
    with caplog.at_level(logging.DEBUG, logger="uvicorn.error"):
        client.get("/question", params={"token": at_work})
    assert "ZeroDivisionError" in caplog.text
    assert at_work not in caplog.text


def test_open_study_takes_whoever_comes_once(study, material, tmp_path):
    study = dataclasses.replace(study, recruiting="open")
    store = open_store(tmp_path / "open.sqlite", study, lambda: material)
    client = browser(study, store)
    page = is_page(client.get("/", params={"PROLIFIC_PID": "panel-7"}), 200)
    assert "The id that your panel gave you is not kept" in page.text
    assert "If you began earlier from the same panel" in page.text
    assert store.raters() == [], "nobody is registered before agreeing"
    fields = hidden_fields(client.get("/", params={"PROLIFIC_PID": "panel-7"}).text)
    assert fields == {"panel": "panel-7"}
    for _ in range(2):
        begun = client.post("/begin", data=fields | {"consent": "yes"}, follow_redirects=False)
        assert begun.headers["location"].startswith("question?token=")
    assert len(store.raters()) == 1
    # Without an id: the form itself has one, so a double click is one rater, another visit another.
    without = is_page(client.get("/"), 200)
    assert "your panel" not in without.text
    assert "from the same panel" not in without.text
    visit = hidden_fields(client.get("/").text)
    for _ in range(2):
        client.post("/begin", data=visit | {"consent": "yes"})
    assert len(store.raters()) == 2
    client.post("/begin", data=hidden_fields(client.get("/").text) | {"consent": "yes"})
    assert len(store.raters()) == 3
    assert "your panel" not in is_page(client.post("/begin", data=visit), 422).text
    store.close()


def test_a_placeholder_that_the_panel_left_unfilled_is_nobodys_id(study, material, tmp_path):
    study = dataclasses.replace(study, recruiting="open")
    store = open_store(tmp_path / "open.sqlite", study, lambda: material)
    client = browser(study, store)
    for wrong in ("{{%PROLIFIC_PID%}}", "%PROLIFIC_PID%", "[ID]", '"7"', "x" * 300):
        page = is_page(client.get("/", params={"PROLIFIC_PID": wrong}), 422)
        assert "This link is not complete" in page.text
        is_page(client.post("/begin", data={"panel": wrong, "consent": "yes"}), 422)
    is_page(client.post("/begin", data={"panel": "", "consent": "yes"}), 422)
    assert store.raters() == []
    store.close()


def test_one_address_does_not_take_all_places_at_once(study, material, tmp_path):
    study = dataclasses.replace(study, recruiting="open", raters_per_persona=10)
    store = open_store(tmp_path / "open.sqlite", study, lambda: material)
    client = browser(study, store, proxies=1)

    def begin(panel: str, address: str = "192.0.2.1") -> Any:
        form = {"panel": panel, "consent": "yes"}
        return client.post("/begin", data=form, headers={"x-forwarded-for": address}, follow_redirects=False)

    assert [begin(f"id{n}").status_code for n in range(5)] == [303] * 5
    refused = begin("id5")
    page = is_page(refused, 429)
    assert 0 < int(refused.headers["retry-after"]) <= 61
    assert page.find("a", **{"class": "button"})["href"] == "./?PROLIFIC_PID=id5"
    assert begin("id0").status_code == 303, "who came before goes on"
    assert begin("id5", "192.0.2.2").status_code == 303
    assert len(store.raters()) == 6
    store.close()


def test_tokens_study_gives_no_token(client, store):
    is_page(client.get("/"), 200)
    is_page(client.post("/begin", data={"panel": "me", "consent": "yes"}), 404)
    assert store.raters() == []


def test_full_study_says_so(client, study, store):
    for token in store.issue_tokens(study.raters):
        client.post("/begin", data={"token": token, "consent": "yes"})
    late = store.issue_tokens(1)[0]
    page = is_page(client.post("/begin", data={"token": late, "consent": "yes"}), 409)
    assert "All places are taken" in page.text
    assert store.rater(late).state == "new"


def basic(password: str, user: str = "anyone") -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_export_needs_the_password(study, store, at_work):
    client = browser(study, store, password=PASSWORD)
    send(client, at_work)
    asked = client.get("/export")
    is_page(asked, 401)
    assert asked.headers["www-authenticate"].startswith("Basic")
    for header in (
        basic("wrong"),
        basic(""),
        basic(PASSWORD + " "),
        {"authorization": "Basic ???"},
        {"authorization": f"Bearer {PASSWORD}"},
    ):
        is_page(client.get("/export", headers=header), 401)
    given = client.get("/export", headers=basic(PASSWORD))
    assert given.status_code == 200
    archive = zipfile.ZipFile(io.BytesIO(given.content))
    files = {name: archive.read(name) for name in archive.namelist()}
    assert files == export_files(store)
    assert at_work.encode() not in given.content + b"".join(files.values())
    assert client.get("/export", headers=basic(PASSWORD)).content == given.content


def test_guessing_the_password_is_slow(study, store):
    client = browser(study, store, password=PASSWORD)
    seen = [client.get("/export", headers=basic(f"guess {n}")).status_code for n in range(21)]
    assert seen == [401] * 20 + [429]
    assert client.get("/export", headers=basic(PASSWORD)).status_code == 429, "a right guess must not tell either"


def test_the_address_is_believed_of_as_many_proxies_as_there_are(study, store):
    def request(line: str | None) -> Any:
        headers = SimpleNamespace(getlist=lambda _: [] if line is None else [line])
        return SimpleNamespace(headers=headers, client=SimpleNamespace(host="10.0.0.1"))

    assert address_of(request("1.2.3.4"), 0) == "10.0.0.1"
    assert address_of(request("6.6.6.6, 1.2.3.4"), 1) == "1.2.3.4"
    assert address_of(request("6.6.6.6, 1.2.3.4, 10.9.9.9"), 2) == "1.2.3.4"
    assert address_of(request(None), 1) == "10.0.0.1"
    for proxies, expected in ((0, 429), (1, 404)):
        client = browser(study, store, proxies=proxies)
        seen = [
            client.get("/", params={"token": "guess"}, headers={"x-forwarded-for": f"1.2.3.{n}"}).status_code
            for n in range(25)
        ]
        assert seen[-1] == expected


def test_nothing_of_gradio_is_reachable(study, store):
    """As launched, when Gradio has added its own routes; and who connects from this machine cannot name another address as its own."""
    import httpx2 as httpx

    with in_thread(study, store) as address:
        for path in (
            "/config",
            "/gradio_api/info",
            "/gradio_api/upload",
            "/theme.css",
            "/docs",
            "/openapi.json",
            "/login",
            "/foo",
            "/robots.txt",
        ):
            assert httpx.get(address + path).status_code == 404, path
        assert httpx.post(f"{address}/gradio_api/upload", content=b"x").status_code == 404
        assert httpx.get(f"{address}/begin").status_code == 405
        assert httpx.head(f"{address}/").status_code == 200
        seen = [
            httpx.get(f"{address}/?token=guess", headers={"x-forwarded-for": f"1.2.3.{n}"}).status_code
            for n in range(21)
        ]
        assert seen[-1] == 429
        # More than one packet: the answer still arrives.
        big = httpx.post(
            f"{address}/answer", content=b"x" * 300_000, headers={"content-type": "application/x-www-form-urlencoded"}
        )
        assert big.status_code == 413


def test_the_command_says_what_it_serves_and_ends_at_a_signal(study_file):
    with as_process(study_file, password=PASSWORD) as served:
        said = served.output
        for words in (served.address, "4 places", "persona annotate tokens", "STUDY.sqlite", "/export is open"):
            assert words in said
        assert PASSWORD not in said
        assert served.end(signal.SIGTERM) == 0
        assert "Every answer is in" in served.output


def test_serve_refuses_a_weak_password_and_a_taken_port(study_file, store, study, monkeypatch):
    monkeypatch.setenv(app.PASSWORD, "short")
    with pytest.raises(InputError, match="5 characters"):
        app.serve(study_file, None, "127.0.0.1", free_port())
    monkeypatch.delenv(app.PASSWORD)
    with in_thread(study, store) as address, pytest.raises(InputError, match="Choose another with --port"):
        app.serve(study_file, None, "127.0.0.1", int(address.rpartition(":")[2]))


def test_rate_limit_slides(monkeypatch):
    limit = RateLimit(2, 60)
    assert [limit.take("a", now) for now in (0, 10, 20)] == [0, 0, 40]
    assert limit.take("b", 20) == 0
    assert limit.wait("a", 59) == 1
    assert limit.take("a", 60) == 0, "a refused event must not prolong the wait"
    assert limit.take("a", 61) == 9
    monkeypatch.setattr(rate_limit, "MOST_KEYS", 3)
    for n in range(100):
        limit.take(f"key {n}", 70)
    assert len(limit._events) == 3


# Of WCAG 2.1: text and edges of controls on every ground that they stand on.
PAIRS = [
    *((ink, ground, 4.5) for ink in ("ink", "soft", "accent") for ground in ("paper", "ground", "tint")),
    ("accent-ink", "accent", 4.5),
    ("bad", "bad-tint", 4.5),
    ("bad", "paper", 4.5),
    ("bad", "ground", 4.5),
    ("ink", "bad-tint", 4.5),
    ("good", "good-tint", 4.5),
    *((edge, ground, 3.0) for edge in ("edge", "accent", "bad") for ground in ("paper", "ground")),
]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_have_enough_contrast(scheme):
    css = (server.TEMPLATES / "style.css").read_text(encoding="utf-8")
    blocks = [
        dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block)) for block in re.findall(r":root \{(.*?)\}", css, re.S)
    ]
    colours = blocks[0] if scheme == "light" else blocks[0] | blocks[1]
    for ink, ground, least in PAIRS:
        ratio = contrast(colours[ink], colours[ground])
        assert ratio >= least, f"{scheme}: {ink} on {ground} has {ratio:.2f}"


def test_no_page_has_a_colour_of_its_own():
    """Only style.css's variables, which the test above has measured."""
    css = (server.TEMPLATES / "study.css").read_text(encoding="utf-8")
    assert not re.findall(r"#[0-9a-f]{3,8}\b(?=[;, ])|rgba?\(|hsl", re.sub(r"/\*.*?\*/|^[^{]*", "", css))
    for template in [*pages.TEMPLATES.iterdir(), *server.TEMPLATES.glob("*.html")]:
        assert not re.findall(
            r"\sstyle=|\son[a-z]+=|<script>|<style|https?://|\|\s*safe", template.read_text(encoding="utf-8")
        ), template


def contrast(one: str, other: str) -> float:
    """The ratio of WCAG 2.1, from 1 to 21."""

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
