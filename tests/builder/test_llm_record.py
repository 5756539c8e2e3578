"""What is recorded, under which key, and what is replayed."""

import contextlib
import dataclasses
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import InputError
from builder.llm.messages import Answer, ChatRequest, Failure, Sampling, ScoreRequest, TokenScores, Usage
from builder.llm.record import Record, record_key, record_keys

ROOT = Path(__file__).parents[2]
IDENTITY = {"model": "m", "revision": "r"}
REQUEST = ChatRequest(
    messages=({"role": "system", "content": "s"}, {"role": "user", "content": "u"}),
    sampling=Sampling(max_tokens=10, temperature=0.5, top_p=0.9, end_sentence_after=3),
    template="answer@1",
    seed=1,
)


def key_of(number):
    return f"{number:032x}"


CHANGES = [
    {"messages": ({"role": "system", "content": "other"}, {"role": "user", "content": "u"})},
    {"messages": ({"role": "system", "content": "s"}, {"role": "user", "content": "other"})},
    {"messages": ({"role": "user", "content": "s"}, {"role": "user", "content": "u"})},
    {"sampling": dataclasses.replace(REQUEST.sampling, max_tokens=11)},
    {"sampling": dataclasses.replace(REQUEST.sampling, temperature=0.6)},
    {"sampling": dataclasses.replace(REQUEST.sampling, top_p=0.8)},
    {"sampling": dataclasses.replace(REQUEST.sampling, end_sentence_after=None)},
    {"template": "answer@2"},
    {"seed": 2},
    {"sample_index": 1},
    {"attempt": 1},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: "-".join(c))
def test_every_field_of_a_request_changes_its_key(change):
    assert record_key(dataclasses.replace(REQUEST, **change), IDENTITY) != record_key(REQUEST, IDENTITY)


def test_the_changes_above_cover_every_field():
    assert {name for change in CHANGES for name in change} == {f.name for f in dataclasses.fields(ChatRequest)}
    sampled = {f.name for f in dataclasses.fields(Sampling)}
    changed = [c["sampling"] for c in CHANGES if "sampling" in c]
    assert {n for s in changed for n in sampled if getattr(s, n) != getattr(REQUEST.sampling, n)} == sampled


def test_model_revision_and_kind_of_request_change_the_key():
    score = ScoreRequest(REQUEST.messages, "text", REQUEST.template)
    keys = {
        record_key(r, i)
        for r in (REQUEST, score)
        for i in (IDENTITY, IDENTITY | {"revision": "q"}, IDENTITY | {"model": "n"})
    }
    assert len(keys) == 6
    assert record_key(dataclasses.replace(score, continuation="text "), IDENTITY) != record_key(score, IDENTITY)


@given(st.text(), st.text())
def test_a_key_depends_on_where_a_text_stands(a, b):
    def key(system, user):
        messages = ({"role": "system", "content": system}, {"role": "user", "content": user})
        return record_key(dataclasses.replace(REQUEST, messages=messages), IDENTITY)

    assert (key(a, b) == key(b, a)) == (a == b)


@given(st.lists(st.text(max_size=3), max_size=4), st.lists(st.text(max_size=3), max_size=4))
def test_messages_share_a_key_only_if_they_are_equal(first, second):
    def key(texts):
        messages = tuple({"role": "user", "content": text} for text in texts)
        return record_key(dataclasses.replace(REQUEST, messages=messages), IDENTITY)

    assert (key(first) == key(second)) == (first == second)


def test_keys_of_many_requests_are_those_of_each():
    many = [REQUEST, dataclasses.replace(REQUEST, seed=2), dataclasses.replace(REQUEST, attempt=1), REQUEST]
    many.append(ScoreRequest(REQUEST.messages, "text", REQUEST.template))
    assert record_keys(many, IDENTITY) == [record_key(request, IDENTITY) for request in many]


REPLIES = {
    key_of(1): Answer("Grüße\n“quoted” 🙂", Usage(3, 4)),
    key_of(2): TokenScores((-0.1, -2.5, 1 / 3), Usage(5, 0)),
    key_of(3): Failure("truncated", "why", "half an ans", Usage(1, 2)),
    key_of(4): Answer("with \x00 inside", Usage(1, 1)),
    key_of(5): TokenScores(()),
}


