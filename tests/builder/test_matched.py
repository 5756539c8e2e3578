"""`dpf_matched`: templates that leave length alone, and a selection after which length tells nothing."""

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from builder.lexical import words
from builder.llm.scripted import scripted_reply
from builder.llm.templates import load_template
from builder.pairs.matched import MATCHED_COLUMNS, length_bin, length_rows, select_symmetric
from builder.randomness import seed_for
from builder.tables import arrow_table
from tests.builder.small_shard import make, personas, recipe_of, scripted_calls

MATCHED = ("critique_matched", "revision_matched", "revision_plain_matched")


@st.composite
def lengths(draw):
    """Rows as `length_rows` gives them: one to three differences, few enough bins and values that some match."""
    columns = draw(st.integers(1, 3))
    bins = st.tuples(st.integers(0, 2), st.integers(0, 2))
    difference = st.tuples(*[st.integers(-2, 2)] * columns)
    cells = st.tuples(
        st.sampled_from(["train", "seen_test"]), st.sampled_from(["seen", "unseen"]), st.tuples(bins, difference)
    )
    return [(f"dpf_matched/{i}", *cell) for i, cell in enumerate(draw(st.lists(cells, max_size=80)))]


@settings(deadline=None)
@given(st.integers(0, 99), lengths(), st.randoms(use_true_random=False))
def test_every_kept_pair_has_a_counterpart_in_its_cell_and_none_is_dropped_in_vain(seed, rows, order):
    kept, report = select_symmetric(seed, rows)
    before = Counter(row[1:] for row in rows)
    after = Counter(row[1:] for row in rows if row[0] in kept)
    for (split, group, ((first, second), difference)), number in before.items():
        counterpart = (split, group, ((second, first), tuple(-d for d in difference)))
        assert after[(split, group, ((first, second), difference))] == min(number, before[counterpart])
    shuffled = rows.copy()
    order.shuffle(shuffled)
    assert select_symmetric(seed, shuffled) == (kept, report)
    for split, said in report.items():
        own = [row for row in rows if row[1] == split]
        assert said["in"] == len(own)
        assert said["kept"] == sum(row[0] in kept for row in own)
        assert said["share_kept"] == said["kept"] / len(own)
        assert said["dropped"] == {"unmatched_length": len(own) - said["kept"]}


def share_won(rows, worth):
    """How often a rule takes the chosen side that gives each side the number `worth(own bin, other bin)`; equal numbers are half."""
    points = [
        (worth(own, other) > worth(other, own)) + 0.5 * (worth(own, other) == worth(other, own))
        for *_, ((own, other), _) in rows
    ]
    return sum(points) / len(points)


@settings(deadline=None)
@given(st.integers(0, 99), lengths(), st.dictionaries(st.tuples(*[st.integers(0, 2)] * 2), st.integers(-3, 3)))
def test_any_rule_on_the_two_bins_wins_exactly_half(seed, rows, numbers):
    kept, _ = select_symmetric(seed, rows)
    for split in ("train", "seen_test"):
        own = [row for row in rows if row[0] in kept and row[1] == split]
        assert not own or share_won(own, lambda *bins: numbers.get(bins, 0)) == 0.5


def row_of(number, chosen, rejected):
    return (
        f"p{number}",
        "train",
        "seen",
        ((length_bin(chosen), length_bin(rejected)), (chosen - rejected, 0, 0)),
    )


def test_revisions_pulled_to_a_usual_length_leave_no_rule_on_length():
    """As many are longer as shorter, so that signed differences are even from the start."""
    draw = random.Random(1)
    pairs = []
    for _ in range(8000):
        base = max(20, round(draw.gauss(100, 40)))
        pairs.append((max(20, round(100 + (base - 100) / 2 + draw.gauss(0, 20))), base))
    rows = [row_of(number, *pair) for number, pair in enumerate(pairs)]

    def near_100(own, other):
        return -abs(own - length_bin(100))

    assert abs(share_won(rows, lambda own, other: -own) - 0.5) < 0.02
    assert share_won(rows, near_100) > 0.6
    kept, _ = select_symmetric(1, rows)
    matched = [row for row in rows if row[0] in kept]
    assert len(matched) > 2000
    assert share_won(matched, near_100) == 0.5
    exact = [pairs[int(row[0][1:])] for row in matched]
    nearer = [(abs(a - 100) < abs(b - 100)) + 0.5 * (abs(a - 100) == abs(b - 100)) for a, b in exact]
    assert abs(sum(nearer) / len(nearer) - 0.5) < 0.03


