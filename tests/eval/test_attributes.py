"""Attribute influence: planted judges are found out, nothing is found where nothing is, and every judge sees what its design says."""

import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import InputError
from builder.judge.judge_file import load_judge
from builder.judge.reading import NO_PROFILE
from builder.llm.budget import Budget
from builder.llm.calls import ModelCalls
from builder.llm.messages import ChatRequest, Failure
from builder.llm.record import Record
from builder.llm.scripted import ScriptedClient, scripted_reply
from builder.randomness import rng_for
from builder.schema import ATTRIBUTES, BIG_FIVE, assistant_message, preference_messages
from eval.attributes import run
from eval.attributes.designs import (
    DESIGNS,
    Question,
    attribute_names,
    draw_questions,
    plan_units,
    stated_by,
)
from eval.attributes.influence import (
    FDR,
    FEWEST_PERSONAS,
    MARKS,
    Marks,
    influence_of,
    kappa_of,
    p_of_excess,
    with_discoveries,
)
from eval.attributes.refine import Refinement
from eval.attributes.section import section
from eval.calls import MODEL_ROLE
from eval.items import Persona, load_personas
from eval.judging import find_judges
from eval.language_models import model_recipe
from eval.rescore import rescore_results
from eval.results import load_results, read_result
from eval.tables import read_table
from tests.published_folder import build_tables, write_tables
from training.profiles import stated_attributes

