"""The fidelity report end to end: right draws pass, wrong ones do not, what cannot be compared is said, files are readable."""

import html.parser
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from builder.census.codebook import codebook_for
from builder.census.draw import draw_records
from builder.census.pums import PACKAGED_RECORDS, read_packaged
from builder.errors import InputError
from builder.fidelity.compare import compare, compare_build, compare_records
from builder.fidelity.figures import figures
from builder.fidelity.page import write_fidelity
from builder.fidelity.table import WIDTH, fidelity_table
from builder.files import read_json, write_json
from builder.personas.candidate import complete_origin
from builder.personas.demographics import describe_demographics
from builder.personas.personas import read_records
from builder.pipeline import BuildResult
from builder.randomness import rng_for
from builder.recipe import BuildRecipe, CensusRecipe, PersonasRecipe, as_dict
from builder.schema import persona_id

DRAWS = 200
ROWS = 8000
COUNT = 700


def make_census(path: Path, part: int = 0, rows: int = ROWS, **columns: Any) -> Path:
    """A PUMS file of packaged records in random order, the `part`-th of disjoint ones, in which people of 50 and older weigh ten times
    as much as the others. columns: name -> values, or None to leave the column out."""
    table = read_packaged().table
    order = rng_for(0, "test", "census").permutation(table.num_rows)[part * rows : (part + 1) * rows]
    table = table.take(pa.array(order))
    weights = np.where(table["AGEP"].to_numpy() >= 50, 100, 10)
    for name, values in {"PWGTP": weights, **columns}.items():
        place = table.column_names.index(name)
        table = (
            table.remove_column(place)
            if values is None
            else table.set_column(place, name, pa.array(values, pa.int32()))
        )
    pq.write_table(table.replace_schema_metadata(None), path)
    return path


def build_from(source: Path | str, folder: Path, adults_only: bool = True, count: int = COUNT, seed: int = 3) -> Path:
    """What a build keeps of its personas, as far as the report reads it; the psychographic attributes are left empty, which saves time."""
    recipe = BuildRecipe(
        "test", seed, CensusRecipe(str(source), adults_only=adults_only), PersonasRecipe(count, enrichment="none")
    )
    records = read_records(recipe.census).records
    drawn, _ = draw_records(records, count, seed, adults_only)
    labels = codebook_for(records.survey_year)
    rows = []
    for number, record in enumerate(drawn.to_pylist()):
        candidate = describe_demographics(record, labels, records.imputed, recipe.personas.round_income)
        complete_origin(candidate, record, seed, persona_id(number))
        about = {"null_reasons": candidate.reasons, "provenance": candidate.provenance}
        rows.append({"persona_id": persona_id(number), **candidate.values, **about})
    (folder / "tables").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "tables" / "personas.parquet")
    ids = pa.array([row["persona_id"] for row in rows])
    pq.write_table(drawn.add_column(0, "persona_id", ids), folder / "tables" / "persona_records.parquet")
    details = {"source": records.source, "sha256": records.sha256, "survey_year": records.survey_year}
    write_json(folder / "build.json", {"recipe": as_dict(recipe), "stages": {"personas": details}})
    return folder


