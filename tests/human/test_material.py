"""What is drawn for a study: whom, which lines of whom, which pairs, and the same whatever the order of the files."""

import json
import subprocess
import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import InputError
from builder.personas.profile import profile_text
from eval.human.cards import card_text, read_cards
from eval.human.material import (
    Material,
    attention_checks,
    draw_material,
    in_proportion,
    material_from_dict,
    material_to_dict,
)
from eval.human.study import Pairs
from eval.rows import load_rows
from tests.human.conftest import with_profiles_of_lines
from tests.published_folder import Tables, write_published_folder

PROFILE = {
    "Age": "40",
    "Sex": "Female",
    "Race": "White",
    "Religion": "Not known",
    "Veteran status": "Not applicable",
    "Disability": "None",
    "Core values": "honesty",
    "Income": "$50,000 a year",
}


def dataset(folder: Path, change=None, **sizes) -> Path:
    def both(tables: Tables) -> None:
        with_profiles_of_lines(tables)
        if change is not None:
            change(tables)

    return write_published_folder(folder / "changed", change=both, **sizes)


def everybody(change):
    """A change of every row of the personas config."""

    def changed(tables: Tables) -> None:
        for number, persona in enumerate(tables["personas"]["train"]):
            change(number, persona)

    return changed


def test_the_same_every_time_and_another_by_another_seed(study, material, published_data):
    assert draw_material(study, published_data) == material
    others = [draw_material(replace(study, seed=seed), published_data) for seed in range(1, 6)]
    assert len({other.personas for other in others}) > 1


def test_the_order_of_the_rows_changes_nothing(study, material, tmp_path):
    def backwards(tables: Tables) -> None:
        for splits in tables.values():
            for rows in splits.values():
                rows.reverse()

    assert draw_material(study, dataset(tmp_path, backwards)).personas == material.personas


def test_only_adults_with_both_extras_are_shown(study, tmp_path):
    def spoil(number, persona):
        persona["is_adult"] = number != 0
        if number == 1:
            persona["extras"] = {"core_values": ["honesty"], "entertainment_preferences": []}
        if number == 2:
            persona["extras"] = None

    drawn = draw_material(replace(study, personas=3), dataset(tmp_path, everybody(spoil)))
    assert {persona.persona_id for persona in drawn.personas} == {"p00003", "p00004", "p00005"}


def test_a_card_has_lines_of_the_profile_in_its_order_and_the_extras_last(study, tmp_path):
    def long(number, persona):
        persona["profile"] = profile_text([f"{what}: {value}" for what, value in PROFILE.items()])

    folder = dataset(tmp_path, everybody(long))
    told = [what for what in PROFILE if what not in ("Religion", "Veteran status", "Core values")]
    cards = [p.card for p in draw_material(replace(study, personas=6), folder).personas]
    for card in cards:
        names = [what for what, _ in card]
        assert len(card) == study.attributes
        assert card[-2:] == (("Core values", "honesty"), ("Entertainment preferences", "books"))
        assert names[:-2] == sorted(names[:-2], key=told.index)
        assert all(PROFILE[what] == value for what, value in card[:-2])
    assert len({card[:-2] for card in cards}) > 1  # drawn for each persona
    full = draw_material(replace(study, attributes=len(told) + 2), folder).personas[0].card
    assert [what for what, _ in full[:-2]] == told
    with pytest.raises(InputError, match="0 have core values and entertainment preferences and 6 more"):
        draw_material(replace(study, attributes=len(told) + 3), folder)


def test_the_card_as_a_judge_sees_it_and_that_of_any_other_persona(study, material, published_data):
    persona = material.personas[0]
    text = card_text(persona.card)
    assert text.splitlines()[1:] == [f"{what}: {value}" for what, value in persona.card]
    everyone = [f"p{number:05d}" for number in range(6)]
    cards = read_cards(study, published_data, everyone)
    assert sorted(cards) == everyone
    assert all(cards[p.persona_id] == p.card for p in material.personas)
    with pytest.raises(InputError, match="has no p99999"):
        read_cards(study, published_data, ["p99999"])


def test_pairs_are_test_pairs_of_the_persona_with_the_preferred_text_first(study, material, published_data):
    rows = {row.pair_id: row for row in load_rows(published_data)}
    for persona in material.personas:
        pairs = [item for item in persona.items if item.kind != "check"]
        assert [sum(item.kind == kind for item in pairs) for kind in ("contrast", "dpf")] == [2, 2]
        for item in pairs:
            row = rows[item.pair_id]
            assert (row.persona_id, row.config) == (item.persona_id, item.kind) == (persona.persona_id, item.kind)
            assert (item.question, item.answers) == (row.question, (row.chosen, row.rejected))


