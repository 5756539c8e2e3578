"""Raters with planted answers take a study of 8 personas; the analysis must find what was planted, and nothing where nothing was."""

import json
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from builder.errors import InputError
from builder.judge.judge_file import load_judge
from builder.llm.budget import Budget
from builder.randomness import rng_for
from eval.agreement.annotators import CONDITION_SUFFIXES, LABEL, SHORTER, comparison
from eval.agreement.ratings import ask_judges, reread_ratings
from eval.human.analysis import ANSWERS, ITEMS, PAIRS, RATERS, RATINGS, analyse, rescored
from eval.human.cards import card_text, read_cards
from eval.human.content import BLIND, study_content
from eval.human.export import tables_of
from eval.human.opening import open_study
from eval.human.plan import plan_text
from eval.human.power import FIGURES
from eval.human.section import StudyKappas
from eval.human.store import Store
from eval.human.study import fingerprint_of, load_study
from eval.language_models import model_recipe
from eval.printing import plain_number
from eval.results import Result, load_results
from eval.tables import read_table
from tests.human.conftest import REASON, with_profiles_of_lines
from tests.published_folder import write_published_folder

RELIABLE = 0.9  # of the raters: they agree with the label with kappa 0.8, with each other with 0.64
STUDY = """\
title: Planted
dataset: data
completion_code: DONE-1234
personas: 8
raters_per_persona: 4
questions_per_persona: 9
questions_per_rater: 9
attributes: 5
attention_checks: 1
minimum_characters: 20
pairs: {contrast: 6, dpf: 3}
exclusions: {same_place_share_above: null}
consent: {who: a, purpose: b, payment: c, data: d, contact: e}
"""


@dataclass(frozen=True)
class Planted:
    """file: the study's, its database beside it. result: of the analysis with a scripted judge, in the folder `out`."""

    file: Path
    out: Path
    said: str
    result: Result


def faithful(rater: int, item_id: str) -> str:
    """rater: the first, second ... of the persona, since which persona one gets depends on a secret token."""
    return "chosen" if rng_for(0, "test/faithful", f"{rater}/{item_id}").random() < RELIABLE else "rejected"


def take_part(store: Store, came: Counter[str], *, careless: bool = False, start: float = 0.0) -> None:
    """One rater goes through the whole study. came: how many careful ones each persona has had."""
    (token,) = store.issue_tokens(1, now=start)
    rater = store.rater(token)
    assert rater is not None
    rater = store.begin(rater.rater_id, now=start)
    persona, now = str(rater.persona_id), start
    came[persona] += not careless
    for item_id, first in store.items_of(rater):
        store.show(rater.rater_id, item_id, now=now)
        now += 1.0 if careless else 40.0
        check = item_id in store.checks
        wanted = ("rejected" if careless else "chosen") if check else faithful(came[persona], item_id)
        reason = REASON if careless else f"{REASON} {item_id}"
        store.save(rater.rater_id, item_id, "A" if first == wanted else "B", reason, 60 * careless, now=now)
    store.finish(rater.rater_id, now=now)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    folder = tmp_path_factory.mktemp("planted")
    write_published_folder(folder / "data", seen=8, unseen=2, change=with_profiles_of_lines)
    file, out = folder / "STUDY.yaml", folder / "out"
    file.write_text(STUDY, encoding="utf-8")
    _, store = open_study(file)
    came: Counter[str] = Counter()
    for number in range(32):
        take_part(store, came, start=1000.0 * number)
    store.close()
    said = analyse(file, ["roleplay=scripted"], out, command="test")
    return Planted(file, out, said, load_results(out)[0])


def copied(planted: Planted, folder: Path) -> Path:
    shutil.copytree(planted.file.parent, folder, ignore=shutil.ignore_patterns("out"))
    return folder / planted.file.name


def found(result: Result, part: str, one: str, other: str) -> Any:
    return StudyKappas(result.content, part).kappa(one, other)


@pytest.mark.parametrize("part", ["contrast", "all"])
def test_planted_raters_are_found(planted: Planted, part: str) -> None:
    reliability = 2 * RELIABLE - 1
    each_other = found(planted.result, part, "human raters", "human raters")
    with_label = found(planted.result, part, "human raters", LABEL)
    assert each_other["value"] == pytest.approx(reliability**2, abs=0.15)
    assert with_label["value"] == pytest.approx(reliability, abs=0.07)
    for estimate, truth in ((each_other, reliability**2), (with_label, reliability)):
        assert estimate["low"] < truth < estimate["high"]
    # Most of four such raters are right more often than one.
    assert found(planted.result, part, "human consensus", LABEL)["value"] > 0.9
    (alpha,) = [e for e in planted.result.content["configs"][part]["alphas"] if e["of"] == "human"]
    assert alpha["alpha"]["value"] == pytest.approx(each_other["value"], abs=0.02)
    by_persona = next(
        e
        for e in planted.result.content["people"][part]["of_personas"]
        if (e["first"], e["second"]) == ("human raters",) * 2
    )
    assert len(by_persona["kappas"]) == 8
    assert by_persona["median"] == pytest.approx(reliability**2, abs=0.2)


