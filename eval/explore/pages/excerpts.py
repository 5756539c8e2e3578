"""Questions and the beginnings of answers in a list of pairs; in a search the place that was found."""

import re
from collections.abc import Sequence

from eval.explore.database import Row, Tables
from eval.explore.filters import Asked

EXCERPT = 170  # characters


def add_questions(tables: Tables, rows: Sequence[Row]) -> None:
    """The question of each row, as `question`."""
    if not rows:
        return
    if tables.prompt_columns:
        ids = list({row["prompt_id"] for row in rows})
        query = f"SELECT prompt_id, question FROM prompts WHERE prompt_id IN ({', '.join('?' * len(ids))})"
        asked = {row["prompt_id"]: row["question"] for row in tables.ask(query, ids)}
    else:
        asked = {}
    missing = [row["num"] for row in rows if row["prompt_id"] not in asked]
    texts = tables.texts(missing, ["question"]) if missing else {}
    for row in rows:
        row["question"] = asked.get(row["prompt_id"]) or texts.get(row["num"], {}).get("question") or "(no question)"


def add_excerpts(tables: Tables, rows: Sequence[Row], asked: Asked) -> None:
    """The beginning of the chosen answer; in a search the place that was found, and in which text."""
    names = ["chosen"] if not asked["q"] else ["chosen", "rejected", "critique"]
    texts = tables.texts([row["num"] for row in rows], names)
    for row in rows:
        own = texts.get(row["num"], {})
        row["excerpts"] = []
        for name in names if asked["q"] and asked["in"] in ("", "any") else [asked["in"]] if asked["q"] else []:
            text = own.get(name) or ""
            hit = hit_in(text, asked["q"])
            if hit is not None:
                row["excerpts"].append((name, around(text, *hit)))
        if not row["excerpts"]:
            row["excerpts"] = [("chosen", (shortened(own.get("chosen") or ""), "", ""))]
        row["marked_question"] = None
        hit = hit_in(row["question"], asked["q"]) if asked["in"] in ("", "any", "question") else None
        if hit is not None:
            question = row["question"]
            row["marked_question"] = (question[: hit[0]], question[hit[0] : hit[1]], question[hit[1] :])


def hit_in(text: str, sought: str) -> tuple[int, int] | None:
    """Where the words stand, whatever their case, from and to. In the text itself: a text in small letters may be of another length."""
    found = re.search(re.escape(sought), text, re.IGNORECASE) if sought else None
    return None if found is None else found.span()


def around(text: str, place: int, stop: int) -> tuple[str, str, str]:
    """(before, the hit from `place` to `stop`, behind), as long as an excerpt."""
    room = max(20, EXCERPT - (stop - place))
    start = max(0, place - room // 3)
    end = min(len(text), stop + room)
    before, behind = text[start:place], text[stop:end]
    if start:
        before = "… " + before.partition(" ")[2]
    if end < len(text):
        behind = behind.rpartition(" ")[0] + " …"
    return before, text[place:stop], behind


def shortened(text: str) -> str:
    return text if len(text) <= EXCERPT else text[:EXCERPT].rsplit(" ", 1)[0] + " …"