@pytest.fixture(scope="module")
def census(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_census(Path(tmp_path_factory.mktemp("census")) / "persons.parquet")


@pytest.fixture(scope="module")
def build(census: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_from(census, Path(tmp_path_factory.mktemp("fidelity")) / "run")


@pytest.fixture(scope="module")
def result(build: Path) -> dict[str, Any]:
    return compare_build(build, draws=DRAWS)


def with_personas(build: Path, folder: Path, keep: np.ndarray) -> Path:
    """A copy of a build with only these of its personas."""
    shutil.copytree(build, folder)
    for name in ("personas", "persona_records"):
        path = folder / "tables" / f"{name}.parquet"
        pq.write_table(pq.read_table(path).filter(pa.array(keep)), path)
    return folder


def by_name(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {entry["attribute"]: entry for entry in result["attributes"]}


def test_a_right_draw_is_within_what_chance_gives(result: dict[str, Any]) -> None:
    assert result["joint"]["within"] == result["joint"]["attributes"] == len(result["attributes"]) == 24
    assert result["joint"]["p"] > 0.01
    assert result["pairs"]["mean"]["within"]
    assert result["pairs"]["count"] == 24 * 23 / 2
    assert result["pairs"]["share_within"] > 0.9
    assert abs(result["pairs"]["mean"]["excess"]) < 0.01
    assert result["not_compared"] == []
    for entry in result["attributes"]:
        assert sum(bin["share"] for bin in entry["bins"]) == pytest.approx(1, abs=1e-5)
        assert sum(bin["census"] for bin in entry["bins"]) == pytest.approx(1, abs=1e-5)
        assert entry["excess"] == pytest.approx(entry["tv"] - entry["noise"], abs=2e-6)
        assert all(bin["low"] <= bin["census"] + 0.02 and bin["census"] <= bin["high"] + 0.02 for bin in entry["bins"])


def test_the_census_is_weighted_and_adult(result: dict[str, Any], census: Path) -> None:
    table = pq.read_table(census)
    adults = table.filter(pc.greater_equal(table["AGEP"], 18))
    old = pc.sum(adults.filter(pc.greater_equal(adults["AGEP"], 55))["PWGTP"]).as_py() / pc.sum(adults["PWGTP"]).as_py()
    shares = {bin["label"]: bin["census"] for bin in by_name(result)["age"]["bins"]}
    assert sum(shares[label] for label in ("55 to 64", "65 to 74", "75 and older")) == pytest.approx(old, abs=1e-5)
    assert "15 to 17" not in shares
    assert result["census"]["people"] == adults.num_rows


def test_only_women_are_noticed(build: Path, tmp_path: Path) -> None:
    rows = pq.read_table(build / "tables" / "personas.parquet")
    women = compare_build(
        with_personas(build, tmp_path / "run", pc.equal(rows["sex"], "Female").to_numpy(False)), draws=DRAWS
    )
    sex = by_name(women)["sex"]
    assert not sex["within"]
    assert sex["tv"] == pytest.approx(1 - {bin["label"]: bin["census"] for bin in sex["bins"]}["Female"], abs=1e-5)
    assert not women["pairs"]["mean"]["within"]
    assert women["joint"]["p"] < 0.01


def test_an_unweighted_draw_is_noticed(census: Path, tmp_path: Path) -> None:
    table = pq.read_table(census)
    flat = tmp_path / "flat.parquet"
    ones = pa.array(np.ones(table.num_rows, dtype=np.int32))
    pq.write_table(table.set_column(table.column_names.index("PWGTP"), "PWGTP", ones), flat)
    unweighted = compare_build(build_from(flat, tmp_path / "run"), census=str(census), draws=DRAWS)
    assert not by_name(unweighted)["age"]["within"]
    assert unweighted["joint"]["p"] < 0.01
    assert unweighted["census"]["drawn_from"] is False


def test_a_broken_link_between_attributes_shows_in_the_pairs_only(build: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(build, folder)
    path = folder / "tables" / "personas.parquet"
    rows = pq.read_table(path)
    order = pa.array(rng_for(2, "test", "shuffle").permutation(rows.num_rows))
    rows = rows.set_column(rows.column_names.index("age"), "age", rows["age"].take(order))
    pq.write_table(rows, path)
    shuffled = compare_build(folder, draws=DRAWS)
    assert shuffled["joint"]["within"] == shuffled["joint"]["attributes"]
    largest = shuffled["pairs"]["largest_excess"][:5]
    assert all("age" in pair["attributes"] and not pair["within"] for pair in largest)


def test_the_same_report_again(build: Path, result: dict[str, Any], tmp_path: Path) -> None:
    again = compare(str(build), draws=DRAWS)
    assert again == result
    assert json.loads(json.dumps(again)) == result
    first, second = (write_fidelity(result, tmp_path / name).read_bytes() for name in ("a", "b"))
    assert first == second


def test_a_changed_or_missing_census_is_refused(tmp_path: Path) -> None:
    census = make_census(tmp_path / "persons.parquet")
    build = build_from(census, tmp_path / "run")
    make_census(census, part=1)
    with pytest.raises(InputError, match=r"persons.parquet has changed .* --census FILE"):
        compare_build(build, draws=DRAWS)
    assert compare_build(build, census=str(census), draws=DRAWS)["census"]["drawn_from"] is False
    census.unlink()
    with pytest.raises(InputError, match=r"is not there. Put it back, or compare with another table: --census FILE"):
        compare_build(build, draws=DRAWS)


def test_other_packaged_records_are_refused(build: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(build, folder)
    about = read_json(folder / "build.json")
    about["recipe"]["census"]["source"] = "packaged"
    write_json(folder / "build.json", about)
    with pytest.raises(InputError, match="this version packages other records"):
        compare_build(folder, draws=DRAWS)


def test_what_the_census_lacks_is_said_and_not_compared(tmp_path: Path) -> None:
    nobody = [None] * ROWS
    census = make_census(tmp_path / "persons.parquet", ANC1P=None, POBP=None, FER=None, DEAR=nobody)
    found = compare_build(build_from(census, tmp_path / "run"), draws=DRAWS)
    assert {entry["attribute"]: entry["why"] for entry in found["not_compared"]} == {
        "ancestry": "the census table has no ANC1P; the other side has it from donors",
        "place_of_birth": "the census table has no POBP; the other side has it from donors",
        "fertility": "the census table has no FER",
        "hearing_difficulty": "nobody has an answer",
    }
    assert found["joint"]["attributes"] == 20
    text = fidelity_table(found)
    assert "Not compared: Hearing difficulty (nobody has an answer)." in text


def test_origins_from_donors_stand_apart(tmp_path: Path) -> None:
    found = compare_build(build_from("packaged", tmp_path / "run"), draws=DRAWS)
    assert {entry["attribute"] for entry in found["attributes"] if entry["sampled"] == "from donors"} == {
        "ancestry",
        "place_of_birth",
    }
    assert found["joint"]["attributes"] == 22
    assert not any({"ancestry", "place_of_birth"} & set(pair["attributes"]) for pair in found["pairs"]["every"])
    assert "taken from donors (imputed)" in fidelity_table(found)


def test_everybody_is_compared_where_the_recipe_draws_everybody(census: Path, tmp_path: Path) -> None:
    found = compare_build(build_from(census, tmp_path / "run", adults_only=False), draws=DRAWS)
    assert found["census"]["people"] == ROWS
    assert "5 to 9" in {bin["label"] for bin in by_name(found)["age"]["bins"]}
    assert found["joint"]["p"] > 0.01


def test_two_census_tables(tmp_path: Path) -> None:
    first = make_census(tmp_path / "first.parquet")
    second = make_census(tmp_path / "second.parquet", part=1)
    alike = compare_records(str(first), str(second), draws=DRAWS)
    assert alike["joint"]["within"] >= alike["joint"]["attributes"] - 1
    assert alike["joint"]["p"] is None
    assert abs(alike["pairs"]["mean"]["excess"]) < 0.02
    # The excess is taken over the noise of one sample with the reference as the truth: for two answers E|p^ - p| = sqrt(2 p q / (pi n)).
    women = by_name(alike)["sex"]["bins"][1]["census"]
    expected = np.sqrt(2 / np.pi * women * (1 - women) / alike["what"]["effective_size"])
    assert by_name(alike)["sex"]["noise"] == pytest.approx(expected, rel=0.15)
    men = make_census(tmp_path / "men.parquet", SEX=[1] * ROWS)
    unlike = compare(str(men), str(second), draws=DRAWS)
    assert not by_name(unlike)["sex"]["within"]
    assert unlike["what"]["effective_size"] < unlike["what"]["people"] == ROWS
    assert max(len(line) for line in fidelity_table(unlike).splitlines()) <= WIDTH
    write_fidelity(unlike, tmp_path / "report")


def test_a_draw_of_everybody_has_the_distance_that_every_such_draw_has(tmp_path: Path) -> None:
    """Draws from the build's own census are without replacement, draws from another table are not."""
    census = make_census(tmp_path / "census.parquet", rows=400)
    adults = pc.sum(pc.greater_equal(pq.read_table(census)["AGEP"], 18)).as_py()
    run = build_from(census, tmp_path / "run", count=adults)
    own = compare_build(run, draws=DRAWS)
    assert all(entry["noise"] == pytest.approx(entry["tv"], abs=1e-5) for entry in own["attributes"])
    other = compare_build(run, census=str(make_census(tmp_path / "other.parquet", part=1, rows=400)), draws=DRAWS)
    assert all(entry["noise"] < entry["p99"] for entry in other["attributes"])


def test_the_finer_household_columns_of_one_table_are_left_aside(tmp_path: Path) -> None:
    first = make_census(tmp_path / "first.parquet")
    second = make_census(tmp_path / "second.parquet", HHT2=None, FPARC=None)
    found = by_name(compare_records(str(first), str(second), draws=DRAWS))
    for name in ("household_type", "family_presence_and_age"):
        assert found[name]["tv"] == 0
        assert len(found[name]["bins"]) > 2


def test_only_common_states_of_two_tables_are_compared(tmp_path: Path) -> None:
    first = make_census(tmp_path / "first.parquet")
    table = pq.read_table(make_census(tmp_path / "second.parquet", part=1))
    pq.write_table(table.filter(pc.not_equal(table["STATE"], 6)), tmp_path / "second.parquet")
    found = compare_records(str(first), str(tmp_path / "second.parquet"), draws=DRAWS)
    assert found["states_left_out"] == ["California"]
    assert found["what"]["people"] == pc.sum(pc.not_equal(pq.read_table(first)["STATE"], 6)).as_py()


def test_adjinc_in_one_of_two_tables_moves_no_income(tmp_path: Path) -> None:
    first = make_census(tmp_path / "first.parquet")
    second = make_census(tmp_path / "second.parquet", ADJINC=None)
    # Without ADJINC the file must say its year: SERIALNO of these records does not.
    table = pq.read_table(second)
    serials = pa.array([f"2024HU{number:07d}" for number in range(table.num_rows)])
    pq.write_table(table.set_column(table.column_names.index("SERIALNO"), "SERIALNO", serials), second)
    for pair in ((first, second), (second, first)):
        assert by_name(compare_records(*map(str, pair), draws=DRAWS))["income"]["tv"] == 0


def test_wrong_arguments_say_what_to_do(build: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no build's folder"):
        compare(str(tmp_path))
    with pytest.raises(InputError, match="at least 200"):
        compare(str(build), draws=20)
    with pytest.raises(InputError, match="--household belongs to --census"):
        compare(str(build), household="h.csv")
    with pytest.raises(InputError, match="--adults is for two census tables"):
        compare(str(build), adults_only=True)
    shutil.copytree(build, tmp_path / "damaged")
    (tmp_path / "damaged" / "tables" / "personas.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match="it is damaged"):
        compare(str(tmp_path / "damaged"))
    write_json(tmp_path / "damaged" / "build.json", {})
    with pytest.raises(InputError, match="it has no recipe"):
        compare(str(tmp_path / "damaged"))
    (tmp_path / "empty").mkdir()
    write_json(tmp_path / "empty" / "build.json", {"recipe": {}, "stages": {}})
    with pytest.raises(InputError, match="has no personas yet"):
        compare(str(tmp_path / "empty"))


class Page(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.text: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "col", "rect", "path", "br"):
            self.open.append(tag)
        if tag == "svg":
            assert {name for name, _ in attrs} & {"aria-hidden", "aria-label"}

    def handle_endtag(self, tag: str) -> None:
        if tag in ("rect", "path"):
            return
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_table_page_and_figure(result: dict[str, Any], tmp_path: Path) -> None:
    text = fidelity_table(result)
    assert max(len(line) for line in text.splitlines()) <= WIDTH
    assert "24 of 24 directly sampled attributes are within the 99th percentile." in text
    assert "Drift: enrichment: none: no field was written by a language model." in text
    assert "age in single years" in text
    named = {**result, "what": {**result["what"], "name": "<b>run & co</b>"}}
    path = write_fidelity(named, tmp_path)
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    assert page.open == []
    assert all(address.startswith("#") for address in page.addresses), "the page must need nothing but itself"
    assert "<b>run" not in path.read_text(encoding="utf-8")
    words = " ".join("".join(page.text).split())
    assert "<b>run & co</b> beside the census" in words
    for entry in result["attributes"]:
        assert entry["label"] in words
    assert f"{result['census']['people']:,} adults of persons.parquet (survey year 2024)" in words
    assert read_json(tmp_path / "fidelity.json") == named
    assert figures(result, tmp_path).read_bytes().startswith(b"\x89PNG")


def test_a_build_of_the_pipeline_is_read(scripted_build: BuildResult) -> None:
    """Twelve personas, as `persona demo` makes them."""
    found = compare_build(scripted_build.folder, draws=DRAWS)
    assert found["what"]["people"] == len(scripted_build.rows("personas"))
    assert found["joint"]["attributes"] >= 20
    assert "note" in found["drift"]
    assert max(len(line) for line in fidelity_table(found).splitlines()) <= WIDTH


@pytest.mark.shared_data
def test_noise_of_many_valued_attributes_on_real_records(shared_data: Path, tmp_path: Path) -> None:
    """1,586 of all persons of 2024: about .09 for single years of age, .15 for occupation codes, and every attribute within."""
    source = shared_data / "pums" / "persons_2024.parquet"
    build = build_from(source, tmp_path / "run", adults_only=False, count=1586)
    found = compare_build(build, draws=DRAWS)
    noise = {entry["attribute"]: entry["noise"] for entry in found["without_bins"]}
    assert noise["age"] == pytest.approx(0.09, abs=0.006)
    assert noise["occupation_category"] == pytest.approx(0.15, abs=0.007)
    assert found["joint"]["within"] == found["joint"]["attributes"] == 22
    assert found["joint"]["p"] > 0.01


@pytest.mark.shared_data
def test_packaged_records_are_near_the_real_ones(shared_data: Path) -> None:
    found = compare("packaged", str(shared_data / "pums" / "persons_2024.parquet"), draws=DRAWS)
    assert found["what"]["source"] == PACKAGED_RECORDS.name
    assert found["joint"]["attributes"] == 22
    assert found["joint"]["largest_excess"] <= 0.03
    assert found["pairs"]["mean"]["excess"] <= 0.05