def test_rules_that_never_see_the_persona_agree_with_nothing_on_mirrored_pairs(planted: Planted) -> None:
    contrast = planted.result.content["people"]["contrast"]
    assert contrast["mirrors"] == contrast["pairs"] // 2 == 24
    # The same text in both mirrors, whatever the persona.
    tables = kept_tables(planted)
    mirrors = {pair["pair_id"]: min(pair["pair_id"], pair["mirror_pair_id"] or "z") for pair in tables["pairs"]}
    tables["ratings"] = [
        row | {"answer": "AB"[int(rng_for(0, "test/blind", mirrors[row["pair_id"]]).integers(2))]}
        if row["annotator"] == SHORTER
        else row
        for row in tables["ratings"]
    ]
    look = StudyKappas(study_content(**tables, annotators=annotators_of(planted), seed=0), "contrast")
    assert look.kappa("human raters", SHORTER)["value"] == pytest.approx(0.0, abs=0.2)
    assert look.kappa(SHORTER, LABEL)["value"] == pytest.approx(0.0, abs=1e-9)
    # Each persona prefers its own of the two texts, so raters of the mirror's persona say the opposite.
    assert found(planted.result, "contrast", "human raters", BLIND)["value"] < -0.6
    assert contrast["of_other_personas"]["kappa"]["value"] < -0.4


def test_on_dpf_raters_of_other_personas_agree_as_well_as_one_s_own(planted: Planted) -> None:
    """All prefer the refined answer: nothing there needs the persona, and the controls show it."""
    dpf = planted.result.content["people"]["dpf"]
    assert dpf["of_other_personas"]["kappa"]["value"] == pytest.approx(dpf["each_other"]["kappa"]["value"], abs=0.15)
    assert found(planted.result, "dpf", "human raters", BLIND)["value"] > 0.6


def coin(key: str) -> str:
    return str(rng_for(0, "test coins", key).choice(["A", "B"]))


def test_shuffled_raters_agree_with_nobody(planted: Planted) -> None:
    tables = kept_tables(planted)
    # A coin for each rater and pair: raters come in the order of their tokens, which are not drawn by seed.
    tables["ratings"] = [
        row | {"answer": coin(f"{row['annotator']}/{row['pair_id']}")}
        if row["annotator"].startswith("human rater")
        else row
        for row in tables["ratings"]
    ]
    content = study_content(**tables, annotators=annotators_of(planted), seed=0)
    look = StudyKappas(content, "all")
    assert look.kappa("human raters", "human raters")["value"] == pytest.approx(0.0, abs=0.12)
    assert look.kappa("human raters", LABEL)["value"] == pytest.approx(0.0, abs=0.12)
    assert look.kappa("human raters", "human raters")["low"] < 0 < look.kappa("human raters", LABEL)["high"]


def test_careless_raters_are_excluded_with_their_reasons_and_move_nothing(planted: Planted, tmp_path: Path) -> None:
    file = copied(planted, tmp_path / "again")
    _, fresh = open_study(file, tmp_path / "mixed.sqlite")
    came: Counter[str] = Counter()
    for number in range(32):
        # Before every sixth one somebody clicks through, and the place is given again.
        if number % 6 == 0:
            take_part(fresh, came, careless=True, start=1000.0 * number)
        take_part(fresh, came, start=1000.0 * number + 500)
    fresh.close()
    analyse(file, [], tmp_path / "out", tmp_path / "mixed.sqlite")
    (result,) = load_results(tmp_path / "out")
    raters = result.content["raters"]
    assert (raters["began"], raters["excluded"], raters["counted"]) == (38, 6, 32)
    assert len(raters["not_counted"]) == 6
    for row in raters["not_counted"]:
        assert "attention check" in row["reason"]
        assert "Median time" in row["reason"]
    assert raters["pasted"]["value"] == 0.0
    assert raters["seconds_a_question"]["median"] == 40.0
    assert raters["checks_passed"]["value"] == 1.0
    # The figures are those of the careful raters alone: without the careless ones' rows nothing changes.
    tables = kept_tables(replace(planted, out=tmp_path / "out", result=result))
    gone = {row["rater_id"] for row in tables["raters"] if row["excluded"]}
    tables["raters"] = [row for row in tables["raters"] if row["rater_id"] not in gone]
    tables["answers"] = [row for row in tables["answers"] if row["rater_id"] not in gone]
    without = study_content(**tables, annotators=result.fingerprint["annotators"], seed=0)
    assert plain(without["people"]) == plain(result.content["people"])
    assert plain(without["configs"]) == plain(result.content["configs"])
    # And they are those of a study that no careless rater ever entered; its tokens, and so the order of its raters, were others.
    for figure, estimate in planted.result.content["people"]["all"]["each_other"].items():
        assert result.content["people"]["all"]["each_other"][figure] == pytest.approx(estimate)


