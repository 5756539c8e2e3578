"""What a study must survive, through real HTTP and the command line: kills, two raters at once, hostile text, files that do not belong."""

import html
import shutil
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx2
import pytest

import persona
from builder.files import write_text
from eval.human.opening import database_path, open_study
from eval.human.study import LONGEST_ANSWER
from tests.human.conftest import REASON, STUDY
from tests.human.study_server import as_process, hidden_fields, in_thread

QUESTIONS = 4  # of one rater of the study of conftest, its attention check among them
HOSTILE = (
    "</textarea></form><script>alert(1)</script><img src=x onerror=alert(2)> {{ 7 * 7 }} {% raw %} '; DROP TABLE answers; -- "
    "\u202eright to left\u202c \u0000 \x1b[31m ../../etc/passwd \U0001f642 &amp; &lt;b&gt;"
)
CLEANED = HOSTILE.replace("\0", "").replace("\x1b", "")  # no control characters
Sent = dict[
    tuple[str, str], tuple[str, str]
]  # (token, item) -> choice and reasoning, of answers whose response arrived


class Person:
    """One rater with a browser of their own."""

    def __init__(self, address: str, token: str) -> None:
        self.token = token
        self.client = httpx2.Client(base_url=address, timeout=30)

    def begin(self) -> "Person":
        response = self.client.post("/begin", data={"token": self.token, "consent": "yes"})
        assert response.status_code == 303, response.text
        return self

    def get(self, page: str, **values: object) -> httpx2.Response:
        return self.client.get(page, params={"token": self.token, **values}, follow_redirects=True)

    def open_item(self) -> str | None:
        """Item id of the first question without an answer; None where there is none."""
        return hidden_fields(self.get("/question").text).get("item")

    def answer(self, item: str, choice: str = "A", reason: str = REASON) -> httpx2.Response:
        form = {"token": self.token, "item": item, "choice": choice, "reason": reason, "pasted": "0"}
        return self.client.post("/answer", data=form)

    def finish(self) -> httpx2.Response:
        return self.client.post("/finish", data={"token": self.token}, follow_redirects=True)


def issue(study_file: Path, count: int) -> list[str]:
    _, store = open_study(study_file)
    with closing(store):
        return store.issue_tokens(count)


def kept(study_file: Path, tokens: list[str]) -> Sent:
    """What the database holds of these raters' answers."""
    _, store = open_study(study_file, create=False)
    with closing(store):
        ids = {rater.rater_id: token for token in tokens if (rater := store.rater(token))}
        answers = [answer for answer in store.answers() if answer.rater_id in ids]
        return {(ids[answer.rater_id], answer.item_id): (answer.choice, answer.reason) for answer in answers}


# ---- kills ----


def test_kills_lose_no_answer_that_was_confirmed_and_the_raters_go_on(study_file: Path) -> None:
    raters = 8
    write_text(study_file, study_file.read_text().replace("raters_per_persona: 2", "raters_per_persona: 4"))
    tokens = issue(study_file, raters)
    sent: Sent = {}
    lock, enough = threading.Lock(), threading.Event()

    def go(person: Person) -> None:
        try:
            while found := person.open_item():
                reason = f"{REASON} {person.token} {found}"
                if person.answer(found, "B", reason).status_code != 303:
                    return
                with lock:
                    sent[person.token, found] = ("B", reason)
                if len(sent) >= raters * QUESTIONS // 3:
                    enough.set()
        except httpx2.TransportError:
            pass  # the kill; whether this answer was saved nobody knows

    # In the middle of many answers.
    with as_process(study_file) as server, ThreadPoolExecutor(raters) as threads:
        people = [Person(server.address, token).begin() for token in tokens]
        work = [threads.submit(go, person) for person in people]
        assert enough.wait(30)
        server.kill()
        for done in work:
            done.result()
    assert raters * QUESTIONS // 3 <= len(sent) < raters * QUESTIONS
    there = kept(study_file, tokens)
    assert {key: there.get(key) for key in sent} == sent

    # Between two answers: right after the response of one.
    with as_process(study_file) as server:
        person = next(person for token in tokens if (person := Person(server.address, token)).open_item())
        found = person.open_item()
        assert found is not None
        assert person.answer(found, "A", f"{REASON} The last one.").status_code == 303
        server.kill()
    sent[person.token, found] = ("A", f"{REASON} The last one.")
    there = kept(study_file, tokens)
    assert {key: there.get(key) for key in sent} == sent

    study, store = open_study(study_file)
    with closing(store), in_thread(study, store) as address:
        for token in tokens:
            person = Person(address, token)
            while found := person.open_item():
                assert (token, found) not in there  # nobody is asked again what was answered
                assert person.answer(found).status_code == 303
            assert "DONE-1234" in person.finish().text
    there = kept(study_file, tokens)
    assert len(there) == raters * QUESTIONS
    assert {key: there.get(key) for key in sent} == sent
    with closing(sqlite3.connect(database_path(study_file))) as connection:
        assert connection.execute("SELECT COUNT(*), SUM(changes) FROM answers").fetchone() == (raters * QUESTIONS, 0)


