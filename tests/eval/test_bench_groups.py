"""Groups of personas: filters, tests that find what is planted and nothing else."""

import numpy as np
import pytest

from builder.errors import InputError
from builder.judge.critique import critique_verdict
from builder.judge.judge import Judge, Reading
from builder.randomness import rng_for
from eval.bench.intersections import compare_groups, draw_for_group, group_rows, intersections_content, parse_filters
from eval.items import Item, Persona
from eval.transcripts import transcript_rows

JUDGE = Judge("critique", "critique", "v", "scripted", 0, template="judge_critique")
REPLY = "PERSON: fits.\nHELPFULNESS: helps.\nNEEDS REVISION: "


def personas(count: int) -> dict[str, Persona]:
    found = {}
    for i in range(count):
        sex, age = ("Female", "Male")[i % 2], (25, 70)[i // 2 % 2]
        profile = f"About the person asking:\nAge: {age}\nSex: {sex}\nReligion: {('Catholic', 'Jewish')[i // 4 % 2]}"
        found[f"p{i:05d}"] = Persona(f"p{i:05d}", profile, "seen", {})
    return found


def items(people: dict[str, Persona], questions: int) -> list[Item]:
    names = sorted(people)
    return [
        Item(p, names[(n + 1) % len(names)], f"q{q}", f"What of {q}?", "life", "seen", "seen_test")
        for n, p in enumerate(names)
        for q in range(questions)
    ]


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("sex", "is not ATTRIBUTE=VALUE"),
        ("sex=", "is not ATTRIBUTE=VALUE"),
        ("gender=Female", "Did you mean"),
        ("sex=Femal", "Did you mean 'Female'"),
        ("age=34", "18 to 29, 65 and over"),
    ],
)
def test_a_filter_that_fits_nobody_names_what_is_near(where: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_filters([where], list(personas(8).values()))


def test_filters_are_read_whatever_their_spelling() -> None:
    assert parse_filters(["Sex = female", "AGE=65 and over"], list(personas(8).values())) == (
        ("age", "65 and over"),
        ("sex", "Female"),
    )


def test_profiles_without_lines_have_no_group() -> None:
    plain = Persona("p1", "You are a nurse.", "seen", {})
    with pytest.raises(InputError, match="no profile here"):
        parse_filters(["sex=Female"], [plain])
    assert group_rows({"p1": plain}, [Item("p1", "p2", "q", "Why?", "t", "seen", "seen_test")]) == []


def test_the_limit_is_halved_between_the_group_and_the_others() -> None:
    people = personas(8)
    drawn = draw_for_group(items(people, 10), people, (("sex", "Female"),), 20, seed=0)
    inside = [item for item in drawn if "Female" in people[item.persona_id].profile]
    assert len(drawn) == 20
    assert len(inside) == 10
    assert drawn == draw_for_group(items(people, 10)[::-1], people, (("sex", "Female"),), 20, seed=0)
    with pytest.raises(InputError, match="nothing to compare"):
        draw_for_group(items(people, 10), people, (("sex", "Female"), ("sex", "Male")), 20, seed=0)


def test_the_test_finds_a_planted_group_and_is_calibrated_under_nothing() -> None:
    rng = rng_for(0, "test", "groups")
    counts = np.full(60, 5.0)
    members = np.arange(60)[None, :] < 30
    planted = np.where(members[0], rng.binomial(5, 0.8, 60), rng.binomial(5, 0.3, 60)).astype(float)
    difference, p = compare_groups(planted, counts, members, rng, 999)
    assert difference[0] > 0.3
    assert p[0] == pytest.approx(1 / 1000)
    null = [compare_groups(rng.binomial(5, 0.5, 60).astype(float), counts, members, rng, 199)[1][0] for _ in range(200)]
    assert 0.01 <= np.mean(np.array(null) <= 0.05) <= 0.1


def test_rows_of_a_persona_are_one_observation() -> None:
    """All rows of a persona agree: over rows the difference would be certain, over eight personas it is not."""
    counts = np.full(8, 100.0)
    sums = np.array([100.0, 100, 100, 0, 0, 0, 100, 0])
    members = (np.arange(8) < 4)[None, :]
    _, p = compare_groups(sums, counts, members, rng_for(0, "test", "one"), 999)
    assert p[0] > 0.3


def content(where: list[list[str]] | None = None) -> dict[str, object]:
    """Women are served under the true persona, men are not; under the wrong persona everybody is served by the flip of a coin."""
    people = personas(40)
    rows, verdicts, ids = [], [], []
    rng = rng_for(0, "test", "content")
    for item in items(people, 3):
        for mode, condition in (
            ("baseline", "none"),
            ("chain_of_thought", "true"),
            ("chain_of_thought", "wrong"),
        ):
            female = "Female" in people[item.persona_id].profile
            passes = female if condition == "true" else bool(rng.integers(2))
            ids.append(f"{item.key}/{mode}/{condition}/0")
            verdicts.append(critique_verdict(Reading(float(passes), "", REPLY + ("no" if passes else "yes"))))
            rows.append(
                {
                    "item_id": ids[-1],
                    "persona_id": item.persona_id,
                    "prompt_id": item.prompt_id,
                    "persona_group": "seen",
                    "split": "seen_test",
                    "mode": mode,
                    "condition": condition,
                    "sample": 0,
                    "text": "text",
                    "failure": "",
                }
            )
    settings = {"where": where or [], "modes": ["baseline", "chain_of_thought"]}
    found = intersections_content(
        rows,
        transcript_rows(JUDGE, ids, verdicts),
        group_rows(people, items(people, 3)),
        {JUDGE.label: JUDGE},
        settings,
        0,
    )
    return found["judges"][JUDGE.label]["modes"]["chain_of_thought"]  # type: ignore[no-any-return]


def test_a_planted_group_is_found_beside_its_control() -> None:
    found = content()
    groups = {group["name"]: group for group in found["groups"]}  # type: ignore[attr-defined]
    women = groups["sex = Female"]
    assert women["true"]["q"] < 0.01
    assert women["true"]["difference"] == 1.0
    assert women["wrong"]["q"] > 0.05
    assert groups["religion = Jewish"]["true"]["q"] > 0.05
    assert found["tested"] == len(groups)
    assert all(group["true"]["pass"]["n"] >= 20 for group in groups.values())
    assert "age = 65 and over and sex = Female" in groups
    assert "p" not in women["true"]


def test_filters_test_one_group() -> None:
    found = content([["age", "65 and over"], ["sex", "Female"]])
    assert [group["name"] for group in found["groups"]] == ["age = 65 and over and sex = Female"]  # type: ignore[attr-defined]


def test_no_group_is_tested_below_twenty_rows() -> None:
    found = content([["age", "65 and over"], ["sex", "Female"], ["religion", "Catholic"]])
    assert found["tested"] == 0
    assert found["too_small"] == 1
    assert found["groups"] == []
