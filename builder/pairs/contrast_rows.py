"""The published rows of contrast pairs, made column by column of the judged candidates and the rows of `dpf`.

Both mirrors of a candidate are built, in the same split and group, so every text is chosen exactly as often as it is rejected and a scorer
that does not look at the persona gets exactly one half.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from builder.pairs.assignment import members_by_group, wrong_persona
from builder.pairs.flags import find_leak, statements_of
from builder.schema import contrast_pair_id, preference_messages
from builder.tables import table_schema

Row = dict[str, Any]
# What `contrast_tables` reads of the rows of `dpf`. Not their prompts: most of the bytes, and made again of profiles and questions.
DPF_COLUMNS = (
    "split",
    "pair_id",
    "persona_id",
    "prompt_id",
    "chosen",
    "topic",
    "persona_group",
    "is_adult",
    "prompt_tokens",
    "chosen_tokens",
    "inferable_attributes",
)
ROWS_AT_A_TIME = 20_000


def contrast_tables(
    seed: int,
    judged: Any,
    dpf: Any,
    personas: Sequence[Row],
    prompts: Sequence[Row],
    rows_at_a_time: int = ROWS_AT_A_TIME,
) -> Iterator[Any]:
    """The published rows, `split` in front, sorted by (persona_id, prompt_id, partner_persona_id), in Arrow tables of whole personas.

    Args:
        judged: the tables of all shards, one after the other, in any order.
        dpf: Arrow table of all rows of `dpf`, at least DPF_COLUMNS. Its texts are copied once, which is most of the memory needed.
        rows_at_a_time: a table is closed at the first persona after so many rows.

    Judge, verdict and score of a row are those of the first judge.
    """
    import pyarrow.compute as compute

    known = gather(seed, judged, dpf, personas, prompts)
    placed = ordered_rows(known)
    persona_ids = known.columns["persona_id"].take(placed.own)
    # Places where another persona begins, and the end.
    edges = np.flatnonzero(compute.not_equal(persona_ids[1:], persona_ids[:-1]).to_numpy(zero_copy_only=False)) + 1
    start, rows = 0, len(placed.own)
    for end in (*edges.tolist(), rows):
        if end - start >= rows_at_a_time or end == rows > start:
            yield contrast_table(known, Placed(*(column[start:end] for column in placed)))
            start = end


class Known(NamedTuple):
    """What the rows are made of. columns: of `dpf`, each as one array, with `text` for `chosen`. candidates: columns of the judged ones.

    prompt_texts: all profiles and questions as one array, in which `profile_at` and `question_at` find a persona's and a prompt's.
    """

    seed: int
    columns: Mapping[str, Any]
    candidates: Mapping[str, Any]
    members: Mapping[str, Sequence[str]]
    persona_of: Mapping[str, Row]
    question_of: Mapping[str, str]
    prompt_texts: Any
    profile_at: Mapping[str, int]
    question_at: Mapping[str, int]


class Placed(NamedTuple):
    """Published rows, each as rows of `dpf` (own, partner), row of the candidate, and whether its own is the candidate's `second`."""

    own: np.ndarray
    partner: np.ndarray
    candidate: np.ndarray
    is_second: np.ndarray


def gather(seed: int, judged: Any, dpf: Any, personas: Sequence[Row], prompts: Sequence[Row]) -> Known:
    import pyarrow as arrow

    columns = {name: dpf[name].combine_chunks() for name in DPF_COLUMNS if name != "chosen"}
    profiles = [preference_messages(persona["profile"], "")[0]["content"] for persona in personas]
    return Known(
        seed,
        columns | {"text": contents(dpf["chosen"])},
        {name: judged[name].combine_chunks() for name in judged.column_names},
        members_by_group(personas),
        {persona["persona_id"]: persona for persona in personas},
        {prompt["prompt_id"]: prompt["question"] for prompt in prompts},
        arrow.array(profiles + [prompt["question"] for prompt in prompts], arrow.large_string()),
        {persona["persona_id"]: place for place, persona in enumerate(personas)},
        {prompt["prompt_id"]: len(personas) + place for place, prompt in enumerate(prompts)},
    )


def ordered_rows(known: Known) -> Placed:
    """Both mirrors of every candidate in published order."""
    import pyarrow as arrow
    import pyarrow.compute as compute

    columns, candidates = known.columns, known.candidates
    sides = [
        compute.index_in(candidates[f"{side}_pair_id"], columns["pair_id"]).to_numpy() for side in ("first", "second")
    ]
    own, partner = np.concatenate(sides), np.concatenate(sides[::-1])
    count = len(sides[0])
    order = compute.sort_indices(
        arrow.table({name: columns[name] for name in ("persona_id", "prompt_id")}),
        sort_keys=[("persona_id", "ascending"), ("prompt_id", "ascending")],
    ).to_numpy()
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    # Partners in one prompt stand in the order of their personas, because rows do.
    published = np.lexsort((rank[partner], rank[own]))
    numbers = np.tile(np.arange(count), 2)
    is_second = np.repeat([False, True], count)
    return Placed(own[published], partner[published], numbers[published], is_second[published])