def test_no_question_stands_twice_where_there_are_enough(study, published_data):
    # Three test questions: 1 + 2 need them all, so the contrast pair may take only the one that dpf leaves.
    few = replace(study, personas=6, questions_per_persona=3, pairs=Pairs(contrast=1, dpf=2))
    for seed in range(5):
        for persona in draw_material(replace(few, seed=seed), published_data).personas:
            questions = [item.question for item in persona.items if item.kind != "check"]
            assert len(set(questions)) == 3


def test_a_contrast_pair_leaves_dpf_the_questions_that_it_needs(study, tmp_path):
    def without_one(tables: Tables) -> None:
        rows = tables["dpf"]["heldout_test"]
        rows[:] = [row for row in rows if row["prompt_id"] != "q00005"]

    # dpf needs both of its questions, so the contrast pair must take the third, wherever the draw has put it.
    few = replace(study, personas=6, questions_per_persona=3, pairs=Pairs(contrast=1, dpf=2))
    for persona in draw_material(few, dataset(tmp_path, without_one)).personas:
        assert len({item.question for item in persona.items if item.kind != "check"}) == 3


def test_both_mirrors_are_asked_where_both_persons_are_in_the_study(study, tmp_path):
    def only_neighbours(number, persona):
        persona["is_adult"] = number in (0, 1)  # of the four, 0 is set against 1 and 3, and 1 against 0 and 2

    folder = dataset(tmp_path, everybody(only_neighbours))
    for seed in range(4):
        drawn = draw_material(replace(study, seed=seed), folder)
        shown = {
            item.pair_id
            for persona in drawn.personas
            for item in persona.items
            if item.kind == "contrast" and item.item_id in persona.shown
        }
        mirrors = {
            f"contrast/p0000{other}-p0000{own}/{question}"
            for own, other, question in ((p[14], p[21], p[23:]) for p in shown)
        }
        assert shown == mirrors
        assert len(shown) == 4


def whole_mirrors(pairs: Collection[str]) -> set[str]:
    """Of pair ids those whose mirror is among them."""
    return {pair for pair in pairs if mirror_of(pair) in pairs}


def mirror_of(pair_id: str) -> str:
    _, persons, question = pair_id.split("/")
    return f"contrast/{'-'.join(reversed(persons.split('-')))}/{question}"


@pytest.mark.parametrize("contrast", [1, 2, 3])
def test_no_place_is_given_to_half_a_mirror_that_a_whole_one_could_have(study, published_data, contrast):
    wide = replace(study, personas=6, questions_per_persona=contrast, questions_per_rater=1, pairs=Pairs(contrast, 0))
    every = {row.pair_id for row in load_rows(published_data) if row.config == "contrast"}
    for seed in range(12):
        drawn = draw_material(replace(wide, seed=seed), published_data)
        drawn_pairs = {
            persona.persona_id: {item.pair_id for item in persona.items if item.kind == "contrast"}
            for persona in drawn.personas
        }
        among = set().union(*drawn_pairs.values())
        whole = whole_mirrors(among)
        for pair in every - whole:
            sides = [drawn_pairs[name] & whole for name in (pair[9:15], pair[16:22])]
            # Nothing but want of room, or the same question in another whole mirror, keeps one out.
            asked = [pair.rpartition("/")[2] in {own.rpartition("/")[2] for own in side} for side in sides]
            assert any(len(side) == contrast for side in sides) or any(asked)


@pytest.mark.parametrize("questions", [1, 2, 3, 4])
def test_a_mirror_is_shown_to_the_raters_of_both_persons_while_both_have_room(study, tmp_path, questions):
    folder = dataset(tmp_path, seen=8, unseen=2)
    wide = replace(study, personas=8, questions_per_persona=6, questions_per_rater=questions, pairs=Pairs(5, 1))
    for seed in range(12):
        drawn = draw_material(replace(wide, seed=seed), folder)
        items, shown = (
            {
                persona.persona_id: {
                    item.pair_id
                    for item in persona.items
                    if item.kind == "contrast" and (all_of or item.item_id in persona.shown)
                }
                for persona in drawn.personas
            }
            for all_of in (True, False)
        )
        whole = whole_mirrors(set().union(*shown.values()))
        for pair in whole_mirrors(set().union(*items.values())) - whole:
            # Then the raters of one of the two are asked whole mirrors throughout.
            assert any(shown[name] <= whole for name in (pair[9:15], pair[16:22]))
        assert whole


