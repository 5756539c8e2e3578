"""The pages that a rater sees, each a function from plain values to HTML. Whatever people or models wrote is data: Jinja escapes it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from eval.human.material import Item, ShownPersona
from eval.human.records import Answer
from eval.human.study import LONGEST_ANSWER, Study
from eval.web.server import render

TEMPLATES = Path(__file__).with_name("templates")
VISIT = "visit/"  # begins an id that stands for a panel's where none came


@dataclass(frozen=True)
class Typed:
    """What stands in a question's form: saved before, or typed just now and not saved yet. choice: `A`, `B` or nothing."""

    choice: str = ""
    reason: str = ""
    pasted: int = 0


@dataclass(frozen=True)
class Asked:
    """One question as one rater sees it. number: from 1. texts: the answers at A and at B."""

    number: int
    item_id: str
    question: str
    texts: tuple[str, str]
    answer: Answer | None


def link(page: str, /, **values: object) -> str:
    """A relative address: behind a proxy that adds a prefix it still is right."""
    return f"{page}?{urlencode({name: value for name, value in values.items() if value is not None})}"


def asked_of(persona: ShownPersona, order: Sequence[tuple[str, str]], answers: Sequence[Answer]) -> list[Asked]:
    """A rater's questions in the rater's order. order: as Store.items_of gives it."""
    items: Mapping[str, Item] = {item.item_id: item for item in persona.items}
    given = {answer.item_id: answer for answer in answers}
    asked = []
    for number, (item_id, first) in enumerate(order, start=1):
        item = items[item_id]
        texts = item.answers if first == "chosen" else (item.answers[1], item.answers[0])
        asked.append(Asked(number, item_id, item.question, texts, given.get(item_id)))
    return asked


def token_page(study: Study) -> str:
    """For who came without a token."""
    return _page(study, "token.html")


def instructions_page(study: Study, token: str = "", panel: str = "", problem: str = "") -> str:
    """What the rater is asked to do, and consent. panel: the panel's id, or one of a VISIT, where the token is yet to be
    given."""
    questions = study.questions_per_rater + study.attention_checks
    return _page(
        study,
        "instructions.html",
        token=token,
        panel=panel,
        from_panel=panel != "" and not panel.startswith(VISIT),
        problem=problem,
        questions=questions,
        minimum=study.minimum_characters,
    )


def question_page(
    study: Study,
    token: str,
    rater_id: str,
    persona: ShownPersona,
    asked: Sequence[Asked],
    number: int,
    *,
    typed: Typed | None = None,
    problems: Sequence[tuple[str, str]] = (),
    saved: int | None = None,
) -> str:
    """typed: what was sent and not saved; what was saved before, if left out. problems: (id of the field, sentence). saved: the number of
    the question that was answered just now."""
    this = asked[number - 1]
    before = Typed(this.answer.choice, this.answer.reason, this.answer.pasted) if this.answer else Typed()
    now = typed or before
    later = next((one.number for one in asked if one.answer is None), None)
    return _page(
        study,
        "question.html",
        token=token,
        this=this,
        total=len(asked),
        done=sum(one.answer is not None for one in asked),
        card=persona.card,
        choices=[(letter, text, now.choice == letter) for letter, text in zip("AB", this.texts, strict=True)],
        typed=now,
        unsaved=typed is not None,
        characters=len(now.reason.strip()),
        problems=problems,
        saved=saved,
        saved_draft=draft_key(rater_id, asked[saved - 1].item_id) if saved else "",
        draft=draft_key(rater_id, this.item_id),
        minimum=study.minimum_characters,
        most=LONGEST_ANSWER,
        back=link("question", token=token, n=number - 1) if number > 1 else "",
        # Only who looks at an answer again can leave it as it is.
        onward=_onward(token, later) if this.answer else "",
        onward_to=later,
        come_back=link("./", token=token),
    )


def finish_page(study: Study, token: str, rater_id: str, asked: Sequence[Asked], saved: int | None = None) -> str:
    """Everything that the rater said, with links to change it."""
    lines = [
        (one, one.texts["AB".index(one.answer.choice)], link("question", token=token, n=one.number))
        for one in asked
        if one.answer is not None
    ]
    saved_draft = draft_key(rater_id, asked[saved - 1].item_id) if saved else ""
    return _page(study, "finish.html", token=token, lines=lines, total=len(asked), saved_draft=saved_draft)


def thanks_page(study: Study, rater_id: str) -> str:
    return _page(study, "thanks.html", code=study.completion_code, drafts=draft_key(rater_id, ""))


def message_page(study: Study, title: str, words: str, forward: str, forward_words: str) -> str:
    """Whatever went wrong, with one way forward."""
    return _page(study, "message.html", heading=title, words=words, forward=forward, forward_words=forward_words)


def draft_key(rater_id: str, item_id: str) -> str:
    """Under which the browser keeps unsaved text. With the rater in it, two raters at one computer do not see each other's."""
    return f"persona-study {rater_id} {item_id}"


def _onward(token: str, later: int | None) -> str:
    return link("finish", token=token) if later is None else link("question", token=token, n=later)


def _page(study: Study, template: str, **values: Any) -> str:
    return render(TEMPLATES, template, {"root": "", "study": study, **values})