def contrast_table(known: Known, placed: Placed) -> Any:
    """Column by column: half a million rows as dicts would take minutes and gigabytes."""
    import pyarrow as arrow
    import pyarrow.compute as compute

    own, partner, candidate = (arrow.array(column) for column in placed[:3])
    mine = {name: column.take(own) for name, column in known.columns.items()}
    other_text, other_tokens = (known.columns[name].take(partner) for name in ("text", "chosen_tokens"))
    persona_ids, prompt_ids = mine["persona_id"].to_pylist(), mine["prompt_id"].to_pylist()
    partner_ids = known.columns["persona_id"].take(partner).to_pylist()
    pair_ids = [contrast_pair_id(*ids) for ids in zip(persona_ids, partner_ids, prompt_ids, strict=True)]
    values = {
        **{name: mine[name] for name in DPF_COLUMNS if name not in ("pair_id", "chosen")},
        "pair_id": pair_ids,
        "prompt": prompt_messages(known, persona_ids, prompt_ids),
        "chosen": messages(["assistant"], mine["text"]),
        "rejected": messages(["assistant"], other_text),
        "wrong_persona_id": [
            wrong_persona(known.seed, pair_id, involved, known.members[group])
            for pair_id, group, *involved in zip(
                pair_ids, mine["persona_group"].to_pylist(), persona_ids, partner_ids, strict=True
            )
        ],
        **said_of(known.candidates["judged"], placed),
        "rejected_tokens": other_tokens,
        "length_violation": compute.greater_equal(mine["chosen_tokens"], other_tokens),
        "attribute_leak": find_leaks(
            {persona: statements_of(known.persona_of[persona]) for persona in dict.fromkeys(persona_ids)},
            mine["pair_id"].to_pylist(),
            persona_ids,
            [known.question_of[prompt] for prompt in prompt_ids],
            mine["text"].to_pylist(),
            other_text.to_pylist(),
        ),
        "partner_persona_id": partner_ids,
        "partner_distance": known.candidates["distance"].take(candidate),
        "mirror_pair_id": [contrast_pair_id(*ids) for ids in zip(partner_ids, persona_ids, prompt_ids, strict=True)],
    }
    schema = table_schema("contrast")
    arrays = [
        value.cast(field.type) if isinstance(value, arrow.Array) else arrow.array(value, field.type)
        for field, value in ((field, values[field.name]) for field in schema)
    ]
    return arrow.Table.from_arrays(arrays, schema=schema)


def find_leaks(
    statements: Mapping[str, Any],
    pair_ids: Sequence[str],
    persona_ids: Sequence[str],
    questions: Sequence[str],
    texts: Sequence[str],
    others: Sequence[str],
) -> list[bool]:
    """Whether each text names an attribute of its persona that neither the question nor the other text names."""
    leaks, last, named = [], None, False
    for pair_id, persona, question, text, other in zip(pair_ids, persona_ids, questions, texts, others, strict=True):
        # What is no leak beside the question alone is none beside more text; the partners of a row follow one another.
        if pair_id != last:
            last, named = pair_id, find_leak(statements[persona], text, (question,)) is not None
        leaks.append(named and find_leak(statements[persona], text, (question, other)) is not None)
    return leaks


def said_of(judged: Any, placed: Placed) -> dict[str, Any]:
    """What the judges say under each row's own persona; `judge`, verdict and score are those of the first."""
    import pyarrow as arrow
    import pyarrow.compute as compute

    judges = len(judged.flatten()) // max(1, len(judged))

    def take(entries: np.ndarray, is_second: np.ndarray) -> Any:
        taken = judged.flatten().take(arrow.array(entries))
        second = arrow.array(is_second)
        sides = {
            name: compute.if_else(second, taken.field(f"second_{name}"), taken.field(f"first_{name}"))
            for name in ("verdict", "score", "margin")
        }
        return {name: taken.field(name) for name in ("judge", "flip", "is_selector")} | sides

    first = take(placed.candidate * judges, placed.is_second)
    every = take((placed.candidate[:, None] * judges + np.arange(judges)).ravel(), np.repeat(placed.is_second, judges))
    names = ["judge", "flip", "margin", "is_selector"]
    return {
        "judge": first["judge"],
        "judge_verdict": first["verdict"],
        "judge_score": first["score"],
        "flips": lists_of(judges, arrow.StructArray.from_arrays([every[name] for name in names], names)),
    }


def prompt_messages(known: Known, persona_ids: Sequence[str], prompt_ids: Sequence[str]) -> Any:
    """The published prompts: profile and question in turn."""
    import pyarrow as arrow

    places = np.empty(2 * len(persona_ids), dtype=np.int64)
    places[::2] = [known.profile_at[persona] for persona in persona_ids]
    places[1::2] = [known.question_at[prompt] for prompt in prompt_ids]
    roles = [message["role"] for message in preference_messages("", "")]
    return messages(roles, known.prompt_texts.take(arrow.array(places)))


def messages(roles: Sequence[str], texts: Any) -> Any:
    """Lists of one message a role; `texts` are their contents, list after list."""
    import pyarrow as arrow

    names = arrow.array(roles, arrow.string()).take(arrow.array(np.arange(len(texts)) % len(roles)))
    return lists_of(len(roles), arrow.StructArray.from_arrays([names, texts.cast(arrow.string())], ["role", "content"]))


def lists_of(length: int, entries: Any) -> Any:
    """Lists of `length` entries each."""
    import pyarrow as arrow

    return arrow.ListArray.from_arrays(np.arange(0, len(entries) + 1, length, dtype=np.int32), entries)


def contents(message_lists: Any) -> Any:
    """The texts of a column of one-message lists, as one array; `large`, because together they may exceed 2 GiB."""
    import pyarrow as arrow
    import pyarrow.compute as compute

    texts = compute.struct_field(compute.list_flatten(message_lists), "content").cast(arrow.large_string())
    return texts.combine_chunks() if isinstance(texts, arrow.ChunkedArray) else texts
