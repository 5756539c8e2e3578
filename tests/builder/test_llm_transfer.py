"""Recorded responses travel as one file, and a build from an imported record calls nothing."""

import contextlib
import dataclasses
import random
import sqlite3
import string

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import InputError
from builder.llm.calls import ModelCalls
from builder.llm.messages import Answer, ChatRequest, Failure, Sampling, ScoreRequest, TokenScores, Usage
from builder.llm.record import KEY_VERSION, Record
from builder.llm.scripted import ScriptedClient, scripted_reply
from builder.llm.transfer import export_responses, import_responses
from builder.recipe import ModelRecipe, ModelsRecipe

REQUEST = ChatRequest(({"role": "user", "content": "u"},), Sampling(10), "answer@1", seed=1)
SCRIPTED = ModelsRecipe(**{f.name: ModelRecipe(provider="scripted") for f in dataclasses.fields(ModelsRecipe)})


class Faulty(ScriptedClient):
    """Every third attempt is cut off."""

    def generate(self, requests, keys, wanted, on_reply):
        for i in sorted(wanted):
            cut = requests[i].sample_index % 3 == 0 and requests[i].attempt == 0
            on_reply([(i, Failure("truncated", "length", "half") if cut else Answer(scripted_reply(requests[i])))])


class Silent(ScriptedClient):
    def generate(self, requests, keys, wanted, on_reply):
        raise AssertionError("called")

    score = generate


def build(run, order=None, client=None):
    """Answers, retries of those cut off, and scores; the requests in a random order."""
    record = Record(run / "responses.sqlite")
    calls = ModelCalls(SCRIPTED, record, clients=dict.fromkeys(("generator", "judge"), client or Faulty()))
    asked = [dataclasses.replace(REQUEST, sample_index=i) for i in range(40)]
    scored = [ScoreRequest(REQUEST.messages, f"fairness and {i}", "s@1") for i in range(10)]
    for requests in (asked, scored):
        (order or random.Random(0)).shuffle(requests)
    replies = dict(zip(asked_keys(asked), calls.generate("generator", asked, "x"), strict=True))
    again = [dataclasses.replace(r, attempt=1) for r in asked if isinstance(replies[r.sample_index], Failure)]
    replies |= {(r.sample_index, 1): a for r, a in zip(again, calls.generate("generator", again, "x"), strict=True)}
    replies |= {r.continuation: a for r, a in zip(scored, calls.score("judge", scored, "x"), strict=True)}
    record.close()
    return replies, calls.spending


def asked_keys(requests):
    return [r.sample_index for r in requests]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    replies, _ = build(folder / "run")
    counts = export_responses(folder / "run", folder / "responses.parquet")
    assert counts == {"answers": 26 + 14 + 10, "failed_attempts": 14}
    return folder, replies


@settings(max_examples=8, deadline=None)
@given(st.randoms(use_true_random=False))
def test_a_build_from_an_imported_record_calls_nothing_and_gets_equal_replies(exported, tmp_path_factory, order):
    folder, replies = exported
    run = tmp_path_factory.mktemp("imported") / "run"
    assert import_responses(folder / "responses.parquet", run) == {
        "imported": 64,
        "already_there": 0,
        "conflicting": 0,
    }
    again, spending = build(run, order, Silent())
    assert again == replies
    assert (spending.calls, spending.hits) == (0, 64)


@settings(max_examples=8, deadline=None)
@given(st.randoms(use_true_random=False))
def test_equal_records_give_equal_bytes_in_whatever_order_replies_came(exported, tmp_path_factory, order):
    folder, _ = exported
    other = tmp_path_factory.mktemp("other")
    build(other / "run", order)
    export_responses(other / "run", other / "r.parquet")
    assert (other / "r.parquet").read_bytes() == (folder / "responses.parquet").read_bytes()


def test_an_imported_record_exports_to_the_same_bytes(exported, tmp_path):
    folder, _ = exported
    import_responses(folder / "responses.parquet", tmp_path / "run")
    export_responses(tmp_path / "run", tmp_path / "r.parquet")
    assert (tmp_path / "r.parquet").read_bytes() == (folder / "responses.parquet").read_bytes()