HELD = ("religion", "ideology", "lifestyle", "place_of_birth")
VALUES = {
    "religion": ("Catholic", "Muslim", "Jewish", "Buddhist"),
    "ideology": ("Liberal", "Moderate", "Conservative"),
    "lifestyle": ("Rises early", "Walks to work", "Keeps bees"),
    "place_of_birth": ("Ohio", "Texas", "Maine", "Utah", "Iowa"),
}
QUESTIONS = 8
Reply = Callable[[ChatRequest], str]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fourteen personas with six attributes each, and eight test questions."""
    tables = build_tables(seen=10, unseen=4)
    for place, row in enumerate(tables["personas"]["train"]):
        for step, name in enumerate(HELD):
            row[name] = VALUES[name][(place * (step + 3) + place // 3) % len(VALUES[name])]
        row["big_five_scores"] = None
        # The profile states only part of what the persona has, as a small recipe's does.
        row["profile"] = "\n".join(["About the person asking:", f"Religion: {row['religion']}", "Age: 40"])
    first = tables["dpf"]["seen_test"][0]
    for number in range(QUESTIONS - 3):
        question = f"Is plan number {number} a good one?"
        row = first | {"prompt_id": f"q{100 + number:05d}", "pair_id": f"dpf/{first['persona_id']}/q{100 + number:05d}"}
        row["prompt"] = preference_messages("some profile", question)
        row["rejected"] = assistant_message(f"Plan {number} is a plan like others.")
        tables["dpf"]["seen_test"].append(row)
    folder = tmp_path_factory.mktemp("attributes") / "data"
    write_tables(folder, tables)
    (folder / "build.json").write_text(json.dumps({"fingerprint": "test" * 16, "recipe": {"name": "test"}}))
    return folder


def planted(read: Callable[[str], str], seen: list[str] | None = None) -> Reply:
    """A judge whose taste follows from what `read` takes out of the profile, and from nothing else but the texts of the answers."""

    def reply(request: ChatRequest) -> str:
        text = "\n".join(message["content"] for message in request.messages)
        if seen is not None:
            seen.append(text)
        answers = [found.strip() for _, found in re.findall(r"<answer_([ab])>(.*?)</answer_", text, re.DOTALL)]
        profile = text.split("<answer_a>")[0]
        liking = [hashlib.sha256(f"{read(profile)}|{answer}".encode()).digest() for answer in answers]
        return f"REASON: taste\nVERDICT: {'A' if liking[0] < liking[1] else 'B'}"

    return reply


def religion_of(profile: str) -> str:
    found = re.search(r"Religion: (.*)", profile)
    return found[1] if found else "none"


def nothing_of(profile: str) -> str:
    return ""


def everything_of(profile: str) -> str:
    return profile


@pytest.fixture
def evaluate(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """run_attributes with a planted judge (and writer), all designs in one folder unless told otherwise."""

    def evaluate(judge: Reply | None = None, writer: Reply | None = None, out: str = "results", **options: Any) -> str:
        def planted_calls(folder: Path, judges: Any, model: Any, **more: Any) -> ModelCalls:
            clients = {judges[0].judge.role: ScriptedClient(reply=judge)} if judge else {}
            if writer:
                clients[MODEL_ROLE] = ScriptedClient(reply=writer)
            recipes = {judges[0].judge.role: judges[0].recipe, MODEL_ROLE: model.recipe}
            folder.mkdir(exist_ok=True)
            return ModelCalls(recipes, Record(folder / "responses.sqlite"), more["budget"], clients=clients)

        if judge or writer:
            monkeypatch.setattr(run, "open_calls", planted_calls)
        options = {"personas": 12, "questions": QUESTIONS, "attributes": HELD} | options
        given_judges = options.pop("judges", ["roleplay=scripted"])
        return run.run_attributes(dataset, given_judges, "scripted", tmp_path / out, **options)

    return evaluate


def rows_by_design(folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    return {
        result.content["design"]: {row["attribute"]: row for row in result.content["attributes"]}
        for result in load_results(folder, "attributes")
    }


@pytest.mark.parametrize("pairs", ["baseline", "twins"])
def test_a_judge_that_reads_religion_alone_is_found_out_in_every_design(evaluate, tmp_path, pairs):
    evaluate(planted(religion_of), designs=["add_one_in", "leave_one_out", "swap"], pairs=pairs)
    found = rows_by_design(tmp_path / "results")
    assert set(found) == {"add_one_in", "leave_one_out", "swap"}
    for design, rows in found.items():
        kappas = {name: row["quartiles"][1] for name, row in rows.items()}
        assert min(kappas, key=kappas.__getitem__) == "religion", (design, kappas)
        assert [name for name, row in rows.items() if row["discovered"]] == ["religion"], design
        assert rows["religion"]["q"] < 0.05
        for name in set(rows) - {"religion"}:
            assert rows[name]["flip_rate"]["value"] == 0
            assert rows[name]["kappa"]["value"] == pytest.approx(1)
        assert rows["religion"]["null_flip_rate"]["value"] == 0


def test_a_judge_that_ignores_the_persona_finds_nothing(evaluate, tmp_path):
    evaluate(planted(nothing_of))
    for result in load_results(tmp_path / "results", "attributes"):
        content = result.content
        assert content["tested"] == (3 if content["design"] == "corruption" else len(HELD))
        for row in content["attributes"]:
            assert row["kappa"]["value"] == pytest.approx(1)
            assert row["flip_rate"]["value"] == 0
            assert not row["discovered"]
            assert row["q"] == 1
        for arm in (content["null"], *content["controls"].values()):
            assert arm["flip_rate"]["value"] == 0


def test_a_judge_that_is_moved_by_any_change_is_moved_by_the_null_arm_too(evaluate, tmp_path):
    """Its verdict is a hash of the whole profile: every change turns about half of the verdicts, another order of the lines as well. At a
    false discovery rate of 5 % one of six families of tests may still find something."""
    with_discoveries = 0
    for seed in range(2):
        evaluate(planted(everything_of), designs=["leave_one_out", "swap", "corruption"], seed=seed, out=f"seed-{seed}")
        for of in rows_by_design(tmp_path / f"seed-{seed}").values():
            rows = list(of.values())
            assert all(row["flip_rate"]["value"] > 0.3 and row["null_flip_rate"]["value"] > 0.3 for row in rows)
            with_discoveries += any(row["discovered"] for row in rows)
    assert with_discoveries <= 1


def test_a_wrong_persona_and_no_persona_stand_beside(evaluate, tmp_path):
    evaluate(planted(religion_of), designs=["swap"], pairs="baseline")
    content = read_result(next((tmp_path / "results").glob("*.json"))).content
    for arm in ("blind", "wrong"):
        assert content["controls"][arm]["rows"] == 12 * QUESTIONS
        assert content["controls"][arm]["flip_rate"]["value"] > 0.1
    assert content["null"]["rows"] == 12 * QUESTIONS  # one a persona, whatever the number of attributes


def test_the_judge_sees_what_the_design_says_and_nothing_else(evaluate, tmp_path):
    seen: list[str] = []
    evaluate(planted(religion_of, seen), designs=["add_one_in"])
    folder = tmp_path / "results"
    kept = {row["profile"] for row in read_table(next(folder.glob("*.profiles.parquet")))}
    asked = read_table(next(folder.glob("*.asked.parquet")))
    shown_profiles = {next((p for p in kept if f"{p}\n" in text), NO_PROFILE) for text in seen}
    assert shown_profiles <= kept | {NO_PROFILE}
    assert NO_PROFILE in shown_profiles
    assert all(NO_PROFILE in text for text in seen if not any(f"{p}\n" in text for p in kept))
    assert {len(stated_attributes(p)) for p in shown_profiles - {NO_PROFILE}} == {3, 4}
    assert {row["arm"] for row in asked} == {"base", "changed", "null", "blind", "wrong"}


@pytest.mark.parametrize("design", DESIGNS)
def test_arms_differ_in_what_the_design_says(dataset, design):
    personas = load_personas(dataset)
    units, _ = plan_units(design, personas, HELD, 12, seed=3)
    assert units
    for unit in units:
        own = stated_by(personas[unit.persona_id])
        base, changed, null = (stated_attributes(text) for text in (unit.base, unit.changed, unit.null))
        assert null == base
        assert list(null) != list(base)
        assert all(own[name] == value for name, value in base.items())
        if design == "add_one_in":
            assert unit.attribute not in base
            assert len(base) == 3
            assert set(changed) - set(base) == {unit.attribute}
            assert set(base) < set(changed)
        elif design == "leave_one_out":
            assert base == own
            assert changed == {n: v for n, v in own.items() if n != unit.attribute}
        elif design == "swap":
            assert base == own
            assert list(changed) == list(base)
            assert [name for name in own if changed[name] != own[name]] == [unit.attribute]
            assert changed[unit.attribute] in {stated_by(p)[unit.attribute] for p in personas.values()}
        else:
            assert base == own
            assert set(changed) < set(own)
    assert sum(bool(unit.wrong) for unit in units) == len({unit.persona_id for unit in units})
    assert all(unit.wrong not in (unit.base, unit.changed, unit.null) for unit in units)


def test_the_order_of_personas_and_attributes_changes_no_plan(dataset):
    personas = load_personas(dataset)
    backwards = dict(reversed(personas.items()))
    for design in DESIGNS:
        assert plan_units(design, personas, HELD, 5, 0)[0] == plan_units(design, backwards, HELD, 5, 0)[0]
        mixed = plan_units(design, personas, HELD[::-1], 5, 0)[0]

        def without_controls(units):
            return sorted((replace(unit, wrong="") for unit in units), key=lambda unit: (unit.attribute, unit.base))

        assert without_controls(mixed) == without_controls(plan_units(design, personas, HELD, 5, 0)[0])


def test_attributes_that_too_few_have_are_not_tried(dataset):
    personas = load_personas(dataset)
    few = sorted(personas)[:5]
    for persona in set(personas) - set(few):
        personas[persona] = replace(
            personas[persona], profile="in prose", values=personas[persona].values | {"religion": None}
        )
    units, not_tried = plan_units("leave_one_out", personas, HELD, 12, 0)
    assert "religion" not in {unit.attribute for unit in units}
    assert "only 5 of the personas have religion" in not_tried["religion"]
    # Who asks for five gets five; the test is withheld then, see below.
    assert plan_units("leave_one_out", personas, HELD, 5, 0)[1] == {}


def test_nobody_has_another_value_to_exchange(dataset):
    personas = {
        name: replace(p, profile="in prose", values=p.values | {"religion": "Catholic"})
        for name, p in load_personas(dataset).items()
    }
    _, not_tried = plan_units("swap", personas, HELD, 12, 0)
    assert set(not_tried) == {"religion"}
    assert "only 0" in not_tried["religion"]


def test_counts_at_the_papers_size():
    """33 attributes x 40 personas x 2 annotators x 20 questions; leave-one-out and swap share one pair a persona and question."""
    people = {
        f"p{i:05d}": Persona(f"p{i:05d}", "in prose", "seen", {name: _some_value(name, i) for name in ATTRIBUTES})
        for i in range(40)
    }
    # Two questions; all counts are those of 20 divided by ten.
    questions = [Question(f"q{i:05d}", f"Question {i}?", f"Answer {i}.") for i in range(2)]
    counted = {}
    for design in ("add_one_in", "leave_one_out", "swap"):
        units, not_tried = plan_units(design, people, ATTRIBUTES, 40, 0)
        assert not not_tried
        assert len(units) == 33 * 40
        plan = run.Plan(design, units, not_tried, questions, "baseline")
        refined = {
            (profile, q.prompt_id): Refinement("c", f"refined {number} {q.prompt_id}")
            for number, profile in enumerate(run._profiles_to_refine(plan))
            for q in questions
        }
        asked, comparisons = run.questions_to_judges(plan, refined)
        main = sum(row["arm"] in ("base", "changed") for row in asked)
        counted[design] = (main, len(asked), len(comparisons), len(refined))
    # With the null arm 79,200, and with both controls once a persona 80,800. Whole personas have one pair for all attributes.
    assert counted["add_one_in"][:2] == (5_280, 8_080)
    assert counted["leave_one_out"] == counted["swap"] == (5_280, 8_080, 40 * 2 * (33 + 4), 80)
    # Now and then the same three attributes are drawn for two changes of a persona.
    assert 8_000 < counted["add_one_in"][2] <= 8_080
    assert 2_600 < counted["add_one_in"][3] <= 2_640


def _some_value(name: str, i: int) -> Any:
    if name == "big_five_scores":
        return {trait: ("Low", "High")[(i >> place) % 2] for place, trait in enumerate(BIG_FIVE)} | {
            "openness": ("Low", "Average", "High")[i % 3]
        }
    return 20 + i if name in ("age", "income") else f"{name} {i}"


def test_questions_are_a_seeded_draw(dataset):
    some = draw_questions(dataset, 6, 0)
    assert some == draw_questions(dataset, 6, 0)
    assert len(some) == 6
    assert len(draw_questions(dataset, 20, 0)) == QUESTIONS
    assert {q.prompt_id for q in some} != {q.prompt_id for q in draw_questions(dataset, 6, 1)}
    assert all(q.answer and q.question for q in some)


@given(st.lists(st.tuples(st.sampled_from(MARKS), st.sampled_from(MARKS)), min_size=5, max_size=40))
@settings(max_examples=60, deadline=None)
def test_kappa_is_scikit_learns(pairs):
    from sklearn.metrics import cohen_kappa_score

    counts = np.zeros((3, 3))
    for first, second in pairs:
        counts[MARKS.index(first), MARKS.index(second)] += 1
    value, reason = kappa_of(counts)
    first, second = zip(*pairs, strict=True)
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert value is None
        assert reason is not None
    else:
        assert value == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)
        assert reason is None


def test_an_undefined_kappa_is_none_with_its_reason_and_counted():
    rows = [Marks(f"p{p}", f"q{q}", "A", "A", "A") for p in range(3) for q in range(8)]
    rows += [Marks("p3", f"q{q}", "AB"[q % 2], "AB"[q % 2], None) for q in range(8)]
    rows += [Marks("p4", "q0", "A", "B", "A")]
    found = influence_of("age", rows, 0)
    assert found["kappas"] == {"p0": None, "p1": None, "p2": None, "p3": 1.0, "p4": None}
    assert sum(found["undefined"].values()) == 4
    assert len(found["undefined"]) == 2
    assert found["p"] is None
    assert "5 personas" in found["withheld"]
    json.dumps(found, allow_nan=False)


def random_marks(rng: np.random.Generator, personas: int, questions: int, change: float, noise: float) -> list[Marks]:
    """A judge whose verdict turns with probability `noise` for any reason, and with `change` more for the attribute."""

    def turned(mark: str, probability: float) -> str:
        return ("B" if mark == "A" else "A") if rng.random() < probability else mark

    rows = []
    for p, q in itertools.product(range(personas), range(questions)):
        base = "AB"[rng.integers(2)]
        rows.append(Marks(f"p{p:02d}", f"q{q:02d}", base, turned(turned(base, noise), change), turned(base, noise)))
    return rows


def discoveries(seed: int, effects: dict[str, float]) -> set[str]:
    rows = []
    for name, change in effects.items():
        rng = rng_for(seed, "test", name)
        marks = random_marks(rng, 14, 12, change, 0.2)
        rows.append({"attribute": name, "p": p_of_excess(marks, rng)})
    return {row["attribute"] for row in with_discoveries(rows) if row["discovered"]}


def test_a_random_judge_is_rarely_credited_and_a_moved_one_is_found():
    """False discovery rate over 60 runs of 33 attributes: 0 true effects, and 8 true ones beside 25 that are none."""
    none = {f"a{i:02d}": 0.0 for i in range(33)}
    runs = [discoveries(seed, none) for seed in range(60)]
    assert sum(map(bool, runs)) / 60 <= 0.12  # 0.05 expected; 0.12 lies more than two standard errors above
    some = none | {f"a{i:02d}": 0.35 for i in range(8)}
    runs = [discoveries(1000 + seed, some) for seed in range(20)]
    real = {name for name, change in some.items() if change}
    assert np.mean([len(found - real) / max(1, len(found)) for found in runs]) <= 0.1
    assert np.mean([len(found & real) / len(real) for found in runs]) > 0.6


@pytest.mark.parametrize("n", [4, 10, 12, 13, 30])
def test_the_permutation_test_is_exact_for_few_and_close_for_many(n):
    rng = rng_for(0, "test", "p")

    def p_of(excess: list[int]) -> float:
        """Each persona on a question of its own: it turns under the change, under the null arm, or under neither."""
        said = {1: ("A", "B", "A"), -1: ("A", "A", "B"), 0: ("A", "A", "A")}
        return p_of_excess([Marks(f"p{i}", f"q{i}", *said[value]) for i, value in enumerate(excess)], rng)

    assert p_of([1] * n) == pytest.approx(max(2.0**-n, 1e-4), abs=4e-4)
    assert p_of([0] * n) == 1.0
    assert p_of([1, -1] * (n // 2)) > 0.4


def test_a_question_that_turns_every_verdict_is_no_influence_of_an_attribute():
    """Nothing but the questions differ: half of them turn under the change, half under the null arm, by chance. The rate of p below 0.05 in
    200 runs stays near 0.05; were signs drawn by persona alone it would be about a third."""
    p_values = []
    for seed in range(200):
        rng = rng_for(seed, "test", "questions")
        turned = rng.normal(size=12) * 1.5
        chances = 1 / (1 + np.exp(-(turned - 1.0))), 1 / (1 + np.exp(turned + 1.0))
        marks = [
            Marks(f"p{p}", f"q{q}", "A", *("AB"[int(rng.random() < chance[q])] for chance in chances))
            for p in range(20)
            for q in range(12)
        ]
        p_values.append(p_of_excess(marks, rng))
    assert np.mean(np.array(p_values) < 0.05) <= 0.09


def test_rows_in_any_order_give_the_same_figures(evaluate, tmp_path):
    evaluate(planted(religion_of), designs=["leave_one_out"])
    folder = tmp_path / "results"
    result = load_results(folder, "attributes")[0]
    asked = read_table(folder / f"{result.name}.asked.parquet")
    transcripts = read_table(folder / f"{result.name}.transcripts.parquet")
    assert result.content["determination"]["rows"] == 12 * QUESTIONS
    rng_for(0, "test", "shuffle").shuffle(asked)
    rng_for(1, "test", "shuffle").shuffle(transcripts)
    judge = find_judges(["roleplay=scripted"], ("pairwise",), 0)[0].judge
    from eval.transcripts import reread

    content, rows = run._figures(asked, reread(judge, transcripts), "leave_one_out", {}, 0)
    assert content == result.content
    assert rows == result.rows


@pytest.mark.thorough
def test_hash_seeds_change_nothing(evaluate, dataset, tmp_path):
    options = {"attributes": HELD, "personas": 10, "questions": 5, "designs": ["swap"]}
    code = (
        "from pathlib import Path; from eval.attributes.run import run_attributes;"
        f"run_attributes(Path({str(dataset)!r}), ['roleplay=scripted'], 'scripted', Path({str(tmp_path / 'other')!r}), **{options!r})"
    )
    environment = os.environ | {"PYTHONHASHSEED": "12345"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True)
    evaluate(**options)
    other, own = (next((tmp_path / name).glob("*.json")).read_text() for name in ("other", "results"))
    assert other == own


def test_a_second_run_asks_nothing_and_another_one_is_refused(evaluate, tmp_path):
    seen: list[str] = []
    first = evaluate(planted(religion_of, seen), designs=["swap"])
    asked = len(seen)
    again = evaluate(planted(religion_of, seen), designs=["swap"])
    assert len(seen) == asked
    assert "Nothing left to ask" in again
    assert again.splitlines()[:5] == first.splitlines()[:5]
    with pytest.raises(InputError, match="differing: questions"):
        evaluate(planted(religion_of), designs=["swap"], questions=6)


def test_rescoring_gives_the_same_result_and_todays_judge(evaluate, tmp_path):
    evaluate(planted(religion_of), designs=["add_one_in"])
    folder = tmp_path / "results"
    result = load_results(folder, "attributes")[0]
    judge = load_judge("roleplay", model_recipe("scripted"), 0, role="judge1")
    assert run.rescored(result, folder, {judge.label: judge}) == result
    later = replace(judge, version="f" * 12)
    again = run.rescored(result, folder, {judge.label: later})
    assert again.content == result.content
    assert again.judges[0]["label"] == later.label
    with pytest.raises(InputError, match="no judge is given"):
        run.rescored(result, folder, {})
    (folder / f"{result.name}.transcripts.parquet").write_bytes(b"other")
    with pytest.raises(InputError, match=r"transcripts\.parquet"):
        rescore_results(folder, [])


def test_a_writer_that_cannot_be_read_leaves_rows_unscored_and_figures_withheld(evaluate, tmp_path):
    def writer(request: ChatRequest) -> str:
        return "no form at all" if request.template.startswith("revision") else scripted_reply(request)

    table = evaluate(planted(religion_of), writer=writer, designs=["swap"])
    result = load_results(tmp_path / "results", "attributes")[0]
    assert result.rows["scored"] == 0
    assert set(result.rows["unscored"]) == {"revision_unreadable"}
    assert result.content["attributes"] == []
    assert "unscored" in result.content["withheld"]
    assert "Withheld: 100% of rows unscored" in table
    assert section([result], tmp_path / "results").figures == []


def test_what_an_endpoint_left_open_is_asked_again_before_anything_is_written(evaluate, tmp_path, monkeypatch):
    """Replies that can still come are no unscored rows: the second run asks for them alone."""

    class Failing(ScriptedClient):
        def generate(self, requests, keys, wanted, on_reply):
            lost = {index for index in wanted if index % 3 == 0}
            on_reply([(index, Failure("endpoint_error", "503")) for index in sorted(lost)])
            super().generate(requests, keys, wanted - lost, on_reply)

    with monkeypatch.context() as patch:
        patch.setattr("tests.eval.test_attributes.ScriptedClient", Failing)
        with pytest.raises(InputError, match="left open"):
            evaluate(planted(religion_of), designs=["swap"])
    assert not list((tmp_path / "results").glob("*.json"))
    evaluate(planted(religion_of), designs=["swap"])
    assert load_results(tmp_path / "results", "attributes")[0].rows["unscored"] == {}


def test_few_personas_withhold_the_test(evaluate, tmp_path):
    table = evaluate(planted(religion_of), designs=["swap"], personas=FEWEST_PERSONAS - 1)
    content = load_results(tmp_path / "results", "attributes")[0].content
    assert content["tested"] == 0
    assert all(row["p"] is None for row in content["attributes"])
    assert "Nothing was tested" in table


def test_each_annotator_may_judge_its_own_refinement(evaluate, tmp_path):
    def writer(request: ChatRequest) -> str:
        said = "\n".join(message["content"] for message in request.messages)
        # The refinement says what the critique said, and that says the religion: own refinements differ where religion does.
        text = f"For a {religion_of(said)} person. {hashlib.sha256(said.encode()).hexdigest()[:6]}"
        if request.template.startswith("critique"):
            return f"EVALUATION: so\nSUGGESTIONS: Religion: {religion_of(said)}\nDONE"
        return f"REVISED PREFERENCE: {text}\nDONE"

    evaluate(planted(nothing_of), writer=writer, designs=["swap"], pairs="own")
    (rows,) = rows_by_design(tmp_path / "results").values()
    assert [name for name, row in rows.items() if row["flip_rate"]["value"]] == ["religion"]
    # Twins whose refinements are the same text leave nothing to judge.
    evaluate(planted(nothing_of), writer=writer, designs=["swap"], pairs="twins", out="twins")
    result = load_results(tmp_path / "twins", "attributes")[0]
    assert set(result.rows["unscored"]) == {"identical_texts"}


def test_a_dry_run_counts_and_writes_nothing(evaluate, tmp_path):
    said = evaluate(dry_run=True, judges=["roleplay=scripted", "likelihood=scripted"])
    assert not (tmp_path / "results").exists()
    assert "add_one_in: 4 attributes or shares, 48 personas in all, 8 questions: 768 judgements of the design" in said
    assert "swap: " in said
    assert "Dry run: this would take" in said


def test_the_likelihood_judge_and_a_budget(evaluate, tmp_path):
    from builder.errors import BudgetStop

    with pytest.raises(BudgetStop):
        evaluate(judges=["likelihood=scripted"], designs=["swap"], budget=Budget(max_calls=50))
    assert not list((tmp_path / "results").glob("*.json"))
    table = evaluate(judges=["likelihood=scripted"], designs=["swap"])
    assert "(scripted)" in table
    assert "likelihood@" in table
    # Told nothing, a likelihood judge prefers neither: every verdict is a tie, and no kappa is defined.
    blind = load_results(tmp_path / "results", "attributes")[0].content["controls"]["blind"]
    assert blind["kappa"]["value"] is None
    assert "one answer throughout" in blind["kappa"]["withheld"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attributes": ["relgion"]}, "Did you mean religion"),
        ({"designs": ["leave_one_in"]}, "it takes add_one_in"),
        ({"pairs": "both"}, "it takes twins, baseline, own"),
        ({"personas": 0}, "--personas is 0"),
        ({"questions": 1}, "--questions is 1"),
        ({"attributes": ["fertility"], "designs": ["swap"]}, "only 0 of the personas have fertility"),
        ({"judges": ["critique=scripted"]}, "pairwise or likelihood"),
    ],
)
def test_what_makes_no_sense_is_refused(evaluate, options, message):
    with pytest.raises(InputError, match=re.escape(message)):
        evaluate(**options)


def test_names_of_attributes_are_taken_as_the_paper_writes_them():
    assert attribute_names(["Disability type", "political views"]) == ["disability", "political_views"]
    assert attribute_names(None) == list(ATTRIBUTES)


def test_the_section_has_figure_5_in_words(evaluate, tmp_path):
    evaluate(planted(religion_of), designs=["add_one_in", "leave_one_out"])
    folder = tmp_path / "results"
    page = section(load_results(folder, "attributes"), folder)
    figure = page.figures[0]
    assert figure.number == "5"
    assert figure.image.startswith("data:image/svg+xml")
    assert figure.words.index("religion") < figure.words.index("ideology")
    assert "Null arm: median 1.00" in figure.words
    assert [f.number for f in page.figures] == ["5", None]
    assert page.scripted
    assert page.tables
    assert page.examples
    assert any("religion" in text for text in page.text)
    assert page == section(load_results(folder, "attributes")[::-1], folder)
    assert FDR == 0.05