def test_the_order_of_rows_changes_nothing(planted: Planted) -> None:
    tables = kept_tables(planted)
    backward = {name: rows[::-1] for name, rows in tables.items()}
    assert plain(study_content(**backward, annotators=annotators_of(planted), seed=0)) == plain(planted.result.content)
    # Which of a persona's raters is called the first does not matter either.
    swap = {"human rater 1": "human rater 4", "human rater 4": "human rater 1"}
    half = {pair["pair_id"] for pair in tables["pairs"] if pair["persona_id"] < "p00004"}
    tables["ratings"] = [
        row | {"annotator": swap.get(row["annotator"], row["annotator"])} if row["pair_id"] in half else row
        for row in tables["ratings"]
    ]
    renamed = study_content(**tables, annotators=annotators_of(planted), seed=0)["people"]["all"]
    assert renamed["each_other"]["kappa"] == pytest.approx(
        planted.result.content["people"]["all"]["each_other"]["kappa"]
    )


def test_the_tables_are_those_of_an_export_without_their_times(planted: Planted) -> None:
    _, store = open_study(planted.file, create=False)
    exported = tables_of(store)
    store.close()
    for name, file, times in (
        ("items", ITEMS, set()),
        ("answers", ANSWERS, {"shown", "answered"}),
        ("raters", RATERS, {"began", "last_seen", "finished"}),
    ):
        kept = read_table(planted.out / f"{planted.result.name}-{file}")
        assert kept == [{key: value for key, value in row.items() if key not in times} for row in exported[name]]
    ratings = {
        (row["annotator"], row["pair_id"]) for row in read_table(planted.out / f"{planted.result.name}-{RATINGS}")
    }
    names = {rater["rater_id"]: rater["annotator"] for rater in exported["raters"]}
    assert {(names[a["rater_id"]], a["pair_id"]) for a in exported["answers"] if a["kind"] != "check"} <= ratings


def test_what_the_report_says_was_expected_is_what_the_plan_printed(planted: Planted, tmp_path: Path) -> None:
    file = copied(planted, tmp_path / "again")
    file.with_suffix(".sqlite").unlink()
    lines = [line.split() for line in plan_text(file).splitlines()]
    expected = planted.result.settings["planned"]
    for name in FIGURES:
        (said,) = (line for line in lines if line[:-4] == name.split())
        assert said[-4:-1] == [f"±{plain_number(expected[key][name])}" for key in ("pooled", "printed", "one_persona")]
    assert f"lower: {expected['against_weaker']:.0%}." in " ".join(" ".join(line) for line in lines)


def test_the_result_says_what_was_fixed_before_the_first_answer(planted: Planted) -> None:
    study, result = load_study(planted.file), planted.result
    assert result.fingerprint["study"] == result.settings["study_fingerprint"] == fingerprint_of(study)
    assert fingerprint_of(study) in planted.said
    assert "Judge roleplay: model scripted (scripted)." in planted.said
    assert "Failed 1 attention check or more." in " ".join(planted.said.split())
    assert max(map(len, planted.said.splitlines())) <= 110
    assert "DONE-1234" not in json.dumps(result.settings)
    assert result.evaluation == "human_study"
    assert result.name == "human_study-planted"
    assert "simulated" not in planted.said
    # The judge is asked under the true, no, and a wrong card, and its twins stand beside it.
    entries = {entry["name"]: entry for entry in result.content["people"]["all"]["with_raters"]}
    assert {"roleplay", "roleplay (no persona)", "roleplay (wrong persona)", SHORTER, BLIND, LABEL} <= entries.keys()
    assert {"above_none", "above_wrong"} <= entries["roleplay"].keys()
    difference = entries["roleplay"]["kappa"]["value"] - entries["roleplay (wrong persona)"]["kappa"]["value"]
    assert entries["roleplay"]["above_wrong"]["value"] == pytest.approx(difference)
    # Which of a persona's raters is the first means nothing.
    assert "human rater 1" not in json.dumps(result.content["configs"]["all"]["kappas"])