def test_the_file_names_no_machine_and_no_time(tmp_path):
    record = Record(tmp_path / "run" / "responses.sqlite")
    provenance = {"role": "critic", "provider": "openai", "base_url": "http://secret-host:8000/v1"}
    record.add([("0" * 32, REQUEST, Answer("text", Usage(1, 2, seconds=12.5)), provenance)])
    record.close()
    export_responses(tmp_path / "run", tmp_path / "r.parquet")
    assert b"secret-host" not in (tmp_path / "r.parquet").read_bytes()
    (row,) = parquet.read_table(tmp_path / "r.parquet").to_pylist()
    assert row == {
        **{"key": bytes(16), "kind": "answer", "role": "critic", "template": "answer@1", "seed": "1", "attempt": 0},
        **{"sampling": '{"end_sentence_after":null,"max_tokens":10,"temperature":0.0,"top_p":1.0}', "sample_index": 0},
        **{"prompt_characters": 1, "prompt_tokens": 1, "completion_tokens": 2, "text": "text"},
        **{"log_probabilities": None, "reason": "", "detail": ""},
    }


def test_importing_adds_what_is_absent_and_replaces_nothing(exported, tmp_path):
    folder, _ = exported
    rows = parquet.read_table(folder / "responses.parquet").to_pylist()
    answers = [row for row in rows if row["kind"] == "answer"]
    record = Record(tmp_path / "responses.sqlite")
    same, other = (row["key"].hex() for row in answers[:2])
    usage = Usage(answers[0]["prompt_tokens"], answers[0]["completion_tokens"])
    record.add([(same, REQUEST, Answer(answers[0]["text"], usage), {}), (other, REQUEST, Answer("mine"), {})])
    record.close()
    counts = import_responses(folder / "responses.parquet", tmp_path)
    assert counts == {"imported": 62, "already_there": 1, "conflicting": 1}
    assert Record(tmp_path / "responses.sqlite").find([other]) == {other: Answer("mine")}
    assert import_responses(folder / "responses.parquet", tmp_path)["already_there"] == 63


def test_an_answer_and_the_failed_attempt_before_it_both_travel(tmp_path):
    record = Record(tmp_path / "run" / "responses.sqlite")
    for reply in (Failure("empty", "nothing"), Answer("later, with --retry-failed \x00 🙂"), TokenScores(())):
        key = "b" * 32 if isinstance(reply, TokenScores) else "a" * 32
        record.add([(key, REQUEST, reply, {})])
    record.close()
    export_responses(tmp_path / "run", tmp_path / "r.parquet")
    import_responses(tmp_path / "r.parquet", tmp_path / "other")
    taken = Record(tmp_path / "other" / "responses.sqlite")
    assert taken.count() == (2, 1)
    assert taken.find(["a" * 32, "b" * 32]) == {
        "a" * 32: Answer("later, with --retry-failed \x00 🙂"),
        "b" * 32: TokenScores(()),
    }


def changed(column, change):
    def apply(table):
        values = table.column(column).to_pylist()
        position = table.schema.get_field_index(column)
        return table.set_column(
            position, table.schema.field(column), arrow.array(change(values), table.schema.field(column).type)
        )

    return apply