def record_of(path, replies, **settings):
    record = Record(path, **settings)
    record.add((key, REQUEST, reply, {"role": "x"}) for key, reply in replies.items())
    return record


def test_recorded_replies_come_back_as_they_were(tmp_path):
    record_of(tmp_path / "r.sqlite", REPLIES).close()
    assert Record(tmp_path / "r.sqlite").find([*REPLIES, key_of(9)]) == REPLIES


def test_more_keys_than_one_lookup_takes(tmp_path):
    replies = {key_of(i): Answer(str(i)) for i in range(1201)}
    assert record_of(tmp_path / "r.sqlite", replies).find([*replies, key_of(5000)]) == replies


def test_a_calls_duration_is_kept_and_is_no_part_of_the_reply(tmp_path):
    record = record_of(tmp_path / "r.sqlite", {key_of(1): Answer("a", Usage(1, 1, seconds=2.5))})
    found = record.find([key_of(1)])[key_of(1)]
    assert found.usage.seconds == 2.5
    assert found == Answer("a", Usage(1, 1))


def test_a_reply_that_is_there_is_not_replaced(tmp_path):
    record = record_of(tmp_path / "r.sqlite", {key_of(1): Answer("first")})
    record.add([(key_of(1), REQUEST, Answer("second"), {})])
    assert record.find([key_of(1)]) == {key_of(1): Answer("first")}


def test_what_may_pass_is_not_recorded_and_failures_are_no_answers(tmp_path):
    down, cut = key_of(1), key_of(2)
    record = record_of(tmp_path / "r.sqlite", {down: Failure("endpoint_error", "503"), cut: Failure("truncated")})
    assert down not in record.find([down])
    assert record.find([cut], failures=False) == {}
    assert record.count() == (0, 1)


def test_an_answer_counts_more_than_the_failed_attempt_before_it(tmp_path):
    record = record_of(tmp_path / "r.sqlite", {key_of(1): Failure("truncated")})
    record.add([(key_of(1), REQUEST, Answer("at last"), {})])
    assert record.find([key_of(1)]) == {key_of(1): Answer("at last")}


def test_a_file_that_is_no_record_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "r.sqlite").write_text("this is not a database, it is a text of some length" * 40)
    for read_only in (False, True):
        with pytest.raises(InputError, match=r"not a readable record.*Move it away"):
            Record(tmp_path / "r.sqlite", read_only=read_only)


@pytest.mark.parametrize("read_only", [False, True])
def test_a_record_of_the_first_layout_is_refused_and_left_alone(tmp_path, read_only):
    path = tmp_path / "r.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE answers (key TEXT PRIMARY KEY, response TEXT, request TEXT, provenance TEXT)")
        connection.execute("INSERT INTO answers VALUES ('k', 'r', 'q', 'p')")
    with pytest.raises(InputError, match=r"layout 1 .* reads layout 2.*Move the file away"):
        Record(path, read_only=read_only)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT * FROM answers").fetchall() == [("k", "r", "q", "p")]


def test_a_record_of_a_later_layout_is_refused(tmp_path):
    Record(tmp_path / "r.sqlite").close()
    with sqlite3.connect(tmp_path / "r.sqlite") as connection:
        connection.execute("PRAGMA user_version = 9")
    with pytest.raises(InputError, match="layout 9"):
        Record(tmp_path / "r.sqlite")


@pytest.mark.parametrize("content", [None, b""], ids=["absent", "empty"])
def test_a_read_only_record_need_not_exist(tmp_path, content):
    path = tmp_path / "r #1?.sqlite"
    if content is not None:
        path.write_bytes(content)
    record = Record(path, read_only=True)
    assert (record.find([key_of(1)]), record.count()) == ({}, (0, 0))
    assert path.exists() == (content is not None)


def test_a_path_may_hold_what_an_address_gives_a_meaning(tmp_path):
    path = tmp_path / "a #1?mode=rwc%20.sqlite"
    record_of(path, REPLIES).close()
    assert Record(path, read_only=True).find(list(REPLIES)) == REPLIES


