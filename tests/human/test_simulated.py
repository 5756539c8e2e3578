"""Simulated raters: the same raters every time, answering as planted, in a database of their own that says what they are."""

import itertools
import json
from collections import Counter
from pathlib import Path

import pytest

from builder.errors import InputError
from builder.judge.judge import Comparison, compare
from eval.calls import open_calls
from eval.human.cards import card_text
from eval.human.export import export, export_files, tables_of
from eval.human.opening import open_study
from eval.human.simulated import MOST_RATERS, START, simulate
from eval.human.store import Store
from eval.judging import find_judges

JUDGE = "roleplay=scripted"


def tables(study_file: Path, database: Path | None = None):
    _, store = open_study(study_file, database, simulated=True, create=False)
    try:
        return tables_of(store)
    finally:
        store.close()


def files(study_file: Path, database: Path | None = None) -> dict[str, bytes]:
    _, store = open_study(study_file, database, simulated=True, create=False)
    try:
        return export_files(store)
    finally:
        store.close()


def questions(answers):
    return [answer for answer in answers if answer["kind"] != "check"]


def test_every_place_is_filled_with_raters_who_count(study, study_file):
    said = simulate(study_file, careless=0.3, dropouts=0.3)
    assert said.startswith(
        f"{len(tables(study_file)['raters'])} simulated raters came, who answered by the data's labels"
    )
    assert "4 of 4 places are filled" in said
    counted = Counter(rater["persona_id"] for rater in tables(study_file)["raters"] if rater["counted"])
    assert set(counted.values()) == {study.raters_per_persona}
    assert len(counted) == study.personas


def test_the_same_settings_give_the_same_files_and_other_ones_do_not(study_file, tmp_path):
    first, again, other = (tmp_path / f"{name}.sqlite" for name in ("first", "again", "other"))
    for database, seed in ((first, 0), (again, 0), (other, 1)):
        simulate(study_file, database, seed=seed)
    assert files(study_file, first) == files(study_file, again)
    assert files(study_file, first)["answers.parquet"] != files(study_file, other)["answers.parquet"]


def test_without_noise_everybody_answers_by_the_labels_and_with_all_of_it_against_them(study_file, tmp_path):
    for noise, preferred in ((0.0, "chosen"), (1.0, "rejected")):
        database = tmp_path / f"{preferred}.sqlite"
        simulate(study_file, database, noise=noise, careless=0, dropouts=0)
        found = tables(study_file, database)
        assert {answer["preferred"] for answer in questions(found["answers"])} == {preferred}
        # An attentive rater chooses as a check asks, whatever the noise.
        assert {a["preferred"] for a in found["answers"] if a["kind"] == "check"} == {"chosen"}
        assert {answer["choice"] for answer in found["answers"]} == {"A", "B"}
        assert len(found["raters"]) == 4


def test_about_the_planted_share_is_turned_round(study_file):
    path = study_file
    path.write_text(path.read_text(encoding="utf-8").replace("raters_per_persona: 2", "raters_per_persona: 60"))
    simulate(path, noise=0.25, careless=0, dropouts=0)
    answers = questions(tables(path)["answers"])
    turned = sum(answer["preferred"] == "rejected" for answer in answers) / len(answers)
    assert abs(turned - 0.25) < 0.07  # 360 answers: three standard errors


def test_careless_raters_never_count_and_in_the_end_nobody_comes_any_more(study, study_file):
    said = simulate(study_file, careless=1)
    assert "0 of 4 places are filled" in said
    assert "4 stay free" in said
    found = tables(study_file)
    assert len(found["raters"]) == MOST_RATERS * study.raters
    assert not any(rater["counted"] for rater in found["raters"])
    assert max(answer["seconds"] for answer in found["answers"]) < 8
    assert all(answer["pasted"] == len(answer["reason"]) for answer in found["answers"])
    preferred = Counter(answer["preferred"] for answer in questions(found["answers"]))
    assert min(preferred.values()) > 0.25 * sum(preferred.values())  # at random


def test_who_gives_up_leaves_some_answers_and_a_place_for_the_next(study_file):
    simulate(study_file, careless=0, dropouts=0.5)
    found = tables(study_file)
    gone = {rater["rater_id"] for rater in found["raters"] if rater["state"] == "open"}
    left = Counter(answer["rater_id"] for answer in found["answers"] if answer["rater_id"] in gone)
    assert gone
    assert set(left) == gone
    assert all(0 < number < 4 for number in left.values())
    assert sum(rater["counted"] for rater in found["raters"]) == 4


def test_raters_come_one_after_the_other_and_take_their_time(study_file):
    simulate(study_file, careless=0, dropouts=0.3)
    found = tables(study_file)
    for answer in found["answers"]:
        assert answer["seconds"] == pytest.approx(answer["answered"] - answer["shown"])
        assert 20 < answer["seconds"] < 200
    began = sorted(rater["began"] for rater in found["raters"])
    assert began[0] == START
    assert all(later - earlier >= 600 for earlier, later in itertools.pairwise(began))


