"""Croissant metadata: `mlcroissant` accepts it, and it describes every file, split and column of the statistics."""

import json

import pytest

from builder import schema
from dataset_card.croissant import croissant
from tests.dataset_card.test_card import statistics, with_personas

NO_DATE = 'Property "https://schema.org/datePublished" is recommended'
NO_PAGE = 'Property "https://schema.org/url" is recommended'


def validated(made, tmp_path):
    """The metadata as mlcroissant reads it, and its warnings. It raises for errors."""
    import mlcroissant

    path = tmp_path / "croissant.json"
    path.write_text(json.dumps(made), encoding="utf-8")
    metadata = mlcroissant.Dataset(str(path)).metadata
    return metadata, metadata.ctx.issues.warnings


@pytest.mark.parametrize("repository", ["org/name", None])
def test_it_is_valid_and_warned_of_nothing_that_a_version_has(tmp_path, monkeypatch, repository):
    """A version has no date of its own, and a folder no page."""
    logged = []  # a context other than the standard's is no warning of the metadata; it is only logged
    monkeypatch.setattr("absl.logging.warning", lambda text, *_: logged.append(str(text)))
    metadata, warnings = validated(croissant(statistics(repo_id=repository)), tmp_path)
    expected = [NO_DATE] if repository else [NO_DATE, NO_PAGE]
    assert len(warnings) <= len(expected)
    assert all(any(known in warning for known in expected) for warning in warnings), warnings
    assert not any("@context" in text for text in logged)
    assert metadata.version == "0.1.0"
    (prompt,) = [f for s in metadata.record_sets for f in s.fields if f.id == "dpf/train/prompt"]
    assert (prompt.is_array, prompt.array_shape, len(prompt.sub_fields)) == (True, "-1", 2)
    assert metadata.license == ["https://creativecommons.org/licenses/by/4.0/"]
    assert "version = {0.1.0}" in metadata.cite_as
    assert str(metadata.ctx.conforms_to.value).endswith("croissant/1.1")


def test_a_repository_is_named_at_its_tag_and_a_folder_by_relative_paths(tmp_path):
    file = "data/dpf/train-00000-of-00001.parquet"
    page = "https://huggingface.co/datasets/org/name"
    on_the_hub = croissant(statistics(repo_id="org/name"))
    assert on_the_hub["url"] == f"{page}/tree/v0.1.0"
    assert on_the_hub["distribution"][0]["contentUrl"] == f"{page}/resolve/v0.1.0/{file}"
    in_a_folder = croissant(statistics())
    assert "url" not in in_a_folder
    assert in_a_folder["distribution"][0]["contentUrl"] == file
    assert in_a_folder["distribution"][0]["sha256"] == "ab" * 32
    assert in_a_folder["distribution"][0]["contentSize"] == "4800 B"


def leaves(field):
    """Paths of the columns and parts of columns that hold values."""
    return [leaf for part in field["subField"] for leaf in leaves(part)] if "subField" in field else [field["@id"]]


def test_every_file_split_and_column_is_described(tmp_path):
    made = croissant(statistics())
    described = {(s["@id"].partition("/")[0]): s for s in made["recordSet"] if "/" in s["@id"]}
    splits = {f"{config}/{split}" for config, splits in statistics()["configs"].items() for split in splits}
    assert {s["@id"] for s in made["recordSet"]} == {"splits", *splits}
    for config, record_set in described.items():
        columns = [field["name"] for field in record_set["field"]]
        assert columns == ["split", *schema.features(config)]
        assert all(field["description"] for field in record_set["field"])
    personas = described["personas"]
    assert sum(len(leaves(field)) for field in personas["field"]) == 1 + 5 + 32 + 5 + 2 + 33 + 33
    assert "dpf/heldout_test/prompt/role" in [
        leaf
        for s in made["recordSet"]
        if s["@id"] == "dpf/heldout_test"
        for field in s["field"]
        for leaf in leaves(field)
    ]


def test_the_responsible_ai_part_says_what_the_card_says():
    from dataset_card.render import render_card

    made = croissant(statistics())
    card = " ".join(render_card(statistics()).replace("**", "").replace("`", "").split())
    for name in ("rai:dataBiases", "rai:dataLimitations", "rai:personalSensitiveInformation"):
        assert made[name]
        for sentence in made[name]:
            assert sentence.rstrip(".") in card, name
    assert made["rai:machineAnnotationTools"] == [
        "generator: org/SmolLM2",
        "critic: a|b",
        "judge: SmolLM2-135M-Instruct",
    ]


@pytest.mark.parametrize("kind", ["census", "file", "authors"])
def test_it_says_of_the_personas_what_the_card_says(kind):
    from dataset_card.render import render_card

    made = croissant(with_personas(kind))
    card = " ".join(render_card(with_personas(kind)).replace("**", "").replace("`", "").split())
    for sentence in (*made["rai:dataLimitations"], *made["rai:personalSensitiveInformation"]):
        assert sentence.rstrip(".") in card
    assert ("Census" in json.dumps(made["rai:personalSensitiveInformation"])) == (kind == "census")
    assert ("American Community Survey" in made["rai:dataCollection"]) == (kind == "census")
    assert ("synthetic" in made["description"]) == (kind != "file")


def test_a_split_without_rows_is_not_described():
    empty = statistics()
    empty["configs"]["dpf"]["support"] = {"rows": 0, "file": None}
    made = croissant(empty)
    assert "dpf/support" not in [s["@id"] for s in made["recordSet"]]
    assert not any("support" in file["name"] for file in made["distribution"])


def test_the_same_statistics_give_the_same_metadata():
    assert croissant(json.loads(json.dumps(statistics()))) == croissant(statistics())


def test_another_licence_is_its_address_or_its_name():
    assert croissant(statistics(licence="cc-by-nc-sa-4.0"))["license"].endswith("/by-nc-sa/4.0/")
    assert croissant(statistics(licence="other"))["license"] == "other"