def test_who_has_too_few_pairs_with_two_texts_is_not_shown(study, tmp_path):
    def spoil(tables: Tables) -> None:
        for rows in tables["dpf"].values():
            for row in rows:
                if row["persona_id"] in ("p00000", "p00001", "p00002"):
                    row["rejected"] = row["chosen"]
                if row["persona_id"] == "p00003":
                    row["chosen"] = [{"role": "assistant", "content": " "}]

    folder = dataset(tmp_path, spoil)
    drawn = draw_material(study, folder)
    assert {persona.persona_id for persona in drawn.personas} == {"p00004", "p00005"}
    with pytest.raises(InputError) as refused:
        draw_material(replace(study, personas=3), folder)
    assert "has 2 personas for this study, and it asks for 3: of its 6 adults, 6 have" in str(refused.value)
    assert "lower personas to 2" in str(refused.value)


def test_too_few_pairs_and_what_to_lower(study, published_data):
    many = replace(study, questions_per_persona=14, pairs=Pairs(contrast=10, dpf=4))
    with pytest.raises(InputError, match=r"lower pairs.contrast to 6, pairs.dpf to 3"):
        draw_material(many, published_data)
    with pytest.raises(InputError, match="lower personas to 6"):
        draw_material(replace(study, personas=7), published_data)


def test_advice_that_is_followed_helps(study, published_data):
    followed = replace(study, questions_per_persona=9, pairs=Pairs(contrast=6, dpf=3), personas=2)
    assert len(draw_material(followed, published_data).personas) == 2


def test_a_dataset_without_contrast_pairs(study, tmp_path):
    folder = dataset(tmp_path, lambda tables: tables.pop("contrast"))
    with pytest.raises(InputError, match=r"has no config contrast; set pairs.contrast to 0"):
        draw_material(study, folder)
    drawn = draw_material(replace(study, questions_per_persona=3, pairs=Pairs(contrast=0, dpf=3)), folder)
    assert {item.kind for persona in drawn.personas for item in persona.items} == {"dpf", "check"}


def test_profiles_that_are_no_lines(study, tmp_path):
    with pytest.raises(InputError, match="of its 6 adults, 0 have"):
        draw_material(study, write_published_folder(tmp_path / "sentences"))


def test_no_dataset(study, tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        draw_material(study, tmp_path / "none")


def test_what_raters_are_asked(study, material):
    for persona in material.personas:
        kinds = {item.item_id: item.kind for item in persona.items}
        asked = [kinds[item_id] for item_id in persona.shown]
        assert sorted(asked) == ["check", "contrast", "contrast", "dpf"]  # 3 of 2 + 2, and 1 check
        assert len(set(persona.shown)) == len(persona.shown)


def test_an_item_id_tells_nothing_and_is_unique(material):
    ids = [item.item_id for persona in material.personas for item in persona.items]
    assert len(set(ids)) == len(ids)
    assert len({(len(item_id), item_id[0], item_id.isalnum()) for item_id in ids}) == 1


def test_attention_checks_are_drawn_and_no_more_than_are_written(study, published_data):
    number = len(attention_checks())
    every = draw_material(replace(study, attention_checks=number), published_data)
    for persona in every.personas:
        questions = [item.question for item in persona.items if item.kind == "check"]
        assert len(set(questions)) == number
    assert draw_material(replace(study, attention_checks=0), published_data).personas[0].items[-1].kind == "dpf"
    with pytest.raises(InputError, match=f"attention_checks is {number + 1}, but only {number} are written"):
        draw_material(replace(study, attention_checks=number + 1), published_data)


@pytest.mark.parametrize("name", attention_checks())
def test_a_check_asks_in_the_middle_of_one_answer_and_looks_like_the_other(name):
    question, (asked, other) = attention_checks()[name]
    assert question.endswith("?")
    request = [place for place in range(len(asked)) if asked[place:].startswith("this")]
    assert 0.1 < min(request) / len(asked) < 0.9
    assert not any(word in other for word in ("choose this", "pick this", "select this", "this answer", "the box"))
    assert 0.6 < len(asked) / len(other) < 1.6


def test_as_json_and_back(material: Material):
    assert material_from_dict(json.loads(json.dumps(material_to_dict(material)))) == material


@given(st.integers(0, 40), st.integers(0, 20), st.integers(0, 20))
def test_kinds_in_proportion(total, contrast, dpf):
    total = min(total, contrast + dpf)
    if contrast + dpf == 0:
        return
    shares = in_proportion(total, {"contrast": contrast, "dpf": dpf})
    assert sum(shares.values()) == total
    for kind, size in (("contrast", contrast), ("dpf", dpf)):
        assert abs(shares[kind] - total * size / (contrast + dpf)) < 1
        assert shares[kind] <= size


def test_nothing_heavy_is_imported_with_it():
    code = (
        "import sys, eval.human.material; print([m for m in ('torch', 'transformers', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