def test_bins_of_length_are_single_lengths_and_then_a_tenth_wide():
    bins = [length_bin(tokens) for tokens in range(3000)]
    assert bins == sorted(bins)
    assert len(set(bins[:11])) == 11
    widths = Counter(bins[:2500])
    for tokens in range(20, 2000):
        assert 0.05 * tokens < widths[length_bin(tokens)] <= 0.1 * tokens + 1
    assert length_bin(10**7) == length_bin(10**8)
    # In whole numbers, the same on every machine.
    starts = [tokens for tokens in range(1, 60) if bins[tokens] != bins[tokens - 1]]
    assert starts == [*range(1, 21), 22, 24, 26, 28, 30, 33, 36, 39, 42, 46, 50, 55]


EVEN = ((4, 4), (0,))


def test_a_pair_without_any_difference_is_always_kept():
    rows = [(f"p{i}", "train", "seen", EVEN) for i in range(5)] + [("q", "train", "seen", ((4, 4), (1,)))]
    assert select_symmetric(1, rows)[0] == {f"p{i}" for i in range(5)}


def test_the_seed_decides_which_of_a_surplus_stay():
    rows = [(f"p{i}", "train", "seen", ((5, 4), (2,))) for i in range(40)] + [
        (f"m{i}", "train", "seen", ((4, 5), (-2,))) for i in range(20)
    ]
    first, second = select_symmetric(1, rows)[0], select_symmetric(2, rows)[0]
    assert len(first) == len(second) == 40
    assert {f"m{i}" for i in range(20)} <= first & second
    assert first != second
    # Built again with the same seed, a later version keeps the same pairs.
    drawn = sorted((f"p{i}" for i in range(40)), key=lambda pair_id: seed_for(1, "matched", pair_id))
    assert {pair_id for pair_id in first if pair_id[0] == "p"} == set(drawn[:20])


def test_splits_and_groups_do_not_help_each_other_out():
    longer, shorter = ((5, 4), (1,)), ((4, 5), (-1,))
    rows = [
        ("a", "train", "seen", longer),
        ("b", "seen_test", "seen", shorter),
        ("c", "train", "unseen", shorter),
    ]
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


def some_words(request, numbers):
    draw = random.Random(str(request.messages) + str(request.sample_index))
    return " ".join(draw.choice(["to", "dogs", "kindly"]) for _ in range(draw.choice(numbers)))


def of_many_lengths(request):
    """A revision of 3 to 9 words in a regular form, more often short than long."""
    return f"REVISED PREFERENCE: {some_words(request, [3, 4, 4, 5, 5, 5, 6, 7, 8, 9])}\nDONE"


def base_of_many_lengths(request):
    return some_words(request, range(4, 9))


def test_after_selection_the_shorter_side_wins_exactly_half_by_every_measure(tmp_path):
    recipe = recipe_of("pairs.judged=check")
    replies = {"reviser": of_many_lengths, "generator": base_of_many_lengths}
    table = make(recipe, scripted_calls(recipe, tmp_path, replies), personas(120), config="dpf_matched")
    rows = table.table.to_pylist()
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
    table = make(recipe, scripted_calls(recipe, tmp_path), config="dpf_matched").table
    for row, said in zip(table.to_pylist(), length_rows(table.select(list(MATCHED_COLUMNS))), strict=True):
        bins, (tokens, longer_in_words, longer_in_characters) = said[3]
        assert bins == (length_bin(row["chosen_tokens"]), length_bin(row["rejected_tokens"]))
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
    dpf, matched = (make(recipe, calls, config=config).table.to_pylist() for config in ("dpf", "dpf_matched"))
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
