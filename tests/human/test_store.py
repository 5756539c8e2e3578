"""The database of a study: nothing answered is lost, nothing is there twice, and a wrong file is refused and stays as it is."""

import multiprocessing
import os
import signal
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest

from builder.errors import InputError
from eval.human import database
from eval.human.database import StorageError
from eval.human.material import Material
from eval.human.opening import open_store, open_study
from eval.human.records import Answer, Rater
from eval.human.status import status_text
from eval.human.store import Store, StudyFullError
from eval.human.study import LONGEST_ANSWER, Study, load_study
from tests.human.conftest import REASON, answer_all

NOON = 1_800_000_000.0
MINUTE = 60.0


def new_rater(store: Store, now: float = NOON) -> Rater:
    """Who has begun."""
    (token,) = store.issue_tokens(1)
    rater = store.rater(token)
    assert rater is not None
    return store.begin(rater.rater_id, now=now)


def no_draw() -> Material:
    raise AssertionError("the material is drawn although it is there")


def test_a_rater_goes_through_the_whole_study(store: Store, material: Material) -> None:
    (token,) = store.issue_tokens(1)
    rater = store.rater(token)
    assert (rater.state, rater.persona_id, rater.began) == ("new", None, None)
    assert store.items_of(rater) == []
    rater = store.begin(rater.rater_id, now=NOON)
    assert (rater.state, rater.began) == ("open", NOON)
    assert rater == store.rater(token)
    items = store.items_of(rater)
    persona = next(p for p in material.personas if p.persona_id == rater.persona_id)
    assert sorted(item for item, _ in items) == sorted(persona.shown)

    end = answer_all(store, rater.rater_id, NOON, seconds=20)
    found = store.answers(rater.rater_id)
    assert [answer.position for answer in found] == [1, 2, 3, 4]
    assert [(answer.item_id, answer.first) for answer in found] == items
    assert {answer.preferred for answer in found} == {"chosen"}
    assert [answer.choice for answer in found] == ["A" if first == "chosen" else "B" for _, first in items]
    assert {answer.seconds for answer in found} == {20.0}
    rater = store.finish(rater.rater_id, now=end)
    assert (rater.state, rater.finished) == ("finished", end)
    assert rater == store.rater(token)
    assert [standing.counts for standing in store.standings()] == [True]


def test_the_place_chosen_and_the_text_preferred_agree_for_every_order(store: Store) -> None:
    rater = new_rater(store)
    for item, first in store.items_of(rater):
        other = "rejected" if first == "chosen" else "chosen"
        assert store.save(rater.rater_id, item, "A", REASON).preferred == first
        assert store.save(rater.rater_id, item, "B", REASON).preferred == other


def test_everything_is_there_after_closing_and_the_material_is_not_drawn_again(store: Store, study: Study) -> None:
    rater = new_rater(store)
    answer_all(store, rater.rater_id, NOON)
    before = (store.raters(), store.answers(), store.items_of(rater), store.material)
    store.close()
    with closing(open_store(store.path, study, no_draw)) as again:
        assert (again.raters(), again.answers(), again.items_of(rater), again.material) == before


def test_the_same_click_twice_is_one_answer_and_one_line_of_the_log(store: Store) -> None:
    rater = new_rater(store)
    (item, _), *_ = store.items_of(rater)
    store.show(rater.rater_id, item, now=NOON)
    first = store.save(rater.rater_id, item, "A", REASON, 5, now=NOON + 10)
    # A browser sends the end of a line as two characters; nothing else differs.
    again = store.save(rater.rater_id, item, "A", f" {REASON}\r\n", 5, now=NOON + 11)
    assert again == first
    assert store.answers() == [first]
    assert len(store.versions()) == 1


def test_a_changed_answer_keeps_its_first_time_and_the_log_every_version(store: Store) -> None:
    rater = new_rater(store)
    (item, _), *_ = store.items_of(rater)
    store.show(rater.rater_id, item, now=NOON)
    first = store.save(rater.rater_id, item, "A", REASON, 30, now=NOON + 10)
    store.show(rater.rater_id, item, now=NOON + 500)
    second = store.save(rater.rater_id, item, "B", REASON + " Or not.", 0, now=NOON + 510)
    assert (second.choice, second.reason, second.changes) == ("B", REASON + " Or not.", 1)
    assert second.preferred != first.preferred
    assert (second.shown, second.answered, second.seconds) == (NOON, NOON + 10, 10.0)
    assert second.pasted == 30  # a page that is opened again counts from 0; the paste was made all the same
    assert store.answers() == [second]
    assert [(v["saved"], v["choice"], v["pasted"]) for v in store.versions()] == [
        (NOON + 10, "A", 30),
        (NOON + 510, "B", 0),
    ]