# ---- one server for all that it must bear ----


@pytest.fixture(scope="module")
def served(published_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The study file, with places for every test, and the address."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "data").symlink_to(published_data)
    path = folder / "STUDY.yaml"
    text = STUDY.replace("raters_per_persona: 2", "raters_per_persona: 50") + "requests_per_minute: 1000\n"
    path.write_text(text, encoding="utf-8")
    open_study(path)[1].close()
    with as_process(path) as server:
        yield path, server.address


@pytest.fixture
def person(served: tuple[Path, str]) -> Person:
    """A rater of their own for each test, who has begun."""
    path, address = served
    return Person(address, issue(path, 1)[0]).begin()


def kept_of(served: tuple[Path, str], person: Person) -> list[tuple[str, str]]:
    """(choice, reasoning) of every answer of one rater."""
    return list(kept(served[0], [person.token]).values())


def test_two_at_once_have_a_persona_and_answers_each(served: tuple[Path, str]) -> None:
    path, address = served
    tokens = issue(path, 2)
    one, other = (Person(address, token).begin() for token in tokens)
    shown = []
    for number in range(QUESTIONS):
        items = [person.open_item() or pytest.fail("no question") for person in (one, other)]
        shown += items
        # Each answers while the other's page is open, with words of their own.
        for person, found in zip((one, other), items, strict=True):
            assert person.answer(found, "A", f"{REASON} {person.token} {number}").status_code == 303
    pages = [person.get("/finish").text for person in (one, other)]
    assert tokens[0] in pages[0]
    assert tokens[1] not in pages[0]
    assert tokens[0] not in pages[1]
    # A question of the other's is nothing that one could answer.
    assert one.answer(shown[1], "B", "Written where it does not belong, on purpose.").status_code == 422
    assert all("DONE-1234" in person.finish().text for person in (one, other))
    there = kept(path, tokens)
    assert len(there) == 2 * QUESTIONS
    assert all(token in reason for (token, _), (_, reason) in there.items())
    _, store = open_study(path, create=False)
    with closing(store):
        assert len({rater.persona_id for token in tokens if (rater := store.rater(token))}) == 2


def test_the_same_answer_sent_four_times_at_once_is_one_answer(served: tuple[Path, str], person: Person) -> None:
    item = person.open_item() or pytest.fail("no question")
    with ThreadPoolExecutor(4) as threads:
        responses = list(threads.map(lambda _: Person(served[1], person.token).answer(item), range(4)))
    assert [response.status_code for response in responses] == [303] * 4
    _, store = open_study(served[0], create=False)
    with closing(store):
        rater = store.rater(person.token)
        assert rater is not None
        assert [answer.changes for answer in store.answers(rater.rater_id)] == [0]
        assert sum(version["rater_id"] == rater.rater_id for version in store.versions()) == 1


def test_a_token_that_was_never_issued_opens_nothing(served: tuple[Path, str]) -> None:
    for token in ("x" * 22, "' OR 1=1 --", "x" * 5000, "\u202e\u0000"):
        stranger = Person(served[1], token)
        responses = [stranger.get("/")]
        if token == "x" * 22:
            responses += [stranger.get(page) for page in ("/question", "/finish", "/thanks")]
            responses += [stranger.answer("any"), stranger.finish()]
        for response in responses:
            assert response.status_code == 404, response.url
            assert "<h1" in response.text
            assert "DONE-1234" not in response.text


def test_a_token_that_was_used_shows_the_code_again_and_changes_nothing(
    served: tuple[Path, str], person: Person
) -> None:
    items = []
    while found := person.open_item():
        items.append(found)
        person.answer(found)
    person.finish()
    for page in ("/", "/question", "/finish"):
        response = person.get(page)
        assert response.url.path == "/thanks", page
        assert "DONE-1234" in response.text
    before = kept_of(served, person)
    late = person.answer(items[0], "B", "Something else that came to mind much later.")
    assert late.status_code == 409
    assert "can no longer be changed" in late.text
    assert kept_of(served, person) == before
    assert "DONE-1234" in person.finish().text


def test_hostile_text_is_kept_as_it_is_and_runs_nowhere(served: tuple[Path, str], person: Person) -> None:
    item = person.open_item() or pytest.fail("no question")
    assert person.answer(item, "A", HOSTILE).status_code == 303
    page = person.get("/question", n=1)
    # A browser reads back what was written, and nothing of it is markup.
    assert html.unescape(page.text.partition("</textarea>")[0].rpartition(">")[2]).strip() == CLEANED
    while found := person.open_item():
        person.answer(found, "B", HOSTILE)
    for shown in (page, person.get("/finish")):
        assert "<script>alert(1)" not in shown.text
        assert "<img src=x" not in shown.text
        assert "{{ 7 * 7 }}" in shown.text
        assert "script-src 'self'" in shown.headers["content-security-policy"]
    assert [reason for _, reason in kept_of(served, person)] == [CLEANED] * QUESTIONS


def test_oversized_text_is_refused_with_the_text_kept_and_nothing_lost(
    served: tuple[Path, str], person: Person
) -> None:
    item = person.open_item() or pytest.fail("no question")
    assert person.answer(item, "A", "The first answer, which is kept.").status_code == 303
    long = "word " * (LONGEST_ANSWER // 5 + 100)
    refused = person.answer(item, "B", long)
    assert refused.status_code == 422
    assert long.strip() in refused.text
    assert str(LONGEST_ANSWER) in refused.text.replace(",", "")
    assert person.answer(item, "B", "w" * 200_000).status_code == 413
    assert person.open_item() not in (item, None)
    assert kept_of(served, person) == [("A", "The first answer, which is kept.")]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"choice": "C"}, 422),
        ({"choice": ""}, 422),
        ({"reason": "short"}, 422),
        ({"reason": " " * 500}, 422),
        ({"item": "check/of-another"}, 422),
        ({"item": ""}, 422),
        ({"made-up": "9" * 400}, 303),
        ({"pasted": "many"}, 303),
        ({"pasted": "-5"}, 303),
    ],
    ids=lambda value: "-".join(f"{k} {v.strip()[:9]}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_a_form_that_was_tampered_with_breaks_nothing(
    served: tuple[Path, str], person: Person, change: dict[str, str], status: int
) -> None:
    item = person.open_item() or pytest.fail("no question")
    form = {"token": person.token, "item": item, "choice": "A", "reason": REASON, "pasted": "0"} | change
    assert person.client.post("/answer", data=form).status_code == status
    # What only the script counts, and a field that is none of ours, decides nothing; the rest saves nothing.
    assert kept_of(served, person) == ([("A", REASON)] if status == 303 else [])


