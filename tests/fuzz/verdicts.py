"""Replies of judges and of the other roles that are asked for a form, and scored verdict words as they are kept."""

import functools
import json
from pathlib import Path

from hypothesis import strategies as st

from builder.judge.critique import PASSES, critique_verdict
from builder.judge.critique import VERDICT_SECTION as CRITIQUE_SECTION
from builder.judge.judge import Judge, published_verdict
from builder.judge.judge_file import JUDGE_FOLDER, load_judge
from builder.judge.pairwise import FIRST_PLACE, pairwise_verdict
from builder.judge.pairwise import VERDICT_SECTION as PAIRWISE_SECTION
from builder.judge.reading import read_reply
from builder.llm.messages import Answer
from builder.llm.model_recipe import ModelRecipe
from builder.llm.templates import TEMPLATE_FOLDER, load_template, section_name
from builder.personas.written import TOPICS, clean, find_defects
from builder.prompts.controversy import read_vote
from builder.schema import JUDGE_VERDICTS
from tests.fuzz.mutations import Files, byte_edit, edited_bytes, edited_lines, edited_value, line_edit, some, value_edit

BACKWARD = "backward"  # the reply to the same comparison with the answers exchanged
FILLERS = (
    "This person would like it.",
    "A",
    "B",
    "tie",
    "A, B or tie",
    "**A**",
    "yes",
    "no",
    "Yes.",
    "A person",
    "DONE",
    "",
    "«B»",
    "1. x\n2. y",
)


@functools.cache
def judges() -> dict[str, Judge]:
    names = sorted(path.stem for path in JUDGE_FOLDER.glob("*.yaml"))
    found = {name: load_judge(name, ModelRecipe(), 0) for name in names}
    return {name: judge for name, judge in found.items() if judge.kind != "likelihood"}


@functools.cache
def templates() -> tuple[str, ...]:
    names = sorted(path.stem for path in TEMPLATE_FOLDER.glob("*.yaml"))
    return tuple(name for name in names if load_template(name).markers)


@st.composite
def replies(draw: st.DrawFn, template: str) -> bytes:
    """A reply in the template's form, then changed."""
    form = load_template(template)
    lines = []
    for marker in form.markers:
        said = st.sampled_from(form.choices.get(marker, ())) if marker in form.choices else st.sampled_from(FILLERS)
        lines.append(f"{marker} {draw(said | st.sampled_from(FILLERS) | st.text(max_size=8))}")
    text = "\n".join([*lines, *([form.end] if form.end else [])])
    text = edited_lines(text * draw(st.integers(1, 2)), draw(some(line_edit)))
    return edited_bytes(text.encode("utf-8", "surrogatepass"), draw(some(byte_edit, 2)))


@st.composite
def scores(draw: st.DrawFn, words: tuple[str, ...]) -> bytes:
    values = st.floats() | st.integers() | st.floats(-50, 0)
    given = edited_value({word: draw(values) for word in words}, draw(some(value_edit, 2)))
    # default: a value that JSON lacks, such as a date. As text, since such a reply was kept as text.
    text = json.dumps(given, default=str, skipkeys=True)
    return edited_bytes(text.encode("utf-8", "surrogatepass"), draw(some(byte_edit, 2)))


@st.composite
def judged(draw: st.DrawFn) -> Files:
    name = draw(st.sampled_from(sorted(judges())))
    judge = judges()[name]
    words = tuple(worth_of(judge)[1])
    said = scores(words) if judge.parser == "verdict_tokens" else replies(judge.template)
    return {f"judge-{name}": draw(said), BACKWARD: draw(said)}


@st.composite
def other_forms(draw: st.DrawFn) -> Files:
    name = draw(st.sampled_from(templates()))
    return {f"template-{name}": draw(replies(name))}


def inputs() -> st.SearchStrategy[Files]:
    return judged() | other_forms()


def worth_of(judge: Judge) -> tuple[str, dict[str, float]]:
    return (PAIRWISE_SECTION, FIRST_PLACE) if judge.kind == "pairwise" else (CRITIQUE_SECTION, PASSES)


def check(folder: Path, files: Files) -> None:
    """A reply is never an error: it is read, or unscored with a reason."""
    kind, _, name = next(iter(files)).partition("-")
    texts = [content.decode("utf-8", "surrogatepass" if _is_text(content) else "replace") for content in files.values()]
    if kind == "judge":
        check_judge(judges()[name], texts[0], texts[1])
    else:
        check_form(name, texts[0])


def _is_text(content: bytes) -> bool:
    try:
        content.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def check_judge(judge: Judge, forward: str, backward: str) -> None:
    section, worth = worth_of(judge)
    readings = [read_reply(judge, raw, section, worth) for raw in (forward, backward)]
    for reading, raw in zip(readings, (forward, backward), strict=True):
        assert reading.raw == raw
        if reading.value is None:
            assert reading.reason, "unscored without a reason"
        elif judge.parser == "markers":
            assert reading.value in worth.values()
        else:
            assert 0 <= reading.value <= 1
    if judge.kind == "critique":
        verdict = critique_verdict(readings[0])
        assert verdict.verdict in ("pass", "needs_revision", "unscored")
        assert (verdict.score is None) == (verdict.verdict == "unscored")
        return
    both = pairwise_verdict(*readings)
    assert published_verdict(both) in JUDGE_VERDICTS
    assert (both.score is None) == (both.verdict == "unscored") == any(reading.value is None for reading in readings)
    exchanged = pairwise_verdict(readings[1], readings[0])
    assert exchanged.verdict == {"A": "B", "B": "A"}.get(both.verdict, both.verdict)


def check_form(name: str, reply: str) -> None:
    template = load_template(name)
    sections = template.read(reply)
    present = template.read_present(reply)
    assert sections is None or sections == present
    for marker, words in template.choices.items():
        assert present.get(section_name(marker), words[0]) in words
    assert all((text.strip() == text and text in reply) or text in str(template.choices) for text in present.values())
    read_vote(Answer(reply))
    for text in present.values():
        find_defects(clean(text), "What was given.", template.markers, TOPICS)