def test_time_runs_from_the_first_showing_and_never_backwards(store: Store) -> None:
    rater = new_rater(store)
    (first, _), (second, _), (third, _), *_ = store.items_of(rater)
    store.show(rater.rater_id, first, now=NOON)
    store.show(rater.rater_id, first, now=NOON + 100)
    assert store.save(rater.rater_id, first, "A", REASON, now=NOON + 130).seconds == 130
    store.show(rater.rater_id, second, now=NOON + 200)
    assert store.save(rater.rater_id, second, "A", REASON, now=NOON + 190).seconds == 0
    assert store.save(rater.rater_id, third, "A", REASON, now=NOON + 300).seconds == 0  # never shown


def test_what_is_no_answer_is_refused_and_nothing_is_kept(store: Store) -> None:
    rater = new_rater(store)
    (item, _), *_ = store.items_of(rater)
    others = next(p for p in store.material.personas if p.persona_id != rater.persona_id)
    for arguments, said in (
        ((item, "C", REASON), "Choose A or B"),
        ((item, "", REASON), "No answer is chosen"),
        ((item, "A", "too short"), "has 9 characters; please write at least 20"),
        ((item, "A", " " * 500), "has 0 characters"),
        ((item, "A", "x" * (LONGEST_ANSWER + 1)), f"has 4001 characters; please shorten it to {LONGEST_ANSWER}"),
        ((others.shown[0], "A", REASON), "none of the questions that you were given"),
        (("'; DROP TABLE answers; --", "A", REASON), "none of the questions"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            store.save(rater.rater_id, *arguments)
        assert not isinstance(caught.value, StorageError)
    with pytest.raises(InputError, match="No token was issued for the rater"):
        store.save("r0000000000000000", item, "A", REASON)
    with pytest.raises(InputError, match="none of the questions"):
        store.show(rater.rater_id, others.shown[0])
    assert store.answers() == []
    assert store.versions() == []
    assert store.save(rater.rater_id, item, "A", "x" * LONGEST_ANSWER).reason == "x" * LONGEST_ANSWER


def test_before_begin_there_is_no_question_to_answer(store: Store) -> None:
    (token,) = store.issue_tokens(1)
    rater_id = store.rater(token).rater_id
    with pytest.raises(InputError, match="none of the questions"):
        store.save(rater_id, store.material.personas[0].shown[0], "A", REASON)
    with pytest.raises(InputError, match="has not begun"):
        store.finish(rater_id)


def test_any_text_comes_back_as_it_was_written(store: Store) -> None:
    rater = new_rater(store)
    (item, _), *_ = store.items_of(rater)
    text = "<script>alert('x')</script> \"; DROP TABLE raters; -- \u202eабв\u202c 👩‍🌾 \t=1+1\nsecond line {{ 7*7 }}"
    assert store.save(rater.rater_id, item, "A", text).reason == text
    assert store.answers()[0].reason == text
    # What no table can hold is left out; a lone half of a character comes from a broken client.
    assert store.save(rater.rater_id, item, "A", f"{REASON}\0\ud83d\r\nand more").reason == f"{REASON}\nand more"


def test_pasted_characters_are_counted_within_reason(store: Store) -> None:
    rater = new_rater(store)
    (first, _), (second, _), *_ = store.items_of(rater)
    assert store.save(rater.rater_id, first, "A", REASON, -5).pasted == 0
    assert store.save(rater.rater_id, second, "A", REASON, 10**30).pasted == LONGEST_ANSWER


def test_who_has_finished_changes_nothing_but_may_click_twice(store: Store) -> None:
    rater = new_rater(store)
    answer_all(store, rater.rater_id, NOON)
    done = store.finish(rater.rater_id, now=NOON + 500)
    assert store.finish(rater.rater_id, now=NOON + 900) == done
    last = store.answers()[-1]
    assert store.save(rater.rater_id, last.item_id, last.choice, last.reason) == last
    with pytest.raises(InputError, match="can no longer be changed"):
        store.save(rater.rater_id, last.item_id, "A" if last.choice == "B" else "B", last.reason)
    store.show(rater.rater_id, last.item_id, now=NOON + 5000)
    assert store.begin(rater.rater_id, now=NOON + 5000) == done
    assert store.raters() == [done]
    assert store.answers()[-1] == last


def test_finishing_needs_every_answer_and_says_which_are_open(store: Store) -> None:
    rater = new_rater(store)
    items = store.items_of(rater)
    for place in (0, 2):
        store.save(rater.rater_id, items[place][0], "A", REASON)
    with pytest.raises(InputError, match="2 of 4 questions have no answer yet: number 2, 4"):
        store.finish(rater.rater_id)
    assert store.raters()[0].state == "open"


def test_a_rater_keeps_one_persona_and_the_places_end(store: Store) -> None:
    raters = [new_rater(store) for _ in range(4)]
    assert sorted(Counter(rater.persona_id for rater in raters).values()) == [2, 2]
    assert [store.begin(rater.rater_id, now=NOON + 1) for rater in raters] == raters
    (token,) = store.issue_tokens(1)
    late = store.rater(token)
    with pytest.raises(StudyFullError, match="All 4 places"):
        store.begin(late.rater_id, now=NOON + 2)
    assert store.rater(token) == late


def test_an_idle_place_is_given_away_and_who_returns_may_still_finish(store: Store) -> None:
    raters = [new_rater(store) for _ in range(4)]
    idle, *others = raters
    for rater in others:
        (item, _), *_ = store.items_of(rater)
        store.show(rater.rater_id, item, now=NOON + 89 * MINUTE)
    heir = new_rater(store, now=NOON + 91 * MINUTE)
    assert heir.persona_id == idle.persona_id
    with pytest.raises(StudyFullError):
        new_rater(store, now=NOON + 92 * MINUTE)
    for start, rater in enumerate((heir, *others, idle), start=100):
        end = answer_all(store, rater.rater_id, NOON + start * MINUTE)
        store.finish(rater.rater_id, now=end)
    found = {standing.rater.rater_id: standing.reason for standing in store.standings() if standing.rater.persona_id}
    late = found.pop(idle.rater_id)
    assert late == "Finished when the persona's 2 places were taken."
    assert set(found.values()) == {None}
    assert len(store.answers(idle.rater_id)) == 4


def test_of_an_excluded_rater_the_place_is_free_again(store: Store) -> None:
    raters = [new_rater(store) for _ in range(4)]
    for rater, seconds in zip(raters, (1.0, 30.0, 30.0, 30.0), strict=True):
        answer_all(store, rater.rater_id, NOON, seconds=seconds)
        store.finish(rater.rater_id, now=NOON + 200)
    assert [s.rater.rater_id for s in store.standings() if s.excluded] == [raters[0].rater_id]
    assert new_rater(store, now=NOON + 300).persona_id == raters[0].persona_id
    with pytest.raises(StudyFullError):
        new_rater(store, now=NOON + 400)


def test_an_unknown_token_is_nobody(store: Store) -> None:
    store.issue_tokens(3)
    for token in ("", "x", "r" * 22, "\ud83d", "é", "a" * 100_000, "%", "' OR 1=1 --"):
        assert store.rater(token) is None
    assert store.rater(store.raters()[0].rater_id) is None  # an id is no token


def test_a_panels_id_gives_one_token_for_ever_and_is_kept_nowhere(store: Store, study: Study, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="only those who were sent a link"):
        store.token_for("5f3c0a")
    opened = replace(study, recruiting="open", title="Open")
    path = tmp_path / "open.sqlite"
    with closing(open_store(path, opened, lambda: store.material)) as first:
        token = first.token_for("panel-id-5f3c0a")
        assert first.token_for(" panel-id-5f3c0a ") == token
        assert first.token_for("panel-id-5f3c0b") != token
        assert first.rater(token).state == "new"
        assert first.panel_token("panel-id-5f3c0a") == token
        assert first.rater(first.panel_token("never-came")) is None  # asked, and not let in
        assert len(first.raters()) == 2
        for wrong in ("", "  ", "x" * 101, "{{%PROLIFIC_PID%}}", "%ID%", "-x", "a b", "a\nb"):
            with pytest.raises(InputError, match="panel's id is"):
                first.token_for(wrong)
        kept = b"".join(file.read_bytes() for file in tmp_path.glob("open.sqlite*"))
        assert b"5f3c0a" not in kept
        assert token.encode() not in kept
    with closing(open_store(path, opened, no_draw)) as again:
        assert again.token_for("panel-id-5f3c0a") == token
    # Another study does not recognise the participant.
    with closing(open_store(tmp_path / "other.sqlite", opened, lambda: store.material)) as other:
        assert other.token_for("panel-id-5f3c0a") != token


# Which file is taken for a study's database.


def test_a_study_file_that_changes_before_the_first_answer_takes_over_and_tokens_stay(study_file: Path) -> None:
    _, old = open_study(study_file)
    tokens = old.issue_tokens(2)
    begun = old.begin(old.rater(tokens[0]).rater_id)
    (item, _), *_ = old.items_of(begun)
    old.show(begun.rater_id, item, now=NOON)
    drawn_before = old.material
    study_file.write_text(study_file.read_text().replace("attention_checks: 1", "attention_checks: 0"))
    study, store = open_study(study_file)
    assert [len(persona.shown) for persona in store.material.personas] == [3, 3]
    assert store.material != drawn_before
    assert {store.rater(token).state for token in tokens} == {"new"}
    # A server that still runs with the old file takes nothing more.
    with pytest.raises(StorageError, match=r"study file of STUDY\.sqlite has changed"):
        old.save(begun.rater_id, item, "A", REASON)
    for refused in (
        lambda: old.begin(begun.rater_id),
        lambda: old.rater(tokens[0]),
        lambda: old.finish(begun.rater_id),
    ):
        with pytest.raises(StorageError, match="has changed"):
            refused()
    assert store.answers() == []
    rater = store.begin(begun.rater_id, now=NOON + 50)
    end = answer_all(store, rater.rater_id, NOON + 60)
    assert {answer.seconds for answer in store.answers()} == {30.0}  # what was shown before is forgotten
    store.finish(rater.rater_id, now=end)
    assert study == load_study(study_file)
    old.close()
    store.close()


def test_after_the_first_answer_the_keys_that_changed_are_named_and_nothing_is_lost(study_file: Path) -> None:
    _, store = open_study(study_file)
    answer_all(store, new_rater(store).rater_id, NOON)
    before = store.answers()
    store.close()
    text = study_file.read_text()
    changed = text.replace("same_place_share_above: null", "median_seconds_below: 0.1").replace("seed: 0", "")
    study_file.write_text(changed.replace("payment: None.", "payment: Ten euros."))
    keys = "consent.payment, exclusions.median_seconds_below, exclusions.same_place_share_above"
    for create in (True, False):
        with pytest.raises(InputError, match=f"since the first answer in STUDY.sqlite: {keys}. Put the old"):
            open_study(study_file, create=create)
    study_file.write_text(text)
    _, store = open_study(study_file)
    assert store.answers() == before
    store.close()


def test_of_a_simulated_database_it_is_said_that_it_may_be_deleted(study_file: Path) -> None:
    _, store = open_study(study_file, simulated=True)
    with closing(store):
        store.admit("one", now=NOON)
        answer_all(store, store.begin(store.rater("one").rater_id, now=NOON).rater_id, NOON)
    study_file.write_text(study_file.read_text().replace("DONE-1234", "DONE-5678"))
    with pytest.raises(
        InputError, match=r"completion_code.* delete STUDY\.simulated\.sqlite, .*another file with --database"
    ):
        open_study(study_file, simulated=True)


def test_a_dataset_that_was_moved_locks_no_study(study_file: Path) -> None:
    _, store = open_study(study_file)
    answer_all(store, new_rater(store).rater_id, NOON)
    store.close()
    study_file.write_text(study_file.read_text().replace("dataset: data", "dataset: moved/data"))
    _, store = open_study(study_file)
    with closing(store):
        assert len(store.answers()) == 4


def test_looking_takes_nothing_over(study_file: Path) -> None:
    _, store = open_study(study_file)
    store.close()
    study_file.write_text(study_file.read_text().replace("DONE-1234", "DONE-5678"))
    with pytest.raises(InputError, match=r"completion_code.*serve. takes the changed file over"):
        open_study(study_file, create=False)
    _, store = open_study(study_file)
    assert store.study.completion_code == "DONE-5678"
    store.close()


def test_a_title_can_be_corrected_before_the_first_answer(study_file: Path) -> None:
    _, store = open_study(study_file)
    (token,) = store.issue_tokens(1)
    store.close()
    study_file.write_text(study_file.read_text().replace("A small study", "A small study, corrected"))
    _, store = open_study(study_file)
    assert store.rater(token) is not None
    store.close()


def test_another_studys_database_is_refused_with_or_without_answers(
    store: Store, study: Study, study_file: Path
) -> None:
    store.issue_tokens(1)
    other = replace(study, title="Another", seed=7)
    with pytest.raises(InputError, match="belongs to another study, 'A small study'; this one is 'Another'"):
        open_store(store.path, other, no_draw)
    answer_all(store, new_rater(store).rater_id, NOON)
    with pytest.raises(InputError, match="belongs to another study"):
        open_store(store.path, other, no_draw)
    assert len(store.answers()) == 4


def test_people_and_simulated_raters_are_never_in_one_file(store: Store, study: Study, study_file: Path) -> None:
    with pytest.raises(InputError, match="made for answers of people, and those of simulated raters were asked for"):
        open_store(store.path, study, no_draw, "simulated")
    _, simulated = open_study(study_file, simulated=True)
    assert simulated.path.name == "STUDY.simulated.sqlite"
    (token,) = simulated.issue_tokens(1)
    assert simulated.rater(token).rater_id.startswith("s")
    assert store.rater(token) is None
    simulated.close()
    with pytest.raises(InputError, match=r"of simulated raters, and those of people.*Give --simulated"):
        open_store(simulated.path, study, no_draw, "human")


def foreign(path: Path, kind: str) -> None:
    if kind == "text":
        path.write_text("a,b\n1,2\n" * 100)
    elif kind == "folder":
        path.mkdir()
    else:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("CREATE TABLE facts (name TEXT, value TEXT)")
            if kind == "newer":
                connection.execute(f"PRAGMA application_id = {database.APPLICATION}")
                connection.execute(f"PRAGMA user_version = {database.LAYOUT + 1}")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("text", "is no SQLite file"),
        ("another program's", "an SQLite file of another program"),
        ("newer", r"has layout 2 of a study's database, and this version reads layout 1\. Go on with"),
        ("folder", "cannot be opened"),
    ],
)
def test_a_file_that_is_none_of_ours_is_refused_and_stays_as_it_is(
    study: Study, material: Material, tmp_path: Path, kind: str, said: str
) -> None:
    path = tmp_path / "given.sqlite"
    foreign(path, kind)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(InputError, match=said) as caught:
        open_store(path, study, lambda: material)
    assert str(path) in str(caught.value)
    assert before is None or path.read_bytes() == before
    assert sorted(tmp_path.glob("given*")) == [path]