@pytest.mark.parametrize("body", [b"", b"\xff\xfe%ff=%00", b"token=%FF&choice=A", b"a=1&" * 500], ids=repr)
def test_a_body_that_is_no_form_gets_a_page(served: tuple[Path, str], body: bytes) -> None:
    for page in ("/begin", "/answer", "/finish"):
        headers = {"content-type": "application/x-www-form-urlencoded"}
        response = httpx2.post(served[1] + page, content=body, headers=headers)
        assert 400 <= response.status_code < 500, (page, response.status_code)
        assert "<h1" in response.text


# ---- files that do not belong ----


class Command:
    """`persona annotate serve STUDY.yaml` where it has to refuse."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def refuse(self, study_file: Path, *options: str) -> str:
        """What it says on standard error; the exit code is 2."""
        self.monkeypatch.setattr("sys.argv", ["persona", "annotate", "serve", str(study_file), *options])
        with pytest.raises(SystemExit) as ended:
            persona.main()
        assert ended.value.code == 2
        return self.capsys.readouterr().err


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


@pytest.fixture
def never_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that starts although it should not would never end."""

    def launch(*arguments: object, **options: object) -> None:
        pytest.fail("it was served")

    monkeypatch.setattr("eval.human.app.launch", launch)


def answered(study_file: Path) -> bytes:
    """A study with one answer; the database's content afterwards."""
    _, store = open_study(study_file)
    with closing(store):
        rater = store.rater(store.issue_tokens(1)[0])
        assert rater is not None
        rater = store.begin(rater.rater_id)
        store.save(rater.rater_id, store.items_of(rater)[0][0], "A", REASON)
    return database_path(study_file).read_bytes()


