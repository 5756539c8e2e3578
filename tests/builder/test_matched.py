"""`dpf_matched`: templates that leave length alone, and a selection after which length tells nothing."""

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from builder.lexical import words
from builder.llm.scripted import scripted_reply
from builder.llm.templates import load_template
from builder.pairs.matched import MATCHED_COLUMNS, length_rows, select_symmetric
from builder.tables import arrow_table
from tests.builder.small_shard import make, personas, recipe_of, scripted_calls

MATCHED = ("critique_matched", "revision_matched", "revision_plain_matched")


@st.composite
def lengths(draw):
    """Rows as `length_rows` gives them: one to three differences, few enough values that some match."""
    columns = draw(st.integers(1, 3))
    difference = st.tuples(*[st.integers(-3, 3)] * columns)
    cells = st.tuples(st.sampled_from(["train", "seen_test"]), st.sampled_from(["seen", "unseen"]), difference)
    return [(f"dpf_matched/{i}", *cell) for i, cell in enumerate(draw(st.lists(cells, max_size=80)))]


@settings(deadline=None)
@given(st.integers(0, 99), lengths(), st.randoms(use_true_random=False))
def test_kept_differences_are_symmetric_in_every_cell_and_no_pair_is_dropped_in_vain(seed, rows, order):
    kept, report = select_symmetric(seed, rows)
    before = Counter(row[1:] for row in rows)
    after = Counter(row[1:] for row in rows if row[0] in kept)
    for (split, group, difference), number in before.items():
        mirror = (split, group, tuple(-d for d in difference))
        assert after[(split, group, difference)] == min(number, before[mirror])
    shuffled = rows.copy()
    order.shuffle(shuffled)
    assert select_symmetric(seed, shuffled) == (kept, report)
    for split, said in report.items():
        own = [row for row in rows if row[1] == split]
        assert said["in"] == len(own)
        assert said["kept"] == sum(row[0] in kept for row in own)
        assert said["share_kept"] == said["kept"] / len(own)
        assert said["dropped"] == {"unmatched_length": len(own) - said["kept"]}


def test_a_pair_without_any_difference_is_always_kept():
    rows = [(f"p{i}", "train", "seen", (0,)) for i in range(5)] + [("q", "train", "seen", (7,))]
    assert select_symmetric(1, rows)[0] == {f"p{i}" for i in range(5)}


def test_the_seed_decides_which_of_a_surplus_stay():
    rows = [(f"p{i}", "train", "seen", (2,)) for i in range(40)] + [
        (f"m{i}", "train", "seen", (-2,)) for i in range(20)
    ]
    first, second = select_symmetric(1, rows)[0], select_symmetric(2, rows)[0]
    assert len(first) == len(second) == 40
    assert {f"m{i}" for i in range(20)} <= first & second
    assert first != second


def test_splits_and_groups_do_not_help_each_other_out():
    rows = [("a", "train", "seen", (1,)), ("b", "seen_test", "seen", (-1,)), ("c", "train", "unseen", (-1,))]
    assert select_symmetric(1, rows)[0] == set()


def share_won_by_the_shorter(rows, length):
    """Ties count half, as in the audit."""
    points = [
        (length(r, "chosen") < length(r, "rejected")) + 0.5 * (length(r, "chosen") == length(r, "rejected"))
        for r in rows
    ]
    return sum(points) / len(points)


MEASURES = {
    "tokens": lambda row, side: row[f"{side}_tokens"],
    "words": lambda row, side: len(words(row[side][0]["content"])),
    "characters": lambda row, side: len(row[side][0]["content"]),
}


def of_many_lengths(request):
    """A revision of 3 to 9 words in a regular form, more often short than long; base answers have 6."""
    draw = random.Random(str(request.messages) + str(request.sample_index))
    number = draw.choice([3, 4, 4, 5, 5, 5, 6, 7, 8, 9])
    return "REVISED PREFERENCE: " + " ".join(draw.choice(["to", "dogs", "kindly"]) for _ in range(number)) + "\nDONE"


