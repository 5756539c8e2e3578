"""Side effects are measured on personas crossed with questions: what a question does to everybody is no certainty about personas."""

import numpy as np

from builder.randomness import rng_for
from eval.side_effects.paired import paired

PERSONAS, QUESTIONS = 40, 6


def crossed(effect_of_questions: bool) -> dict[str, list[float]]:
    """The gap of each row is its question's, or its own."""
    rng = rng_for(0, "test", "paired")
    drawn = np.repeat([[1.0, 1.0, 1.0, 0.0, 0.0, 0.0]], PERSONAS, axis=0)
    if not effect_of_questions:
        drawn = rng.permuted(drawn.ravel()).reshape(drawn.shape)
    rest = np.full(drawn.size, 0.5).tolist()
    return {"true": drawn.ravel().tolist(), "none": rest, "wrong": rest}


def width(values: dict[str, list[float]], questions: list[str]) -> float:
    people = [f"p{i:02}" for i in range(PERSONAS) for _ in range(QUESTIONS)]
    gap = paired(values, people, questions, 0, "test")["true_minus_none"]
    assert abs(gap["value"]) < 1e-9
    return 0.0 if gap["low"] is None else float(gap["high"] - gap["low"])


def test_an_effect_of_questions_widens_the_interval() -> None:
    shared = [f"q{i}" for _ in range(PERSONAS) for i in range(QUESTIONS)]
    assert width(crossed(effect_of_questions=True), shared) > 0.4
    assert width(crossed(effect_of_questions=False), shared) < 0.25


def test_the_order_of_rows_changes_nothing() -> None:
    values, rows = crossed(effect_of_questions=False), rng_for(0, "test", "order").permutation(PERSONAS * QUESTIONS)
    people = np.array([f"p{i:02}" for i in range(PERSONAS) for _ in range(QUESTIONS)])
    asked = np.array([f"q{i}" for _ in range(PERSONAS) for i in range(QUESTIONS)])
    shuffled = {name: np.array(own)[rows].tolist() for name, own in values.items()}
    assert paired(values, people.tolist(), asked.tolist(), 0, "x") == paired(
        shuffled, people[rows].tolist(), asked[rows].tolist(), 0, "x"
    )


def test_no_rows_give_no_figures() -> None:
    found = paired({"true": [], "none": [], "wrong": []}, [], [], 0, "test")
    assert {estimate["withheld"] for estimate in found.values()} == {"n < 20"}