@pytest.mark.usefixtures("never_served")
def test_a_study_file_that_changed_after_the_first_answer_is_refused_by_its_keys(
    study_file: Path, command: Command
) -> None:
    before = answered(study_file)
    text = study_file.read_text()
    write_text(
        study_file, text.replace("minimum_characters: 20", "minimum_characters: 30").replace("DONE-1234", "OTHER")
    )
    said = command.refuse(study_file)
    assert "since the first answer" in said
    assert "minimum_characters" in said
    assert "completion_code" in said
    assert database_path(study_file).read_bytes() == before
    write_text(study_file, text)
    _, store = open_study(study_file, create=False)
    with closing(store):
        assert len(store.answers()) == 1


def test_a_study_file_that_changed_before_the_first_answer_is_taken_over_with_its_tokens(study_file: Path) -> None:
    token = issue(study_file, 1)[0]
    write_text(study_file, study_file.read_text().replace("minimum_characters: 20", "minimum_characters: 50"))
    study, store = open_study(study_file)
    with closing(store), in_thread(study, store) as address:
        person = Person(address, token).begin()
        item = person.open_item() or pytest.fail("no question")
        assert person.answer(item, "A", "x" * 49).status_code == 422
        assert person.answer(item, "A", "x" * 50).status_code == 303
    assert list(kept(study_file, [token]).values()) == [("A", "x" * 50)]


def other_study(study_file: Path) -> None:
    answered(study_file)
    text = study_file.read_text().replace("title: A small study", "title: Another study")
    write_text(study_file, text + "seed: 7\n")


def no_database(study_file: Path) -> None:
    database_path(study_file).write_text("title: this is YAML\n" * 100)


def foreign_database(study_file: Path) -> None:
    with closing(sqlite3.connect(database_path(study_file))) as connection:
        connection.execute("CREATE TABLE songs (name TEXT)")
        connection.commit()


def simulated_database(study_file: Path) -> None:
    _, store = open_study(study_file, simulated=True)
    store.close()
    shutil.move(database_path(study_file, simulated=True), database_path(study_file))


def cut_database(study_file: Path) -> None:
    whole = answered(study_file)
    database_path(study_file).write_bytes(whole[: len(whole) // 2])


@pytest.mark.usefixtures("never_served")
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (other_study, "belongs to another study"),
        (no_database, "no SQLite file"),
        (foreign_database, "of another program"),
        (simulated_database, "answers of simulated raters"),
        (cut_database, "damaged"),
    ],
    ids=["another study", "a text", "another program", "simulated", "cut off"],
)
def test_a_database_that_does_not_belong_is_refused_and_stays_as_it_is(
    study_file: Path, command: Command, spoil: Callable[[Path], None], says: str
) -> None:
    spoil(study_file)
    before = database_path(study_file).read_bytes()
    assert says in command.refuse(study_file)
    assert database_path(study_file).read_bytes() == before


@pytest.mark.usefixtures("never_served")
def test_a_study_file_that_is_not_there_is_said(tmp_path: Path, command: Command) -> None:
    assert "There is no study file" in command.refuse(tmp_path / "NONE.yaml")


def test_a_port_that_is_taken_is_said(study_file: Path, command: Command) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = command.refuse(study_file, "--port", str(port))
    assert f"Port {port}" in said
    assert "--port" in said