def test_a_full_disk_leaves_what_was_recorded_readable(tmp_path):
    record = record_of(tmp_path / "r.sqlite", {key_of(0): Answer("kept")})
    # SQLite's own limit stands for a disk without room: the same error, at the same place.
    pages = record._connection.execute("PRAGMA page_count").fetchone()[0]
    record._connection.execute(f"PRAGMA max_page_count={pages}")
    other = dataclasses.replace(REQUEST, template="other@1")
    with pytest.raises(InputError, match=r"disk that holds .* is full"):
        record.add([(key_of(i), other, Answer("x" * 5000), {}) for i in range(1, 200)])
    # The description of the lost replies was lost with them, and is written again with the next.
    record._connection.execute("PRAGMA max_page_count=100000")
    record.add([(key_of(500), other, Answer("later"), {})])
    record.close()
    kept = Record(tmp_path / "r.sqlite")
    assert kept.find([key_of(i) for i in range(501)]) == {key_of(0): Answer("kept"), key_of(500): Answer("later")}
    joined = "SELECT template FROM answers JOIN origins ON origins.id = origin ORDER BY answers.rowid"
    assert [row[0] for row in kept.read(joined)] == ["answer@1", "other@1"]


def test_a_transaction_that_fails_leaves_nothing_of_itself(tmp_path):
    record = record_of(tmp_path / "r.sqlite", {key_of(0): Answer("kept")})

    def interrupted():
        with record.writing():
            record.put("answers", [(bytes.fromhex(key_of(1)), 1, 0, 0, 1, 1, 1, 0.0, "half done")])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    record.add([(key_of(2), REQUEST, Answer("next"), {})])
    assert list(record.find([key_of(n) for n in range(3)])) == [key_of(0), key_of(2)]


def test_the_record_is_one_plain_sqlite_file_that_says_what_was_asked_of_whom(tmp_path):
    record = Record(tmp_path / "r.sqlite")
    provenance = {"role": "generator", "provider": "openai", "base_url": "http://127.0.0.1:1/v1"}
    for number in range(3):
        asked = dataclasses.replace(REQUEST, sample_index=number, attempt=2)
        record.add([(key_of(number), asked, Answer("text", Usage(7, 1)), provenance)])
    record.close()
    connection = sqlite3.connect(tmp_path / "r.sqlite")
    assert connection.execute(
        "SELECT kind, template, sampling, seed, role, provider, base_url FROM origins"
    ).fetchall() == [
        (
            *("chat", "answer@1", '{"end_sentence_after":3,"max_tokens":10,"temperature":0.5,"top_p":0.9}'),
            *("1", "generator", "openai", "http://127.0.0.1:1/v1"),
        )
    ]
    rows = connection.execute(
        "SELECT rowid, sample_index, attempt, prompt_characters, prompt_tokens, reply FROM answers"
    )
    assert rows.fetchall() == [(n + 1, n, 2, 2, 7, "text") for n in range(3)]


def test_a_request_is_not_stored_again(tmp_path):
    long = dataclasses.replace(REQUEST, messages=({"role": "user", "content": "unmistakable " * 500},))
    record = Record(tmp_path / "r.sqlite")
    record.add((key_of(i), long, Answer("short"), {}) for i in range(2000))
    record.close()
    content = (tmp_path / "r.sqlite").read_bytes()
    assert b"unmistakable" not in content
    assert len(content) < 2000 * 110 + 50_000


def test_a_worker_finds_what_the_main_record_has_and_writes_its_own(tmp_path):
    answers = {key_of(i): Answer(f"main {i}") for i in range(4)}
    record_of(tmp_path / "main.sqlite", {**answers, key_of(7): Failure("empty")}).close()
    before = (tmp_path / "main.sqlite").read_bytes()
    worker = record_of(tmp_path / "w.sqlite", {key_of(8): Answer("own")}, fallback=tmp_path / "main.sqlite")
    worker.add([(key_of(7), REQUEST, Answer("asked again"), {})])
    everything = {**answers, key_of(7): Answer("asked again"), key_of(8): Answer("own")}
    assert worker.find([*everything, key_of(9)]) == everything
    assert worker.count() == (2, 0)
    assert (tmp_path / "main.sqlite").read_bytes() == before