def test_a_slow_study_does_not_exclude_attentive_raters(study_file):
    text = study_file.read_text(encoding="utf-8").replace("exclusions: {", "exclusions: {median_seconds_below: 120.0, ")
    study_file.write_text(text.replace("minimum_characters: 20", "minimum_characters: 1500"), encoding="utf-8")
    assert "4 of 4 places are filled" in simulate(study_file, careless=0, dropouts=0)
    assert min(len(answer["reason"]) for answer in tables(study_file)["answers"]) >= 1499


class KilledError(Exception):
    pass


@pytest.mark.parametrize("after", [1, 3, 9])
def test_a_run_that_was_killed_goes_on_where_it_stood(study_file, tmp_path, monkeypatch, after):
    whole, broken = tmp_path / "whole.sqlite", tmp_path / "broken.sqlite"
    options = {"careless": 0.2, "dropouts": 0.3, "seed": 3}
    simulate(study_file, whole, **options)
    saved = itertools.count()
    save = Store.save

    def save_or_die(self, *args, **named):
        if next(saved) == after:
            raise KilledError
        return save(self, *args, **named)

    monkeypatch.setattr(Store, "save", save_or_die)
    with pytest.raises(KilledError):
        simulate(study_file, broken, **options)
    monkeypatch.undo()
    simulate(study_file, broken, **options)
    assert files(study_file, broken) == files(study_file, whole)
    _, store = open_study(study_file, broken, simulated=True, create=False)
    assert len(store.versions()) == len(store.answers())  # no answer was given twice
    store.close()


def test_running_again_repeats_nothing(study_file):
    said = simulate(study_file, dropouts=0.4)
    before = files(study_file)
    assert simulate(study_file, dropouts=0.4) == said
    assert files(study_file) == before


def test_raters_of_other_settings_are_not_mixed(study_file):
    simulate(study_file)
    before = files(study_file)
    with pytest.raises(InputError, match="simulated raters of another simulation"):
        simulate(study_file, noise=0.2)
    assert files(study_file) == before


def test_the_database_of_people_is_refused(study_file, store):
    with pytest.raises(InputError, match="never mixed"):
        simulate(study_file, store.path)
    assert store.raters() == []


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["noise", "careless", "dropouts"])
def test_a_share_is_from_0_to_1(study_file, name, share):
    with pytest.raises(InputError, match=f"--{name} is {share}"):
        simulate(study_file, **{name: share})
    assert not list(study_file.parent.glob("*.sqlite"))


def test_a_judge_answers_for_the_raters_and_is_asked_once(study_file, material):
    said = simulate(study_file, judge=JUDGE, noise=0, careless=0, dropouts=0)
    assert "12 calls, 0 replayed" in said  # 2 personas, 3 questions, both orders
    (judge,) = find_judges([JUDGE], ("pairwise",), seed=0)
    calls = open_calls(study_file.with_suffix(".simulated.judge"), [judge])
    items = [(p.card, item) for p in material.personas for item in p.items if item.item_id in p.shown]
    asked = [(card, item) for card, item in items if item.kind != "check"]
    verdicts = compare(judge.judge, calls, [Comparison(card_text(c), i.question, i.answers) for c, i in asked])
    assert calls.spending.calls == 0  # so these are the questions that were asked before
    says = {item.item_id: v.verdict for (_, item), v in zip(asked, verdicts, strict=True)}
    assert set(says.values()) - {"tie"}
    for answer in questions(tables(study_file)["answers"]):
        assert says[answer["item_id"]] in ({"chosen": "A", "rejected": "B"}[answer["preferred"]], "tie")
    assert "0 calls, 12 replayed" in simulate(study_file, judge=JUDGE, noise=0, careless=0, dropouts=0)


def test_a_judge_that_does_not_exist(study_file):
    with pytest.raises(InputError, match="nobody"):
        simulate(study_file, judge="nobody")
    assert not list(study_file.parent.glob("*.sqlite"))


@pytest.mark.parametrize("judge", [None, JUDGE])
def test_a_dry_run_writes_nothing(study_file, judge):
    before = set(study_file.parent.iterdir())
    assert "Dry run" in simulate(study_file, judge=judge, dry_run=True)
    assert set(study_file.parent.iterdir()) == before


def test_all_that_is_made_of_them_says_simulated(study_file, tmp_path):
    simulate(study_file, judge=JUDGE)
    assert study_file.with_suffix(".simulated.sqlite").is_file()
    out = tmp_path / "out"
    assert "simulated raters" in export(study_file, out, simulated=True)
    facts = json.loads((out / "study.json").read_text(encoding="utf-8"))
    assert facts["source"] == "simulated"
    assert "say nothing about people" in facts["note"]
    assert facts["simulation"]["judge"].startswith("roleplay@")
    assert len(facts["simulation"]["raters"]) == facts["counts"]["tokens"]
    found = tables(study_file)
    for name in ("answers", "raters", "items"):
        assert {row["source"] for row in found[name]} == {"simulated"}
    assert all(rater["rater_id"].startswith("s") for rater in found["raters"])
    assert all(row["judge"].startswith("simulated:s") for row in found["judgements"])
    assert all("imulated" in answer["reason"] for answer in found["answers"])
    for line in (out / "choices.jsonl").read_text(encoding="utf-8").splitlines():
        assert json.loads(line)["kind"] == "simulated"
    with pytest.raises(InputError):
        export(study_file, tmp_path / "people")
