"""Places and the order of questions, by properties: whoever comes, goes, returns or is excluded."""

import itertools
from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from eval.human.assignment import assign, taken_places
from eval.human.order import first_answer, item_order
from eval.human.records import Rater

IDLE = 100.0
# What happens next: an arrival, or something that befalls a rater who has a persona.
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["arrive", "arrive", "arrive", "finish", "exclude", "seen"]),
        st.integers(0, 99),
        st.floats(0, 60),
    ),
    max_size=80,
)
PERSONAS = [f"p{number}" for number in range(5)]


def play(events, places: int, personas=PERSONAS):
    """Runs the events; yields (taken before, persona given, raters, excluded, now) at every arrival."""
    raters: list[Rater] = []
    excluded: set[str] = set()
    now = 0.0
    for what, which, later in events:
        now += later
        if what == "arrive":
            name = f"r{len(raters):03}"
            taken = taken_places(raters, excluded, IDLE, now)
            given_persona = assign(personas, taken, places, 0, name)
            if given_persona is not None:
                raters.append(Rater(name, "open", given_persona, now, now, None))
            yield taken, given_persona, raters, excluded, now
        elif raters:
            place = which % len(raters)
            rater = raters[place]
            if what == "finish" and rater.state == "open":
                raters[place] = replace(rater, state="finished", finished=now, last_seen=now)
            elif what == "exclude" and rater.state == "finished":
                excluded.add(rater.rater_id)
            elif what == "seen" and rater.state == "open":
                raters[place] = replace(rater, last_seen=now)


@given(EVENTS, st.integers(1, 4))
def test_a_rater_goes_where_fewest_places_are_taken_and_only_into_a_free_one(events, places: int) -> None:
    for taken, persona, _, _, _ in play(events, places):
        fewest = min(taken[p] for p in PERSONAS)
        if persona is None:
            assert fewest >= places
        else:
            assert taken[persona] == fewest < places


@given(st.integers(0, 30), st.integers(1, 4))
def test_without_dropouts_the_personas_differ_by_one_at_most_and_fill_to_the_last_place(
    arrivals: int, places: int
) -> None:
    raters: list[Rater] = []
    for _, _, raters, _, _ in play([("arrive", 0, 0.0)] * arrivals, places):
        counts = Counter(rater.persona_id for rater in raters)
        assert max(counts.values()) - min(counts[p] for p in PERSONAS) <= 1
    assert len(raters) == min(arrivals, places * len(PERSONAS))


@given(EVENTS, st.integers(1, 4))
@settings(deadline=None)
def test_after_any_history_new_raters_fill_every_place_and_no_more(events, places: int) -> None:
    *_, (_, _, raters, excluded, now) = play([*events, ("arrive", 0, 0.0)], places)
    before = taken_places(raters, excluded, IDLE, now)
    crowd = list(raters)
    for number in range(places * len(PERSONAS) + 1):
        persona = assign(PERSONAS, taken_places(crowd, excluded, IDLE, now), places, 0, f"new{number}")
        if persona is not None:
            crowd.append(Rater(f"new{number}", "open", persona, now, now, None))
    after = taken_places(crowd, excluded, IDLE, now)
    # Who was idle and came back may stand beyond the places; nobody is added there.
    assert all(after[p] == max(before[p], places) for p in PERSONAS)
    assert persona is None


def test_who_is_idle_excluded_or_has_no_persona_holds_no_place() -> None:
    raters = [
        Rater("new", "new", None, None, None, None),
        Rater("idle", "open", "p0", 0.0, 0.0, None),
        Rater("at work", "open", "p0", 0.0, 950.0, None),
        Rater("finished", "finished", "p0", 0.0, 1.0, 1.0),
        Rater("excluded", "finished", "p1", 0.0, 999.0, 999.0),
    ]
    assert taken_places(raters, {"excluded"}, IDLE, 1000.0) == {"p0": 2}
    assert taken_places(raters, {"excluded"}, IDLE, 1050.0) == {"p0": 2}
    assert taken_places(raters, {"excluded"}, IDLE, 1050.1) == {"p0": 1}


@given(st.permutations(PERSONAS), st.integers(0, 10), st.text(max_size=10))
def test_the_order_of_the_personas_decides_nothing(personas, seed: int, name: str) -> None:
    taken = {"p0": 1}
    assert assign(personas, taken, 2, seed, name) == assign(PERSONAS, taken, 2, seed, name) != "p0"


def test_a_tie_is_drawn_by_seed_and_rater() -> None:
    drawn = Counter(assign(PERSONAS, {}, 1, 0, f"r{n}") for n in range(1000))
    assert set(drawn) == set(PERSONAS)
    assert min(drawn.values()) > 150
    assert [assign(PERSONAS, {}, 1, 1, f"r{n}") for n in range(20)] != [
        assign(PERSONAS, {}, 1, 0, f"r{n}") for n in range(20)
    ]


def test_without_personas_there_is_no_place() -> None:
    assert assign([], {}, 4, 0, "r") is None


@given(st.integers(0, 12), st.integers(0, 5), st.integers(0, 3), st.text(max_size=8))
def test_an_order_holds_every_item_once_with_the_checks_between_questions(
    questions: int, checks: int, seed: int, name: str
) -> None:
    asked = [f"q{n}" for n in range(questions)]
    control = {f"c{n}" for n in range(checks)}
    order = item_order(seed, name, [*asked, *sorted(control)], control)
    assert sorted(order) == sorted([*asked, *control])
    assert order == item_order(seed, name, [*sorted(control, reverse=True), *asked[::-1]], control)
    if questions >= 2:
        assert order[0] not in control
        assert order[-1] not in control
    if checks < questions:
        assert not any(a in control and b in control for a, b in itertools.pairwise(order))


def test_every_place_is_drawn_about_equally_often() -> None:
    asked = [f"q{n}" for n in range(5)]
    orders = [item_order(0, f"r{n}", [*asked, "c"], {"c"}) for n in range(2000)]
    for question in asked:
        places = Counter([item for item in order if item != "c"].index(question) for order in orders)
        assert all(330 < count < 470 for count in places.values()), (question, places)
    checks = Counter(order.index("c") for order in orders)
    assert sorted(checks) == [1, 2, 3, 4]
    assert min(checks.values()) > 400


def test_either_answer_stands_first_about_half_of_the_time_whoever_asks_about_what() -> None:
    by_rater = Counter(first_answer(0, f"r{n}", "i") for n in range(2000))
    by_item = Counter(first_answer(0, "r", f"i{n}") for n in range(2000))
    assert set(by_rater) == set(by_item) == {"chosen", "rejected"}
    assert abs(by_rater["chosen"] - 1000) < 120
    assert abs(by_item["chosen"] - 1000) < 120
    assert [first_answer(1, f"r{n}", "i") for n in range(50)] != [first_answer(0, f"r{n}", "i") for n in range(50)]