def test_a_worker_s_failed_attempt_does_not_hide_the_main_record_s_answer(tmp_path):
    record_of(tmp_path / "main.sqlite", {key_of(1): Answer("main")}).close()
    worker = record_of(tmp_path / "w.sqlite", {key_of(1): Failure("empty")}, fallback=tmp_path / "main.sqlite")
    assert worker.find([key_of(1)]) == {key_of(1): Answer("main")}


def test_absorbing_takes_over_what_is_absent_and_replaces_nothing(tmp_path):
    main = record_of(tmp_path / "main.sqlite", {key_of(1): Answer("mine"), key_of(2): Answer("both")})
    worker = Record(tmp_path / "w.sqlite")
    worker.add([(key_of(1), dataclasses.replace(REQUEST, template="critique@1"), Answer("theirs"), {"role": "critic"})])
    worker.add([(key_of(9), dataclasses.replace(REQUEST, template="critique@1"), Answer("new"), {"role": "critic"})])
    worker.add(
        [(key_of(5), REQUEST, TokenScores((-1.0,)), {"role": "x"}), (key_of(6), REQUEST, Failure("empty", "d"), {})]
    )
    worker.close()
    before = (tmp_path / "w.sqlite").read_bytes()
    assert main.absorb(tmp_path / "w.sqlite") == 3
    assert main.absorb(tmp_path / "w.sqlite") == 0
    assert main.find([key_of(i) for i in range(10)]) == {
        key_of(1): Answer("mine"),
        key_of(2): Answer("both"),
        key_of(5): TokenScores((-1.0,)),
        key_of(6): Failure("empty", "d"),
        key_of(9): Answer("new"),
    }
    described = "SELECT role, template FROM answers JOIN origins ON origins.id = origin WHERE key = ?"
    assert main.read(described, [bytes.fromhex(key_of(9))]).fetchone() == ("critic", "critique@1")
    assert main.read(described, [bytes.fromhex(key_of(5))]).fetchone() == ("x", "answer@1")
    assert (tmp_path / "w.sqlite").read_bytes() == before


def test_absorbing_what_is_no_record_changes_nothing(tmp_path):
    main = record_of(tmp_path / "main.sqlite", REPLIES)
    (tmp_path / "text").write_text("no record " * 500)
    with pytest.raises(InputError, match="not a readable record"):
        main.absorb(tmp_path / "text")
    with pytest.raises(InputError, match="does not exist"):
        main.absorb(tmp_path / "absent.sqlite")
    assert not (tmp_path / "absent.sqlite").exists()
    assert main.find(list(REPLIES)) == REPLIES
    main.absorb(record_of(tmp_path / "w.sqlite", {key_of(77): Answer("still works")}).path)
    assert main.find([key_of(77)])


def test_two_processes_may_begin_one_record_at_once(tmp_path):
    first, second = (record_of(tmp_path / "r.sqlite", {key_of(i): Answer(str(i))}) for i in range(2))
    assert len(first.find([key_of(0), key_of(1)])) == len(second.find([key_of(0), key_of(1)])) == 2


WRITER = """
import sys
from pathlib import Path
from builder.llm.messages import Answer, ChatRequest, Sampling
from builder.llm.record import Record
record = Record(Path(sys.argv[1]))
request = ChatRequest(({"role": "user", "content": "u"},), Sampling(10), "answer@1", 1)
first = int(sys.argv[2])
for number in range(first, first + 100_000, 3):
    record.add((f"{n:032x}", request, Answer(f"reply {n}" * 200), {}) for n in range(number, number + 3))
    print(number + 3, flush=True)
"""


def test_what_was_recorded_before_a_kill_is_there_and_a_batch_whole_or_not_at_all(tmp_path):
    path, next_number = tmp_path / "r.sqlite", 0
    for lines in (1, 40, 7):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(next_number)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        for _ in range(lines):
            said = int(writer.stdout.readline())
        writer.kill()
        said = max([said, *(int(line) for line in writer.communicate()[0].split("\n")[:-1])])
        with contextlib.closing(Record(path)) as record:
            answers, _ = record.count()
            # Whatever the writer reported is there, and at most the batch that it had no time to report.
            assert answers in (said, said + 3)
            found = record.find([key_of(n) for n in range(answers)])
            assert all(found[key_of(n)].text == f"reply {n}" * 200 for n in range(answers))
        next_number = answers
