"""What must not leave does not: every kind of leak in every place where one can stand, told by its place and never by its text."""

import json
import shutil
import struct
import zlib
from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder import private_text
from builder.errors import InputError
from builder.pipeline import run_build
from builder.private_text import CENSUS_KINDS, PATH_KINDS, SECRET_KINDS, kinds_in, machine_places, serial_kinds
from builder.publishing.gate import drawn_serials, refuse_licences, refuse_private
from builder.publishing.licences import licence_defect, normal_licence
from builder.publishing.publish import publish
from builder.randomness import rng_for
from builder.schema import assistant_message, features
from builder.tables import iterate_rows, read_columns, read_table
from tests.builder.conftest import scripted_recipe
from tests.published_folder import build_tables

# Made up, and put together here so that no scanner takes this file for a leak.
LETTERS = "aB3dE5gH1jK2mN4pQ6rS7tU8vW9xY0zAbCdEfGh"
TOKENS = {
    "Hugging Face": "hf_" + LETTERS[:34],
    "Anthropic": "sk-" + "ant-api03-" + LETTERS,
    "sk-": "sk-" + LETTERS,
    "provider": "gsk_" + LETTERS,
    "Google": "AIza" + LETTERS[:35],
    "AWS": "AKIA" + "Q7XWJ2L5PZ3M9KTB",
    "secret key of AWS": "aws_secret_access_key = " + LETTERS + "Z9",
    "GitHub": "ghp_" + LETTERS[:36],
    "GitLab": "glpat-" + LETTERS[:20],
    "Slack": "xoxb-" + "123456789012-" + LETTERS[:12],
    "Stripe": "sk_live_" + LETTERS[:24],
    "registry": "npm_" + LETTERS[:36],
    "web token": "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0In0." + LETTERS[:20],
    "private key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "Authorization": 'Authorization": "Bearer ' + LETTERS[:20],
    "password": "https://someone:" + "tr0ub4dor@db.example.org/x",
}
SERIAL = "2019HU" + "0012345"
PLANTED = {
    "token": TOKENS["Hugging Face"],
    "variable": "correct-horse-battery",
    "serial": SERIAL,
    "drawn serial": "SYN0000017",
    "endpoint": "http://judge.lab.internal:8000/v1",
    "run folder": "RUN/tables/dpf.parquet",
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run with one drawn record, an endpoint and a variable with a secret."""
    monkeypatch.setenv("LAB_PASSWORD", PLANTED["variable"])
    run = tmp_path / "run"
    (run / "tables").mkdir(parents=True)
    records = arrow.table({"persona_id": ["p00000"], "SERIALNO": [PLANTED["drawn serial"]]})
    parquet.write_table(records, run / "tables" / "persona_records.parquet")
    return run


@pytest.fixture
def build():
    models = {"judge": {"base_url": PLANTED["endpoint"], "api_key_env": "LAB_KEY_OF_MINE"}, "critic": {}}
    return {"recipe": {"models": models, "census": {"source": "packaged"}}, "stages": {}}


def write_config(folder: Path, config: str, rows: list[dict]) -> Path:
    path = folder / "data" / config / "train-00000-of-00001.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = features(config).arrow_schema
    table = arrow.Table.from_pylist([{name: row[name] for name in schema.names} for row in rows], schema=schema)
    parquet.write_table(table, path, row_group_size=7)
    return path


def write_responses(folder: Path, texts: list[str]) -> None:
    keys = [bytes([number]) * 16 for number in range(len(texts))]
    table = arrow.table({"key": arrow.array(keys, arrow.binary(16)), "text": texts})
    parquet.write_table(table, folder / "responses.parquet")


def png(*chunks: tuple[bytes, bytes], behind: bytes = b"") -> bytes:
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in [(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)), *chunks, (b"IEND", b"")]:
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return content + behind


@pytest.fixture
def folder(tmp_path):
    """A clean version with every kind of file."""
    folder = tmp_path / "version"
    folder.mkdir()
    tables = build_tables()
    write_config(folder, "dpf", tables["dpf"]["train"])
    write_config(folder, "personas", tables["personas"]["train"])
    write_responses(folder, ["I like old cars.", "So do I."])
    (folder / "README.md").write_text(
        "# Data\n\nThe /root cause: see https://example.org/home/page.\n", encoding="utf-8"
    )
    (folder / "build.json").write_text(json.dumps({"name": "demo", "inputs": {"prompts": "0" * 64}}), encoding="utf-8")
    (folder / "figures").mkdir()
    (folder / "figures" / "topics.png").write_bytes(png((b"tEXt", b"Software\0matplotlib")))
    return folder


def in_nested_column(folder, text):
    rows = build_tables()["dpf"]["train"]
    rows[9]["chosen"] = assistant_message(f"Well, {text}, as I say.")
    write_config(folder, "dpf", rows)
    return f"column chosen.content, row {rows[9]['pair_id']}"


def in_struct_column(folder, text):
    rows = build_tables()["personas"]["train"]
    rows[2]["extras"] = {"core_values": ["honesty", f"see {text} "], "entertainment_preferences": []}
    write_config(folder, "personas", rows)
    return "column extras.core_values, row p00002"


def in_metadata(folder, text):
    path = next((folder / "data" / "dpf").iterdir())
    table = parquet.read_table(path)
    parquet.write_table(table.replace_schema_metadata({"note": f"made of {text} "}), path)
    return "metadata note"


def in_field_metadata(folder, text):
    path = next((folder / "data" / "dpf").iterdir())
    table = parquet.read_table(path)
    field = table.schema.field("critique").with_metadata({"note": text})
    parquet.write_table(table.cast(table.schema.set(table.schema.get_field_index("critique"), field)), path)
    return "metadata of column critique note"


def in_json(folder, text):
    (folder / "build.json").write_text(json.dumps({"stages": {"pairs": [{"note": text}]}}), encoding="utf-8")
    return "build.json, stages.pairs[0].note"


def in_json_key(folder, text):
    (folder / "audit.json").write_text(json.dumps({"checks": {text: 1}}), encoding="utf-8")
    return "audit.json, checks."


def in_card(folder, text):
    (folder / "README.md").write_text(f"# Data\n\nMade with {text} .\n", encoding="utf-8")
    return "README.md, line 3"


def in_png_text(folder, text):
    (folder / "figures" / "topics.png").write_bytes(png((b"tEXt", b"Comment\0" + text.encode())))
    return "figures/topics.png, chunk tEXt Comment"


def in_compressed_png_text(folder, text):
    data = b"Comment\0\0" + zlib.compress(text.encode())
    (folder / "figures" / "topics.png").write_bytes(png((b"zTXt", data)))
    return "figures/topics.png, chunk zTXt Comment"


def in_international_png_text(folder, text):
    data = b"Comment\0\1\0en\0Kommentar\0" + zlib.compress(text.encode())
    (folder / "figures" / "topics.png").write_bytes(png((b"iTXt", data)))
    return "figures/topics.png, chunk iTXt Comment"


def behind_png(folder, text):
    (folder / "figures" / "topics.png").write_bytes(png(behind=text.encode()))
    return "figures/topics.png, behind the picture"


def in_responses(folder, text):
    write_responses(folder, ["I like old cars.", f"Look: {text} "])
    return f"responses.parquet, column text, row {'01' * 16}"


def in_other_file(folder, text):
    (folder / "notes.log").write_bytes(b"\xff\xfe\n" + text.encode() + b"\n")
    return "notes.log, line 2"


PLACES = (
    *(in_nested_column, in_struct_column, in_metadata, in_field_metadata, in_json, in_json_key, in_card),
    *(in_png_text, in_compressed_png_text, in_international_png_text, behind_png, in_responses, in_other_file),
)


def refusal(folder, run, build) -> str:
    with pytest.raises(InputError) as refused:
        refuse_private(folder, run, build, for_hub=True)
    assert refused.value.__cause__ is None
    return str(refused.value)


def test_a_clean_version_passes(folder, run, build):
    refuse_private(folder, run, build, for_hub=True)
    refuse_private(folder, run, build, for_hub=False)


def test_a_scripted_build_is_published(scripted_build, tmp_path):
    published = publish(scripted_build.folder, tmp_path / "out", responses=True)
    assert "responses.parquet" in published.files


@pytest.mark.parametrize("plant", PLACES, ids=lambda plant: plant.__name__)
@pytest.mark.parametrize("what", PLANTED)
def test_a_leak_is_found_wherever_it_stands_and_named_by_its_place_alone(what, plant, folder, run, build):
    text = PLANTED[what].replace("RUN", str(run))
    place = plant(folder, text)
    message = refusal(folder, run, build)
    assert place in message, message
    if what != "run folder":
        assert text not in message


@pytest.mark.parametrize("what", PLANTED)
def test_of_a_folder_nothing_is_other_since_a_folder_is_what_people_upload(what, folder, run, build):
    in_nested_column(folder, PLANTED[what].replace("RUN", str(run)))
    with pytest.raises(InputError, match="Nothing was written"):
        refuse_private(folder, run, build, for_hub=False)


@pytest.mark.parametrize("kind", TOKENS)
def test_every_known_form_of_a_secret_is_found(kind, folder, run, build):
    place = in_nested_column(folder, TOKENS[kind])
    message = refusal(folder, run, build)
    assert place in message
    assert TOKENS[kind][:24] not in message
    assert LETTERS[-12:] not in message


def test_a_secret_in_a_name_is_not_repeated(folder, run, build):
    (folder / f"{TOKENS['Hugging Face']}.txt").write_text("", encoding="utf-8")
    (folder / "data" / "x.json").write_text(json.dumps({TOKENS["sk-"]: {"deep": TOKENS["GitHub"]}}), encoding="utf-8")
    message = refusal(folder, run, build)
    assert "*** in" not in message
    assert "***" in message
    assert "its name" in message
    assert not any(token[:16] in message or token[-6:] in message for token in TOKENS.values())


def test_saved_tokens_and_the_variable_that_a_recipe_names_are_known(folder, run, build, tmp_path, monkeypatch):
    from huggingface_hub import constants

    saved, stored = tmp_path / "token", tmp_path / "stored"
    saved.write_text("oldfashionedtoken99\n", encoding="utf-8")
    stored.write_text("[work]\nhf_token = anothertokenofmine\n", encoding="utf-8")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(saved))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(stored))
    build["recipe"]["models"]["judge"]["api_key_env"] = "ACCESS_TO_THE_LAB"
    monkeypatch.setenv("ACCESS_TO_THE_LAB", "plain words with blanks")
    for value in ("oldfashionedtoken99", "anothertokenofmine", "plain words with blanks"):
        place = in_card(folder, value)
        message = refusal(folder, run, build)
        assert place in message
        assert value not in message
    # A variable that names a file, one that is too short, and a number within another are none.
    monkeypatch.setenv("SSL_KEY", str(tmp_path / "token"))
    monkeypatch.setenv("OPENAI_API_KEY", "EMPTY")
    monkeypatch.setenv("DB_PASSWORD", "12345678")
    in_card(folder, f"EMPTY 0.{'9' * 3}12345678")
    refuse_private(folder, run, build, for_hub=True)


def test_many_findings_are_one_error_that_counts_them(folder, run, build):
    for number in range(11):
        (folder / f"note{number:02}.txt").write_text(SERIAL, encoding="utf-8")
    message = refusal(folder, run, build)
    assert "11 findings" in message
    assert "and 3 more" in message
    assert message.count("note") == 8


def test_rows_of_a_column_are_counted_together(folder, run, build):
    write_responses(folder, [SERIAL] * 30)
    assert "and 29 more" in refusal(folder, run, build)
    write_responses(folder, [SERIAL] * 255)
    assert "at least 99 more" in refusal(folder, run, build)


@pytest.mark.parametrize("name", ["SERIALNO", "serialno", "PUMA", "PUMA10", "PUMA20", "MIGPUMA"])
def test_no_column_and_no_field_is_called_as_a_census_key(name, folder, run, build):
    table = arrow.table({"text": ["x"], "nested": [{"inner": [{name: "y"}]}]})
    parquet.write_table(table, folder / "responses.parquet")
    (folder / "audit.json").write_text(json.dumps({"people": [{name: 7}]}), encoding="utf-8")
    message = refusal(folder, run, build)
    assert f"a column called {name} in responses.parquet, column nested.inner" in message
    assert f"a field called {name} in audit.json, people[0].{name}" in message


def test_paths_in_texts_count_only_if_they_are_of_this_machine(folder, run, build, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/somebody7")
    in_nested_column(folder, "put it under /home/user/notes or C:\\Users\\Public\\x, /root/x and /tmp/y")
    refuse_private(folder, run, build, for_hub=True)
    build["recipe"]["census"]["source"] = "/srv/lab/pums.csv"
    for own in (
        "/srv/lab/pums.csv",
        "/home/somebody7/data",
        f"{tmp_path}/version/x",
        f"{Path.cwd()}/x",
        "/scratch/somebody7/x",
    ):
        place = in_nested_column(folder, own)
        assert place in refusal(folder, run, build), own


@pytest.mark.parametrize(
    "path", ["/home/x/run", "/Users/jane/run", "C:\\Users\\jane\\run", "file:///data/x", "/tmp/run", "/root/run"]
)
def test_in_metadata_nobody_has_a_home(path, folder, run, build):
    for plant in (in_json, in_card, in_metadata, in_png_text):
        place = plant(folder, path)
        assert place in refusal(folder, run, build)


def test_a_place_that_many_machines_share_needs_something_below_it(monkeypatch):
    monkeypatch.setenv("HOME", "/" + "root")
    monkeypatch.chdir("/")
    kinds = machine_places({})
    for text in ("the /root cause", "and/root/x", "a /rooted/x tree", "/", "https://x.org/root/x"):
        assert kinds_in(text, kinds) == [], text
    for text in ("/root/x", '"/root"', "/root", "see /root/.cache/y"):
        assert [kind.group for kind in kinds_in(text, kinds)] == ["path"], text
        assert not kinds_in(text, [kind for kind in kinds if kind.in_texts])


def test_endpoints_of_everyone_and_words_that_are_hosts_too():
    kinds = private_text.endpoint_kinds(
        ["https://api.openai.com/v1", "http://127.0.0.1:8000/v1", "http://judge:8000/v1", "http://10.1.2.3/v1"]
    )
    texts = [kind for kind in kinds if kind.in_texts]
    for text in ("https://api.openai.com/v1", "a judge decides", "version 110.1.2.34"):
        assert kinds_in(text, kinds) == [], text
    assert kinds_in("http://127.0.0.1:8000/v1", texts) == []
    for text in ("http://127.0.0.1:8000/v1", "at judge:8000", "http://judge/x", "on 10.1.2.3."):
        assert len(kinds_in(text, kinds)) == 1, text


def test_serials_of_all_years():
    kinds = [*serial_kinds(["2018HU0000001", "0012345", "SYN0000001", "1234567", "77"]), *CENSUS_KINDS]
    for text in ("2018HU0000001", "2024GQ" + "0099999", "(0012345)", "x,1234567,y", "SYN0000001", "2012000000123"):
        assert kinds_in(text, kinds), text
    for text in ("0.1234567", "1234567.5", "7654321", "77", "a1234567", "SYN0000002", "1712000000123"):
        assert not kinds_in(text, kinds), text
    for text in ('"SERIALNO": "1"', "PUMA=00100", "PUMA code 05600"):
        assert kinds_in(text, CENSUS_KINDS), text
    for text in ("A puma 12345 miles away", "SERIALNO and PUMA are never published"):
        assert not kinds_in(text, CENSUS_KINDS), text


@pytest.mark.parametrize(
    "text",
    [
        "- PUMA: a German shoe brand",
        "PUMA: 2 pairs for 1",
        "PUMA 39018 sneakers",
        "a puma 12345 miles away, counted in the census",
        "order 2015123456789",
        "sk-" + "learn-based-approach-to-clustering-2024-edition",
        "SERIALNO: what is it?",
    ],
)
def test_innocent_text_of_a_row_is_published(text, folder, run, build):
    in_nested_column(folder, text)
    refuse_private(folder, run, build, for_hub=True)


@pytest.mark.parametrize(
    "text",
    [
        "puma=00101",
        '"PUMA20": "05600"',
        "PUMA 05600, state code 06",
        "puma 05600 with pwgtp 88",
        "2019" + "gq0001234",
        "2019" + "hu0012345",
        "syn0000017",
        "serialno=0012345",
    ],
)
def test_a_census_key_in_a_row_is_found_in_small_letters_too(text, folder, run, build):
    place = in_nested_column(folder, text)
    message = refusal(folder, run, build)
    assert place in message
    assert text not in message
    # What to do about a row.
    assert "prompt_id" in message
    assert "responses export" in message


@pytest.mark.parametrize("text", ["PUMA 39018 x", "PUMA: 7", "2015123456789", "SERIALNO: x"])
def test_in_metadata_less_is_enough(text, folder, run, build):
    for plant in (in_json, in_card, in_metadata, in_png_text):
        place = plant(folder, text)
        message = refusal(folder, run, build)
        assert place in message
        assert "responses export" not in message


@pytest.mark.parametrize(
    "text",
    [
        "a risk-adjusted, well-thought-out-and-long-hyphenated-thing",
        "sk-" + "learn-is-a-library-that-many-people-use",
        "sk-" + "learn-Based-Approach-To-Clustering-2024-With-k8s-And-gpt4o-Edition",
        "sk-" + "ant-colony-optimization-2024-edition",
        "gsk_" + "the_british_company_since_2000_and_before",
        "AKIA" + "IOSFODNN7EXAMPLE",
        "postgres://user:" + "password@localhost/db and https://me:<token>@x.org",
        "Authorization: Bearer YOUR_TOKEN",
        "https://example.org:8080/a@b",
    ],
)
def test_what_only_looks_like_a_secret(text):
    assert kinds_in(text, SECRET_KINDS) == []


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["sk-", "sk-proj-", "sk-or-v1-", "sk-" + "ant-api03-"]), st.integers(0, 2**32), st.booleans())
def test_random_keys_are_found(beginning, seed, hexadecimal):
    letters = "0123456789abcdef" if hexadecimal else "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    key = "".join(rng_for(seed, "key", beginning).choice(list(letters), size=48))
    if any(c.isdigit() for c in key):
        assert kinds_in(f"use {beginning}{key}", SECRET_KINDS)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.from_regex(r"[A-Za-z]{1,14}('s|-[a-z]{2,9})?[,.;:!?]?", fullmatch=True),
            st.from_regex(r"\$?[0-9]{1,3}(,[0-9]{3}){0,2}(\.[0-9]{1,6})?%?", fullmatch=True),
            st.sampled_from(
                ["and/or", "puma", "hugging", "token", "9:30", "e-mail", "(I think)", "https://example.org/a"]
            ),
        ),
        max_size=60,
    )
)
def test_english_is_no_leak(words):
    serials = [f"2018HU{number:07d}" for number in range(50)] + [f"{number:07d}" for number in range(50)]
    kinds = [*SECRET_KINDS, *machine_places({}), *PATH_KINDS, *CENSUS_KINDS, *serial_kinds(serials)]
    assert kinds_in(" ".join(words), kinds) == []


def test_columns_other_than_the_schemas_are_named(folder, run, build):
    path = next((folder / "data" / "dpf").iterdir())
    table = parquet.read_table(path)
    numbers = table.set_column(table.schema.get_field_index("prompt_tokens"), "prompt_tokens", [[1.5] * table.num_rows])
    for changed, place in ((numbers, "prompt_tokens"), (table.drop_columns(["topic"]), "topic")):
        parquet.write_table(changed, path)
        message = refusal(folder, run, build)
        assert place in message
        assert path.name in message
    parquet.write_table(table, path)
    told = json.loads(table.schema.metadata[b"huggingface"])
    told["info"]["features"]["prompt_tokens"] = {"names": ["few", "many"], "_type": "ClassLabel"}
    parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps(told)}), path)
    assert "metadata" in refusal(folder, run, build)
    path.write_bytes(path.read_bytes()[:-9])
    assert "cannot be read as Parquet" in refusal(folder, run, build)


def write_prompts(run: Path, licences: list[str | None]) -> None:
    ids = [f"q{number:05d}" for number in range(len(licences))]
    table = arrow.table({"prompt_id": ids, "licence": arrow.array(licences, arrow.string())})
    parquet.write_table(table, run / "tables" / "prompts.parquet")


def test_licences_that_allow_it_pass(run, build):
    write_prompts(
        run, ["CC-BY-4.0", "cc by 3.0", "MIT", "Apache License 2.0", "CC0", "mit, cc-by-4.0", "Public Domain"]
    )
    build["stages"]["personas"] = {"licence": "CC-BY-4.0 (Nemotron-Personas, NVIDIA)"}
    assert refuse_licences(run, build, for_hub=True) == refuse_licences(run, build, for_hub=False) == []


def test_licences_that_do_not_are_named_with_counts_and_prompts(run, build):
    write_prompts(run, ["CC-BY-4.0", "unknown", "unknown", "cc-by-nc-4.0", None, "CC-BY-SA-4.0"])
    build["stages"]["personas"] = {"licence": "CC-BY-NC-SA-4.0"}
    with pytest.raises(InputError) as refused:
        refuse_licences(run, build, for_hub=True)
    (warning,) = refuse_licences(run, build, for_hub=False)
    assert "cannot go to the Hub" in warning
    for message in (str(refused.value), warning):
        assert "3 questions under unknown (q00001, q00002, ...)" in message
        assert "1 question under cc-by-nc-4.0 (q00003): not for commercial use" in message
        assert "1 question under CC-BY-SA-4.0 (q00005)" in message
        assert "personas under CC-BY-NC-SA-4.0" in message
        assert "`licence`" in message
        assert "under CC-BY-4.0 (" not in message


@pytest.mark.parametrize("table", ["personas", "prompts", "dpf", "persona_records"])
def test_a_damaged_table_of_a_build_is_named_and_mended_by_building_again(table, scripted_build, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(scripted_build.folder, run)
    path = run / "tables" / f"{table}.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    if table == "persona_records":
        reading = [lambda: drawn_serials(run)]
    else:
        reading = [
            lambda: publish(run, tmp_path / "out"),
            lambda: read_table(run, table),
            lambda: read_columns(run, table, ["split"]),
            lambda: next(iterate_rows(run, table)),
        ]
    for read in reading:
        with pytest.raises(InputError, match=rf"{table}\.parquet cannot be read as Parquet .* Build it again"):
            read()
    run_build(scripted_recipe(), run)
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("CC BY 4.0", "cc-by-4.0"),
        ("cc_by_4.0", "cc-by-4.0"),
        ("Creative Commons Attribution 4.0 International", "cc-by-4.0"),
        ("https://creativecommons.org/licenses/by/4.0/", "cc-by-4.0"),
        ("https://creativecommons.org/licenses/by-nc-sa/4.0/legalcode", "cc-by-nc-sa-4.0"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "cc0-1.0"),
        ("CC0", "cc0-1.0"),
        ("The MIT License", "mit"),
        ("apache-2.0", "apache-2.0"),
        ("Creative Commons Attribution-NonCommercial 4.0", "cc-by-nc-4.0"),
    ],
)
def test_spellings_of_a_licence(text, normal):
    assert normal_licence(text) == normal


@pytest.mark.parametrize(
    ("licence", "reason"),
    [
        ("unknown", "nothing"),
        ("other", "nothing"),
        ("cc-by-nd-4.0", "changed"),
        ("cc-by-nc-sa-4.0", "commercial"),
        ("CC-BY-SA 3.0", "same licence"),
        ("odbl", "same licence"),
        ("gpl-3.0", "same licence"),
        ("mit, cc-by-nc-4.0", "commercial"),
        ("openrail", "known"),
        ("cc-by-nc", "commercial"),
        ("CC-BY-4.0 (non-commercial use only)", "commercial"),
    ],
)
def test_why_a_licence_does_not_allow_it(licence, reason):
    assert reason in licence_defect(licence)


def test_a_dataset_under_the_same_licence_may_share_alike():
    assert licence_defect("CC-BY-SA-4.0", "cc-by-sa-4.0") is None
    assert licence_defect("CC-BY-NC-4.0", "cc-by-sa-4.0") is not None