def test_judges_are_shown_the_cards_that_raters_saw(
    planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def ask(asked: Any, annotators: Any, pairs: Any, profiles: Any, calls: Any) -> Any:
        seen.extend(
            (pair, condition, comparison(pair, condition, profiles))
            for pair in pairs
            for condition in CONDITION_SUFFIXES
        )
        return ask_judges(asked, annotators, pairs, profiles, calls)

    monkeypatch.setattr("eval.human.analysis.ask_judges", ask)
    analyse(planted.file, ["roleplay=scripted"], tmp_path / "out", budget=Budget(None, None), dry_run=True)
    study, store = open_study(planted.file, create=False)
    material = store.material
    store.close()
    cards = {persona.persona_id: card_text(persona.card) for persona in material.personas}
    texts = {item.pair_id: item for persona in material.personas for item in persona.items}
    profiles = read_cards(
        study, planted.file.parent / "data", {pair.row.published["wrong_persona_id"] for pair, *_ in seen}
    )
    assert len(seen) == 3 * 8 * 9
    for pair, condition, shown in seen:
        wrong = card_text(profiles[pair.row.published["wrong_persona_id"]])
        assert shown.profile == {"true": cards[pair.row.persona_id], "none": None, "wrong": wrong}[condition]
        assert sorted(shown.answers) == sorted(texts[pair.pair_id].answers)
    assert len({shown.profile for _, condition, shown in seen if condition == "wrong"}) > 1


def test_replies_are_read_again_without_a_call_and_an_old_result_is_kept(planted: Planted) -> None:
    judges = {
        facts["label"]: load_judge(facts["name"], model_recipe("scripted"), planted.result.seed)
        for facts in planted.result.judges
    }
    again = rescored(planted.result, planted.out, judges)
    assert plain(again.content) == plain(planted.result.content)
    assert again.rows == planted.result.rows
    assert analyse(planted.file, ["roleplay=scripted"], planted.out) == planted.said
    with pytest.raises(InputError, match="computed from something else"):
        analyse(planted.file, [], planted.out)


def test_unscored_replies_are_counted_with_their_reason_and_withhold_the_judge(planted: Planted) -> None:
    tables = kept_tables(planted)
    refused = [
        row | {"answer": None, "reason": "refused"} if row["annotator"] == "roleplay" and i % 3 == 0 else row
        for i, row in enumerate(tables["ratings"])
    ]
    content = study_content(**(tables | {"ratings": refused}), annotators=annotators_of(planted), seed=0)
    judge = next(a for a in content["annotators"] if a["name"] == "roleplay")
    assert judge["items"]["all"]["unscored"]["refused"] > 10
    assert "unscored" in judge["items"]["all"]["withheld"]
    assert "roleplay" not in {entry["name"] for entry in content["people"]["all"]["with_raters"]}


def test_what_cannot_be_analysed_is_refused(planted: Planted, tmp_path: Path) -> None:
    file = copied(planted, tmp_path / "again")
    with pytest.raises(InputError, match="is no judge"):
        analyse(file, ["simulated:4"], tmp_path / "out")
    with pytest.raises(InputError, match=r"STUDY\.simulated\.sqlite"):
        analyse(file, [], tmp_path / "out", simulated=True)
    _, store = open_study(file, tmp_path / "empty.sqlite")
    store.issue_tokens(3)
    store.close()
    with pytest.raises(InputError, match="Nobody counts yet: 3 raters have a token, 0 finished"):
        analyse(file, [], tmp_path / "out", tmp_path / "empty.sqlite")
    shutil.rmtree(file.parent / "data")
    write_published_folder(file.parent / "data", seen=8, unseen=4, change=with_profiles_of_lines)
    with pytest.raises(InputError, match="not the dataset that the raters were shown"):
        analyse(file, [], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_dry_run_counts_and_writes_nothing(planted: Planted, tmp_path: Path) -> None:
    words = ["roleplay=scripted", "profile-overlap", SHORTER]
    said = analyse(planted.file, words, tmp_path / "out", budget=Budget(None, None), dry_run=True)
    assert said.startswith("Dry run")
    assert not (tmp_path / "out").exists()


def kept_tables(planted: Planted) -> dict[str, list[dict[str, Any]]]:
    """What content is computed from, judges' replies as ratings."""
    tables = {
        name: read_table(planted.out / f"{planted.result.name}-{file}")
        for name, file in (("pairs", PAIRS), ("ratings", RATINGS), ("answers", ANSWERS), ("raters", RATERS))
    }
    judges = {f["label"]: load_judge(f["name"], model_recipe("scripted"), 0) for f in planted.result.judges}
    transcripts = read_table(planted.out / f"{planted.result.name}-transcripts.parquet")
    tables["ratings"] += reread_ratings(annotators_of(planted), transcripts, judges)
    return tables


def annotators_of(planted: Planted) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = planted.result.fingerprint["annotators"]
    return found


def plain(content: Any) -> Any:
    """As it stands in a file."""
    return json.loads(json.dumps(content))