def test_a_database_that_is_not_there_is_made_only_by_who_may(study_file: Path) -> None:
    path = study_file.with_suffix(".sqlite")
    for make_empty in (False, True):
        with pytest.raises(InputError, match="There is no database"):
            open_study(study_file, create=False)
        assert path.exists() == make_empty
        path.touch()  # as a process leaves it that is killed while it makes the database
    _, store = open_study(study_file)
    assert len(store.material.personas) == 2
    store.close()


def test_where_the_material_cannot_be_drawn_no_file_is_left(study_file: Path) -> None:
    study_file.write_text(study_file.read_text().replace("dataset: data", "dataset: nowhere"))
    with pytest.raises(InputError, match=r"dataset is nowhere, and there is no such folder"):
        open_study(study_file)
    study_file.write_text(
        study_file.read_text().replace("dataset: nowhere", "dataset: data").replace("personas: 2", "personas: 50")
    )
    with pytest.raises(InputError):
        open_study(study_file)
    assert not list(study_file.parent.glob("*.sqlite*"))


# Several at once.


def test_many_who_open_a_new_database_at_once_find_one_study(study: Study, material: Material, tmp_path: Path) -> None:
    path, barrier = tmp_path / "new.sqlite", Barrier(8)
    opened = replace(study, recruiting="open")

    def open_and_ask(_: int) -> str:
        barrier.wait()
        with closing(open_store(path, opened, lambda: material)) as store:
            return store.token_for("panel")

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(open_and_ask, range(8)))) == 1


