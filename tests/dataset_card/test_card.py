"""The card: same statistics, same bytes; a header that the Hub and `datasets` read; every published column explained."""

import json
from pathlib import Path

import pytest
import yaml

from builder import schema
from dataset_card.columns import COLUMNS, CONFIG_MEANINGS, SPLIT_MEANINGS
from dataset_card.render import front_matter, render_card

GOLDEN = Path(__file__).parent / "golden_card.md"


JUDGE_CHECK = {
    **{"judge": "roleplay@1:m", "judge_wrote_it": True, "n": 90, "ties": 9, "unscored": 1},
    **{"rate": 0.8, "rate_interval": [0.7, 0.9], "rate_ties_half": 0.85, "rate_ties_half_interval": [0.75, 0.95]},
}
FLIPS = [
    {
        **{"judge": "likelihood@1:m", "selected_by_this_judge": True, "rate": None, "interval": None},
        **{"n": 36, "flipped": 9, "reversed": 2, "unscored": 0},
    },
    {
        **{"judge": "roleplay@1:other", "selected_by_this_judge": False, "rate": 0.25, "interval": [0.1, 0.4]},
        **{
            "n": 36,
            "flipped": 9,
            "reversed": 8,
            "unscored": 1,
            "difference": 1 / 36,
            "difference_interval": [-0.2, 0.25],
        },
        "by_topic": {
            "Work": {"n": 30, "flipped": 9, "reversed": 6, "rate": 0.3},
            "Travel": {"n": 6, "flipped": 0, "reversed": 2, "rate": None},
        },
        "by_attribute": {
            "religion": {
                "differ": {"n": 25, "flipped": 8, "reversed": 5, "rate": 0.32},
                "agree": {"n": 11, "flipped": 1, "reversed": 3, "rate": None},
            }
        },
    },
]
# Two judges of one model: a table each, named.
FLIPS.append(
    FLIPS[1] | {"judge": "roleplay@2:other", "by_topic": {"Work": FLIPS[1]["by_topic"]["Work"] | {"reversed": 7}}}
)


def statistics(**changes):
    def split(config, name, rows, **more):
        return {"rows": rows, "file": f"data/{config}/{name}-00000-of-00001.parquet", **more}

    pair_splits = {
        "train": split("dpf", "train", 48),
        "seen_test": split("dpf", "seen_test", 36, groups={"seen": 24, "unseen": 12}),
        "heldout_test": split("dpf", "heldout_test", 36, groups={"seen": 24, "unseen": 12}),
        "support": split("dpf", "support", 24),
    }
    return {
        "repo_id": None,
        "version": "0.1.0",
        "recipe_name": "demo",
        "licence": "cc-by-4.0",
        "configs": {
            "dpf": pair_splits,
            "contrast": {"heldout_test": split("contrast", "heldout_test", 72)},
            "personas": {"train": split("personas", "train", 12)},
            "prompts": {"train": split("prompts", "train", 16)},
        },
        "build": {
            "recipe": {
                "name": "demo",
                "census": {"source": "/home/someone/data/psam_pus.csv", "adults_only": True},
                "models": {
                    "judge": {"provider": "openai", "path": "/models/big", "base_url": "http://10.0.0.7:8000/v1"}
                },
                "configs": ["dpf", "contrast"],
            },
            "fingerprint": "0123456789abcdef",
            "code_version": "0.1.0",
            "stages": {
                "prompts": {
                    "in": 120,
                    "out": 16,
                    "dropped": {"no_question_mark": 14, "near_duplicate": 0, "not_selected": 90},
                    "seconds": 1.25,
                    "note": "",
                    "classifier": {"scored": 100, "passed": 64, "pass_rate": 0.64, "threshold": 0.5},
                },
                "pairs": {
                    **{"in": 144, "out": 143, "dropped": {"identical_texts": 1}},
                    "judge_check": {"paper_rate": 0.96, "judges": [JUDGE_CHECK]},
                },
                "contrast": {"in": 74, "out": 72, "dropped": {"identical_texts": 2}, "flips": {"judges": FLIPS}},
            },
            "canary": "a canary",
            "models": {
                "classifier": {"provider": "none", "model": "unused", "revision": None},
                "judge": {"provider": "transformers", "model": "SmolLM2-135M-Instruct", "revision": "abc123"},
            },
            "templates": {"answer": "0f0f0f0f0f0f"},
            "judge": {"label": "likelihood", "kind": "likelihood", "temperature": 1.0},
            "usage": {"calls": 3, "hits": 997, "recorded": {"responses": 1000, "cost_usd": 0.0}},
            "sources": {"census": {"name": "/home/someone/psam_pus.csv", "sha256": "aa"}, "prompts": None},
        },
        "audit": {
            "longer is chosen": {
                "value": 0.52,
                "low": 0.46,
                "high": 0.58,
                "n": 1440,
                "verdict": "report",
                "note": "a|b",
            },
            "overlap wins": {"value": 0.5, "low": 0.2, "high": 0.8, "n": 12, "verdict": "report", "note": "few."},
            "mirrors": {"value": 0, "low": None, "high": None, "n": 12, "verdict": "pass", "note": ""},
        },
        "flip_rate": {
            **{"judge": "roleplay@1:other", "n": 10, "flipped": 5, "rate": 0.47, "judge_selected_the_revisions": False},
            **{"reversed": 4, "difference": 0.1, "difference_interval": [-0.3, 0.5]},
        },
        "personas": {"seen": 8, "unseen": 4, "adults": 12},
        "topics": {"Travel": 3, "Work": 13},
        **changes,
    }