def test_after_selection_the_shorter_side_wins_exactly_half_by_every_measure(tmp_path):
    recipe = recipe_of("pairs.judged=check")
    replies = {"reviser": of_many_lengths, "generator": lambda request: "Dogs may ride if they behave."}
    table = make(recipe, scripted_calls(recipe, tmp_path, replies), personas(60), config="dpf_matched")
    rows = table.rows
    assert share_won_by_the_shorter(rows, MEASURES["tokens"]) > 0.55
    kept, report = select_symmetric(recipe.seed, length_rows(arrow_table("dpf_matched", rows)))
    matched = [row for row in rows if row["pair_id"] in kept]
    assert len(matched) > 100
    for split in report:
        own = [row for row in matched if row["split"] == split]
        for measure in MEASURES.values():
            assert share_won_by_the_shorter(own, measure) == 0.5
        for group in ("seen", "unseen"):
            signed = Counter(r["chosen_tokens"] - r["rejected_tokens"] for r in own if r["persona_group"] == group)
            assert all(signed[d] == signed[-d] for d in signed)


def test_length_rows_reads_tokens_and_which_side_is_longer(tmp_path):
    recipe = recipe_of()
    table = arrow_table("dpf_matched", make(recipe, scripted_calls(recipe, tmp_path), config="dpf_matched").rows)
    for row, said in zip(table.to_pylist(), length_rows(table.select(list(MATCHED_COLUMNS))), strict=True):
        tokens, longer_in_words, longer_in_characters = said[3]
        assert said[:3] == (row["pair_id"], row["split"], row["persona_group"])
        assert tokens == row["chosen_tokens"] - row["rejected_tokens"]
        sides = [row[side][0]["content"] for side in ("chosen", "rejected")]
        assert longer_in_characters == (len(sides[0]) > len(sides[1])) - (len(sides[0]) < len(sides[1]))
        counts = [len(words(side)) for side in sides]
        assert longer_in_words == (counts[0] > counts[1]) - (counts[0] < counts[1])


def asked_of(role, config, tmp_path, *overrides):
    """The requests that a role got while pairs were written."""
    seen = []

    def listen(request):
        seen.append(request)
        return scripted_reply(request)

    recipe = recipe_of(*overrides)
    make(recipe, scripted_calls(recipe, tmp_path, {role: listen}), config=config)
    return seen


def test_matched_pairs_are_asked_for_with_their_own_templates_and_the_same_base_answers(tmp_path):
    for role, name in (("critic", "critique_matched"), ("reviser", "revision_matched")):
        assert {r.template.split("@")[0] for r in asked_of(role, "dpf_matched", tmp_path / f"m{role}")} == {name}
        assert {r.template.split("@")[0] for r in asked_of(role, "dpf", tmp_path / f"d{role}")} == {
            name.replace("matched", "paper")
        }
    recipe = recipe_of()
    calls = scripted_calls(recipe, tmp_path)
    dpf, matched = (make(recipe, calls, config=config).rows for config in ("dpf", "dpf_matched"))
    assert [r["base_id"] for r in dpf] == [r["base_id"] for r in matched]
    assert [r["pair_id"].replace("dpf/", "dpf_matched/") for r in dpf] == [r["pair_id"] for r in matched]
    assert all(a["chosen"] != b["chosen"] for a, b in zip(dpf, matched, strict=True))


def test_the_persona_reaches_the_reviser_only_through_the_critique(tmp_path):
    requests = asked_of("reviser", "dpf_matched", tmp_path)
    assert requests
    assert not any("Religion:" in message["content"] for r in requests for message in r.messages)
    assert all("Religion:" in r.messages[-1]["content"] for r in asked_of("critic", "dpf_matched", tmp_path / "critic"))


def test_matched_templates_ask_for_no_shortness():
    values = {"profile": "P", "question": "Q", "answer": "A", "critique": "C"}
    for name in MATCHED:
        said = " ".join(message["content"] for message in load_template(name).render(**values)).lower()
        assert "length" in said or "as long as" in said
        for order in ("fewer tokens", "short answers", "become shorter", "would be hated", "bad assistant"):
            assert order not in said


def test_matched_templates_read_their_own_form():
    for name in ("critique_matched", "revision_matched"):
        template = load_template(name)
        reply = "\n".join([f"{marker} something" for marker in template.markers] + [template.end])
        assert list(template.read(reply).values()) == ["something"] * len(template.markers)