def relabelled(**values):
    names = {f"persona.responses.{name}".encode(): value.encode() for name, value in values.items()}
    return lambda table: table.replace_schema_metadata({**table.schema.metadata, **names})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (relabelled(key_version=str(KEY_VERSION + 1)), f"key_version {KEY_VERSION + 1}, not {KEY_VERSION}"),
        (relabelled(format="99"), "format 99"),
        (lambda table: table.replace_schema_metadata(None), "no export of responses"),
        (lambda table: table.drop_columns(["seed"]), "does not have the columns"),
        (lambda table: table.take([*range(1, 64), 0]), "not sorted by key"),
        (lambda table: arrow.concat_tables([table.slice(0, 1), table]), "stands there twice"),
        (changed("kind", lambda v: ["verdict", *v[1:]]), "kind 'verdict'"),
        (changed("kind", lambda v: ["failure" if kind == "answer" else kind for kind in v]), "has the reason ''"),
        (changed("log_probabilities", lambda v: [[-1.0]] * len(v)), "does not go with its content"),
        (changed("log_probabilities", lambda v: [s and [None] for s in v]), "log-probability is missing"),
        (changed("completion_tokens", lambda v: [-5, *v[1:]]), "tokens is negative"),
    ],
)
def test_a_file_that_no_export_wrote_is_refused_and_changes_nothing(exported, tmp_path, change, said):
    folder, _ = exported
    parquet.write_table(change(parquet.read_table(folder / "responses.parquet")), tmp_path / "r.parquet")
    with pytest.raises(InputError, match=said):
        import_responses(tmp_path / "r.parquet", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("part", [0.0, 0.3, 0.9, 0.999])
def test_a_file_cut_short_changes_nothing(exported, tmp_path, part):
    folder, _ = exported
    content = (folder / "responses.parquet").read_bytes()
    (tmp_path / "r.parquet").write_bytes(content[: int(len(content) * part)])
    with pytest.raises(InputError, match="damaged, cut short, or another kind of file"):
        import_responses(tmp_path / "r.parquet", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_no_damaged_byte_of_a_reply_gets_into_a_record(tmp_path):
    """Texts that compression cannot shorten stand in the file as they are, so that only a checksum tells a changed letter."""
    draw = random.Random(1)
    record = Record(tmp_path / "run" / "responses.sqlite")
    replies = {f"{n:032x}": Answer("".join(draw.choices(string.ascii_letters, k=40))) for n in range(40)}
    record.add((key, REQUEST, reply, {}) for key, reply in replies.items())
    record.close()
    export_responses(tmp_path / "run", tmp_path / "r.parquet")
    content = (tmp_path / "r.parquet").read_bytes()
    column = parquet.ParquetFile(tmp_path / "r.parquet").metadata.row_group(0).column(11)
    assert column.path_in_schema == "text"
    first = min(o for o in (column.dictionary_page_offset, column.data_page_offset) if o)
    found = 0
    for place in range(first, first + column.total_compressed_size, 23):
        damaged = bytearray(content)
        damaged[place] ^= 1
        (tmp_path / "damaged.parquet").write_bytes(damaged)
        try:
            import_responses(tmp_path / "damaged.parquet", tmp_path / f"{place}")
        except InputError:
            found += 1
            assert not (tmp_path / f"{place}").exists()
        else:  # a byte of a page's header that decides nothing
            with contextlib.closing(Record(tmp_path / f"{place}" / "responses.sqlite")) as taken:
                assert taken.find(list(replies)) == replies
    assert found > 30


def test_missing_things_are_named(tmp_path):
    with pytest.raises(InputError, match=r"has no responses.sqlite"):
        export_responses(tmp_path, tmp_path / "r.parquet")
    with pytest.raises(InputError, match="does not exist"):
        import_responses(tmp_path / "r.parquet", tmp_path / "run")
    build(tmp_path / "run")
    with pytest.raises(InputError, match="is a folder"):
        export_responses(tmp_path / "run", tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]


def test_more_replies_than_are_read_at_a_time(tmp_path):
    record = Record(tmp_path / "run" / "responses.sqlite")
    record.add((f"{n * 2654435761 % 2**64:032x}", REQUEST, Answer(f"reply {n}"), {"role": "x"}) for n in range(9000))
    record.close()
    export_responses(tmp_path / "run", tmp_path / "r.parquet")
    assert parquet.ParquetFile(tmp_path / "r.parquet").num_row_groups == 3
    assert import_responses(tmp_path / "r.parquet", tmp_path / "other")["imported"] == 9000
    with sqlite3.connect(tmp_path / "other" / "responses.sqlite") as connection:
        assert connection.execute("SELECT COUNT(DISTINCT reply) FROM answers").fetchone() == (9000,)
        assert connection.execute("SELECT COUNT(*) FROM origins").fetchone() == (1,)