def header(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def test_the_card_is_the_one_on_file():
    """After an intended change: `PYTHONPATH=. python tests/dataset_card/test_card.py` writes the file anew; read the difference."""
    assert render_card(statistics()) == GOLDEN.read_text(encoding="utf-8")


def test_the_order_of_unordered_input_and_a_json_round_trip_change_nothing():
    turned = statistics(topics={"Work": 13, "Travel": 3})
    assert render_card(json.loads(json.dumps(turned))) == render_card(statistics())


def test_no_path_address_or_time_of_a_machine_gets_into_the_card():
    card = render_card(statistics())
    for trace in ("/home", "someone", "/models", "10.0.0.7", "1.25", "997"):
        assert trace not in card
    assert "psam_pus.csv" in card


def test_a_replayed_build_has_the_same_card_as_the_first():
    replayed = statistics()
    replayed["build"]["usage"] = {"calls": 0, "hits": 1000, "recorded": {"responses": 1000, "cost_usd": 0.0}}
    replayed["build"]["stages"]["prompts"]["seconds"] = 99.0
    assert render_card(replayed) == render_card(statistics())


def test_what_was_not_measured_is_said_and_not_made_up():
    minimal = {key: statistics()[key] for key in ("version", "recipe_name", "configs")}
    card = render_card(minimal)
    assert "The audit was not run" in card
    assert "not measured" in card
    assert "None" not in card
    del minimal["configs"]["dpf"]["seen_test"]["groups"]
    assert "not counted" in render_card(minimal)


def test_few_rows_are_called_few():
    card = render_card(statistics())
    assert card.count("Only 12 rows: too few to conclude from.") == 1
    assert "47.0 % of 10 contrast candidates. That is fewer than 20" in card
    assert "The reverse in 4; flipped less reversed 10.0 % (-30.0 to 50.0). Judge: `roleplay@1:other`." in card
    assert "This build is small" in card
    large = statistics()
    large["configs"]["dpf"]["train"]["rows"] = 158_600
    assert "This build is small" not in render_card(large)


def test_every_judge_that_chose_nothing_has_its_own_named_details():
    details = (
        render_card(statistics())
        .split("<summary>Flip rate by topic and by attribute</summary>")[1]
        .split("</details>")[0]
    )
    assert "likelihood@1:m" not in details
    first, second = details.split("Judge `roleplay@2:other`:")
    assert "Judge `roleplay@1:other`:" in first
    assert "| topic: Work | 30 | 9 | 6 | 30.0 % |" in first
    assert "| topic: Work | 30 | 9 | 7 | 30.0 % |" in second
    assert "| religion agree | 11 | 1 | 3 | too few |" in second


def test_a_judge_that_chose_the_revisions_has_counts_and_no_rate():
    card = render_card(
        statistics(flip_rate={"n": 36, "flipped": 9, "rate": None, "judge_selected_the_revisions": True})
    )
    assert "withheld: the judge chose among the revisions (9 of 36 flipped)" in card
    assert "| likelihood@1:m | withheld: it chose among the revisions | 36 | 9 | 2 | withheld | 0 |" in card


def test_both_views_and_the_two_by_two_table_are_shown():
    card = render_card(statistics())
    assert "| `dpf` | 48 | 72 |" in card
    assert "| seen personas | 24 | 24 |" in card
    assert "| unseen personas | 12 | 12 |" in card


def test_a_repository_name_goes_into_the_snippets():
    card = render_card(statistics(repo_id="someone-else/persona-demo"))
    assert 'load_dataset("someone-else/persona-demo", "dpf", split="train")' in card
    assert 'revision="0.1.0"' in card


def test_text_from_outside_stays_in_its_cell():
    card = render_card(statistics(topics={"a|b\n# {{ 1 + 1 }} <script>": 2}))
    assert "| a\\|b # {{ 1 + 1 }} &lt;script> | 2 |" in card


def test_the_snippets_run_on_nothing_but_what_is_there():
    card = render_card(statistics(configs={"contrast": statistics()["configs"]["contrast"]}))
    assert header(card)["configs"][0]["default"] is True
    assert '"dpf"' not in card.split("```")[1]


# --- header


def test_the_header_is_read_by_the_hub_library():
    from huggingface_hub import DatasetCard

    data = DatasetCard(render_card(statistics())).data
    assert data.license == "cc-by-4.0"
    assert data.language == ["en"]
    assert data.size_categories == ["n<1K"]
    assert data.task_categories == ["text-generation"]
    configs = data.to_dict()["configs"]
    assert [c["config_name"] for c in configs] == ["dpf", "contrast", "personas", "prompts"]
    assert [c.get("default", False) for c in configs] == [True, False, False, False]


@pytest.mark.parametrize(
    ("rows", "name"), [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (317_200, "100K<n<1M"), (5_000_000, "1M<n<10M")]
)
def test_the_size_category_counts_pairs(rows, name):
    configs = {
        "dpf": {"train": {"rows": rows, "file": "a.parquet"}},
        "judgements": {"train": {"rows": 10**6, "file": "b"}},
    }
    assert yaml.safe_load(front_matter(statistics(configs=configs)))["size_categories"] == [name]


def test_a_folder_with_this_card_loads_split_by_split(tmp_path):
    import pyarrow
    import pyarrow.parquet as parquet
    from datasets import get_dataset_config_names, get_dataset_default_config_name, load_dataset

    described = statistics()["configs"]
    for config, splits in described.items():
        for split, entry in splits.items():
            path = tmp_path / entry["file"]
            path.parent.mkdir(parents=True, exist_ok=True)
            rows = [dict.fromkeys(schema.features(config)) for _ in range(2)]
            key = next(iter(schema.features(config)))
            for number, row in enumerate(rows):
                row[key] = f"{config} {split} {number}"
            table = pyarrow.Table.from_pylist(rows, schema=schema.features(config).arrow_schema)
            parquet.write_table(table, path)
    (tmp_path / "README.md").write_text(render_card(statistics()), encoding="utf-8")

    cache = tmp_path / "cache"
    assert get_dataset_config_names(str(tmp_path)) == list(described)
    assert get_dataset_default_config_name(str(tmp_path)) == "dpf"
    for config in ("dpf", "personas"):
        loaded = load_dataset(str(tmp_path), config, cache_dir=str(cache))
        assert list(loaded) == list(described[config])
        for split, dataset in loaded.items():
            assert dataset[dataset.column_names[0]][:] == [f"{config} {split} {number}" for number in (0, 1)]
            assert dataset.features == schema.features(config)
    paper_view = load_dataset(str(tmp_path), split="train+support", cache_dir=str(cache))
    assert paper_view["pair_id"] == ["dpf train 0", "dpf train 1", "dpf support 0", "dpf support 1"]


def test_a_split_without_rows_is_not_listed_as_it_would_break_its_config():
    empty = statistics()
    empty["configs"]["dpf"]["support"]["rows"] = 0
    empty["configs"]["contrast"]["heldout_test"]["rows"] = 0
    card = render_card(empty)
    configs = {config["config_name"]: config for config in header(card)["configs"]}
    assert list(configs) == ["dpf", "personas", "prompts"]
    assert [entry["split"] for entry in configs["dpf"]["data_files"]] == ["train", "seen_test", "heldout_test"]
    assert "| `dpf` | `support` | 0, not listed |" in card
    assert '"contrast"' not in card.split("```")[1]
    assert "| `dpf` | 48 | no support rows |" in card


# --- columns


@pytest.mark.parametrize("config", schema.CONFIGS)
def test_exactly_the_published_columns_are_explained(config):
    assert set(COLUMNS[config]) == set(schema.features(config))
    assert all(
        meaning.strip().endswith(".") and "{" not in meaning.replace("`", "") for meaning in COLUMNS[config].values()
    )


def test_every_config_and_split_has_a_meaning():
    assert set(COLUMNS) == set(CONFIG_MEANINGS) == set(schema.CONFIGS)
    assert set(SPLIT_MEANINGS) == set(schema.SPLITS)


if __name__ == "__main__":
    GOLDEN.write_text(render_card(statistics()), encoding="utf-8")
