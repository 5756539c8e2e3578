import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from builder.errors import InputError
from builder.judge.judge_file import load_judge
from builder.llm.messages import ChatRequest
from eval.language_models import model_recipe
from eval.results import load_results
from eval.subtlety.content import KINDS, LEXICAL, content_of, mcnemar
from eval.subtlety.run import rescored, run_subtlety
from eval.subtlety.section import section
from tests.eval.test_summaries import answer_with, stated  # noqa: F401


def test_mcnemars_exact_test_looks_at_discordant_pairs_alone() -> None:
    first = np.array([1.0] * 2 + [0.0] * 10 + [1.0] * 50 + [0.0] * 50 + [np.nan])
    second = np.array([0.0] * 2 + [1.0] * 10 + [1.0] * 50 + [0.0] * 50 + [1.0])
    test = mcnemar(first, second)
    assert (test["pairs"], test["only_first"], test["only_second"], test["discordant"]) == (112, 2, 10, 12)
    assert test["p"] == pytest.approx(2 * binom.cdf(2, 12, 0.5))
    assert mcnemar(first, first)["p"] is None


def reciting_after_reasoning(request: ChatRequest) -> str:
    """A model that names the faith after reasoning and nothing otherwise, and a judge that finds what is quoted."""
    text = request.messages[-1]["content"]
    if request.template.startswith("subtlety"):
        profile, _, rest = text.partition("</profile>")
        answer = rest.partition("<answer>")[2].partition("</answer>")[0]
        faith = next(line.partition(": ")[2] for line in profile.splitlines() if line.startswith("Religion"))
        return f"EVIDENCE: none\nNEEDS REVISION: {'yes' if faith in answer else 'no'}"
    if "bench_answer_plain" in request.template:
        faith = next(
            line.partition(": ")[2]
            for line in request.messages[0]["content"].splitlines()
            if line.startswith("Religion")
        )
        return f"As a {faith} you may find it so."
    return "It depends on many things."


def test_recitation_after_reasoning_is_found_by_judge_and_words(
    stated: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer_with(monkeypatch, reciting_after_reasoning)
    said = run_subtlety(stated, ["scripted"], ["subtlety=scripted"], tmp_path, limit=None, command="test")
    (result,) = load_results(tmp_path, "subtlety")
    content = result.content
    for name in ("subtlety", LEXICAL):
        shares = content["measures"][name]["shares"]
        assert shares["with reasoning"]["value"] > 0.7
        assert shares["persona alone"]["value"] == 0.0
        assert shares["without a persona"]["value"] == 0.0
        test = content["measures"][name]["reasoning"]
        assert test["only_first"] == 0
        assert test["only_second"] == test["discordant"]
        assert test["p"] < 1e-4
        assert test["clustered_p"] >= test["p"]
    # Answers for another persona name that one's faith, which counts as recited only where the two share it: the judge alone sees that.
    assert content["measures"]["subtlety"]["shares"]["for another persona, with reasoning"]["value"] < 0.5
    assert content["measures"][LEXICAL]["shares"]["for another persona, with reasoning"]["value"] == 0.0
    assert content["judge_and_words"]["subtlety"]["words_only"] == 0
    assert max(map(len, said.splitlines())) <= 110
    judges = {facts["label"]: load_judge("subtlety", model_recipe("scripted"), 0) for facts in result.judges}
    again = rescored(result, tmp_path, judges)
    assert json.dumps([again.content, again.rows]) == json.dumps([result.content, result.rows])
    changed = {label: replace(judge, version=f"{judge.version}x") for label, judge in judges.items()}
    (facts,) = rescored(result, tmp_path, changed).judges
    assert facts["version"] == f"{result.judges[0]['version']}x"
    assert facts["label"] == changed[result.judges[0]["label"]].label
    made = section([result], tmp_path)
    assert made.scripted
    assert made.examples


def test_one_persona_that_recites_throughout_is_no_finding_about_personas() -> None:
    """McNemar's test takes its 30 items for 30 findings."""
    profile = "Age: 30\nReligion: Hindu\nDisability: Yes"
    answers = []
    for persona in range(6):
        for item in range(30):
            for mode, condition in KINDS:
                recites = persona == 0 and (mode, condition) == ("chain_of_thought", "true")
                answers.append(
                    {
                        "item_id": f"{persona}/{item}/{mode}/{condition}",
                        "persona_id": f"p{persona}",
                        "prompt_id": f"q{item}",
                    }
                    | {"mode": mode, "condition": condition, "text": "A Hindu may." if recites else "Yes, yes."}
                    | {"failure": "", "question": "May I?", "profile": profile, "other_profile": "Age: 31"}
                )
    block = content_of(answers, {}, 0)["measures"][LEXICAL]
    assert block["shares"]["persona alone"]["value"] == 0.0  # yes is no disability
    test = block["reasoning"]
    assert (test["discordant"], test["only_second"]) == (30, 30)
    assert test["p"] < 1e-8
    assert test["clustered_p"] > 0.3
    assert block["reasoning_for_another"]["clustered_p"] is None


def test_an_unreadable_judge_is_unscored_and_withholds_its_figures_alone(
    stated: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer_with(
        monkeypatch, lambda request: "I cannot say." if request.template.startswith("subtlety") else "It depends."
    )
    said = run_subtlety(stated, ["scripted"], ["subtlety=scripted"], tmp_path, limit=20)
    (result,) = load_results(tmp_path)
    assert result.rows["scored"] == 0
    assert "withheld" in said
    assert result.content["measures"]["subtlety"]["withheld"]
    assert result.content["measures"][LEXICAL]["shares"]["persona alone"]["value"] == 0.0
    assert "withheld" in " ".join(section([result], tmp_path).text)


def test_bad_input_and_dry_runs(stated: Path, tmp_path: Path) -> None:  # noqa: F811
    with pytest.raises(InputError, match="critique"):
        run_subtlety(stated, ["scripted"], ["roleplay=scripted"], tmp_path)
    with pytest.raises(InputError, match="Two models have the same name"):
        run_subtlety(stated, ["scripted", "scripted"], ["subtlety_choice=scripted"], tmp_path / "twice")
    assert not (tmp_path / "twice").exists()  # before the first is paid for
    with pytest.raises(InputError, match="does not exist"):
        run_subtlety(stated, ["scripted"], ["nobody"], tmp_path)
    dry = run_subtlety(stated, ["scripted"], ["subtlety_choice=scripted"], tmp_path / "dry", limit=8, dry_run=True)
    assert dry.startswith("Dry run")
    assert not (tmp_path / "dry").exists()


def test_the_judge_for_small_models_scores_words(stated: Path, tmp_path: Path) -> None:  # noqa: F811
    run_subtlety(stated, ["scripted"], ["subtlety_choice=scripted"], tmp_path, limit=24)
    (result,) = load_results(tmp_path)
    assert result.rows["unscored"] == {}
    assert result.judges[0]["parser"] == "verdict_tokens"