def test_one_click_from_many_threads_is_one_answer(store: Store) -> None:
    rater = new_rater(store)
    (item, _), *_ = store.items_of(rater)
    barrier = Barrier(12)

    def click(_: int) -> Answer:
        barrier.wait()
        return store.save(rater.rater_id, item, "A", REASON)

    with ThreadPoolExecutor(12) as threads:
        assert len(set(threads.map(click, range(12)))) == 1
    assert len(store.answers()) == len(store.versions()) == 1


def take_the_study(store: Store, token: str) -> tuple[str, str]:
    """(rater, persona) of who answers everything and finishes."""
    rater = store.begin(store.rater(token).rater_id)
    for number, (item, first) in enumerate(store.items_of(rater)):
        store.show(rater.rater_id, item)
        store.save(rater.rater_id, item, "A" if first == "chosen" else "B", f"{REASON} {rater.rater_id} {number}")
    store.finish(rater.rater_id)
    return rater.rater_id, str(rater.persona_id)


def take_in_threads(path: Path, study: Study, tokens: list[str]) -> list[tuple[str, str]]:
    with closing(open_store(path, study, no_draw)) as store, ThreadPoolExecutor(len(tokens)) as threads:
        return list(threads.map(lambda token: take_the_study(store, token), tokens))


@pytest.mark.parametrize("processes", [1, 2])
def test_forty_raters_at_once_lose_no_answer_and_are_balanced(
    study: Study, material: Material, tmp_path: Path, processes: int
) -> None:
    crowd = replace(study, raters_per_persona=20, exclusions=replace(study.exclusions, median_seconds_below=None))
    path = tmp_path / "crowd.sqlite"
    with closing(open_store(path, crowd, lambda: material)) as store:
        tokens = store.issue_tokens(40)
        if processes == 1:
            done = take_in_threads(path, crowd, tokens)
        else:
            with multiprocessing.get_context("spawn").Pool(processes) as pool:
                parts = pool.starmap(take_in_threads, [(path, crowd, tokens[:20]), (path, crowd, tokens[20:])])
            done = [rater for part in parts for rater in part]
        assert Counter(Counter(persona for _, persona in done).values()) == {20: 2}
        answers = store.answers()
        assert len(answers) == len(store.versions()) == 160
        assert {(a.rater_id, a.position) for a in answers} == {(r, n) for r, _ in done for n in (1, 2, 3, 4)}
        assert all(f"{REASON} {a.rater_id} {a.position - 1}" == a.reason for a in answers)
        assert sum(standing.counts for standing in store.standings()) == 40
        with pytest.raises(StudyFullError):
            new_rater(store)


def answer_until_killed(path: Path, study: Study, rater_id: str, saved) -> None:
    store = open_store(path, study, no_draw)
    rater = next(rater for rater in store.raters() if rater.rater_id == rater_id)
    while True:
        for item, _ in store.items_of(rater):
            for choice in "AB":
                store.save(rater_id, item, choice, REASON)
                saved.send((item, choice))


def test_what_was_saved_is_there_after_a_kill(store: Store, study: Study) -> None:
    rater = new_rater(store)
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=answer_until_killed, args=(store.path, study, rater.rater_id, sending))
    process.start()
    sending.close()
    said = [receiving.recv() for _ in range(25)]
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with suppress(EOFError):
        while True:
            said.append(receiving.recv())
    log = [(version["item_id"], version["choice"]) for version in store.versions()]
    # The last one may be saved and not yet told.
    assert log[: len(said)] == said
    assert len(log) <= len(said) + 1
    assert {(a.item_id, a.choice) for a in store.answers()} == set(dict(log).items())
    store.save(rater.rater_id, said[0][0], "A", REASON + " Still here.")


def test_an_answer_is_on_the_disk_when_it_is_saved(store: Store, study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    rater = new_rater(store)
    (item, _), *_ = store.items_of(rater)
    store.close()
    said: list[str] = []
    connect = database.connect

    def watched(path: Path) -> sqlite3.Connection:
        connection = connect(path)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        connection.set_trace_callback(said.append)
        return connection

    monkeypatch.setattr(database, "connect", watched)
    with closing(open_store(store.path, study, no_draw)) as again:
        again.show(rater.rater_id, item)
        for write in (
            lambda: again.save(rater.rater_id, item, "A", REASON),
            lambda: again.issue_tokens(1),
            lambda: again.begin(max(r.rater_id for r in again.raters() if r.state == "new")),
        ):
            said.clear()
            write()
            begin = next(place for place, line in enumerate(said) if line.startswith("BEGIN IMMEDIATE"))
            assert said[begin - 1] == "PRAGMA synchronous = FULL"
            assert said[-1] == "COMMIT"


# Disks.


def fill(store: Store, rater_id: str, item: str) -> None:
    for number in range(50):
        store.save(rater_id, item, "AB"[number % 2], "x" * LONGEST_ANSWER)


def test_on_a_full_disk_it_is_said_and_what_was_saved_stays(
    store: Store, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    rater = new_rater(store)
    (first, _), (second, _), *_ = store.items_of(rater)
    store.save(rater.rater_id, first, "A", REASON)
    before = store.answers()
    store.close()
    connect = database.connect

    def on_a_full_disk(path: Path) -> sqlite3.Connection:
        connection = connect(path)
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    monkeypatch.setattr(database, "connect", on_a_full_disk)
    full = open_store(store.path, study, no_draw)
    with pytest.raises(StorageError, match=r"disk is full or failing.*Every answer saved before is still there"):
        fill(full, rater.rater_id, second)
    (kept,) = (answer for answer in full.answers() if answer.item_id == first)
    assert [kept] == before
    full.close()
    monkeypatch.undo()
    with closing(open_store(store.path, study, no_draw)) as again:
        again.save(rater.rater_id, second, "A", REASON)
        assert len(again.answers()) == 2


@contextmanager
def as_who_may_not_write(path: Path) -> Iterator[None]:
    """root may write anything, so root becomes nobody for a moment."""
    path.chmod(0o444)
    path.parent.chmod(0o555)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)
        yield
    finally:
        if user == 0:
            os.seteuid(user)
        path.parent.chmod(0o755)


def test_on_a_read_only_disk_it_is_said(study: Study, material: Material) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.sqlite"
        open_store(path, study, lambda: material).close()
        with as_who_may_not_write(path), pytest.raises(StorageError, match="Make the file and its folder writable"):
            open_store(path, study, no_draw).issue_tokens(1)
        new = Path(folder) / "new.sqlite"
        with as_who_may_not_write(path), pytest.raises(StorageError, match=r"new\.sqlite cannot be written"):
            open_store(new, study, lambda: material)
        assert not new.exists()


def test_a_damaged_file_is_said_to_be_damaged(store: Store, study: Study) -> None:
    answer_all(store, new_rater(store).rater_id, NOON)
    store.close()
    content = bytearray(store.path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    store.path.write_bytes(content)
    with pytest.raises(StorageError, match="is damaged"):
        open_store(store.path, study, no_draw)


# What the operator sees.


def test_the_status_counts_everybody_once_and_changes_nothing(study_file: Path) -> None:
    _, store = open_study(study_file)
    raters = [new_rater(store) for _ in range(4)]
    for rater, seconds in zip(raters[:2], (1.0, 30.0), strict=True):
        store.finish(rater.rater_id, now=answer_all(store, rater.rater_id, NOON, seconds))
    (item, _), *_ = store.items_of(raters[2])
    store.save(raters[2].rater_id, item, "A", REASON, now=NOON + 80 * MINUTE)
    store.issue_tokens(3)
    before = (store.raters(), store.answers())
    text = status_text(study_file, now=NOON + 100 * MINUTE)
    assert "1 of 4 places are filled by raters who count." in text
    assert "7 tokens issued: 2 finished, 2 began and did not finish, 3 unused." in text
    assert "9 answers of 3 raters" in text
    assert f"{raters[0].rater_id}  Excluded: Median time on a question 1.0 s; the limit is 8 s." in text
    table = [line.split() for line in text.splitlines() if line.startswith("p0")]
    assert [sum(int(row[column]) for row in table) for column in range(1, 6)] == [1, 1, 1, 1, 0]
    assert "simulated" not in text
    assert before == (store.raters(), store.answers())
    store.close()


def test_the_status_of_simulated_raters_says_so(study_file: Path) -> None:
    _, store = open_study(study_file, simulated=True)
    store.close()
    assert "(simulated raters)" in status_text(study_file, simulated=True)
    with pytest.raises(InputError, match="There is no database"):
        status_text(study_file)
