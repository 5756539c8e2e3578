"""The study file: read strictly, without contradictions, and hashed with everything in it."""

import copy
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import InputError
from eval.human.study import (
    EXTRAS,
    Consent,
    Exclusions,
    Pairs,
    Study,
    changed_keys,
    contradictions,
    dataset_name,
    fingerprint_of,
    load_study,
    settings_of,
)

CONSENT = {"who": "Us.", "purpose": "A test.", "payment": "None.", "data": "Answers.", "contact": "a@example.org"}
LEAST = {"title": "A study", "dataset": "data", "completion_code": "DONE", "consent": CONSENT}


def written(folder: Path, **changed) -> Path:
    path = folder / "STUDY.yaml"
    path.write_text(yaml.safe_dump(LEAST | changed), encoding="utf-8")
    return path


def test_what_the_file_leaves_out_is_as_in_the_paper(tmp_path):
    study = load_study(written(tmp_path))
    assert (study.personas, study.raters_per_persona, study.raters) == (20, 4, 80)
    assert (study.questions_per_persona, study.questions_per_rater) == (20, 10)
    assert study.consent == Consent(**CONSENT)
    assert contradictions(study) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"personas": 0}, "personas is 0; give at least 1"),
        ({"raters_per_persona": -1}, "raters_per_persona is -1"),
        ({"attention_checks": -1}, "attention_checks is -1"),
        ({"minimum_characters": 3000}, "minimum_characters is 3000; give at most 2000"),
        ({"attributes": len(EXTRAS)}, "attributes is 2; give at least 3, the two extras among them"),
        ({"questions_per_persona": 21}, "are 20 together, but questions_per_persona is 21"),
        ({"pairs": {"contrast": -5, "dpf": 25}}, "is below 0"),
        ({"questions_per_rater": 21}, "more than the 20 questions_per_persona"),
        ({"idle_minutes": 0}, "idle_minutes is 0.0; give more than 0"),
        ({"recruiting": "all"}, "recruiting is 'all'; it takes tokens or open"),
        ({"completion_code": " "}, "completion_code is empty"),
        ({"exclusions": {"pasted_share_above": 1.0}}, "exclusions.pasted_share_above is 1.0"),
        ({"exclusions": {"attention_checks_failed": 0}}, "exclusions.attention_checks_failed is 0"),
        ({"panel_parameter": " "}, "panel_parameter is empty"),
        ({"panel_parameter": "token"}, "panel_parameter is 'token', a name that the study's own pages use"),
        ({"panel_parameter": "panel"}, "panel_parameter is 'panel'"),
        ({"persona": 3}, "Unknown key persona"),
        ({"personas": "many"}, "personas is 'many' (str)"),
        ({"personas": True}, "personas is True (bool)"),
        ({"consent": {"who": "Us."}}, "lacks consent.purpose"),
        ({"dataset": "https://user:word@example.org/data"}, "an address that carries credentials"),
        ({"seed": None}, "seed is None"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, changed, said):
    with pytest.raises(InputError) as refused:
        load_study(written(tmp_path, **changed))
    assert said in str(refused.value)


def test_all_contradictions_are_said_at_once(tmp_path):
    with pytest.raises(InputError, match=r"personas is 0.*idle_minutes is -1"):
        load_study(written(tmp_path, personas=0, idle_minutes=-1.0))


def test_a_rule_can_be_switched_off(tmp_path):
    study = load_study(written(tmp_path, exclusions={"median_seconds_below": None, "attention_checks_failed": None}))
    assert study.exclusions.median_seconds_below is None
    assert study.exclusions.pasted_share_above == 0.5


def test_a_completion_code_may_look_like_a_key_and_nothing_else_may(tmp_path):
    key = "sk-" + "a1" * 20
    assert load_study(written(tmp_path, completion_code=key)).completion_code == key
    with pytest.raises(InputError) as refused:
        load_study(written(tmp_path, title=key))
    assert key not in str(refused.value)


def test_an_address_in_the_consent_is_no_secret(tmp_path):
    contact = "https://example.org/contact?key=study and study@example.org"
    assert load_study(written(tmp_path, consent=CONSENT | {"contact": contact})).consent.contact == contact


def test_where_the_dataset_lies_is_not_in_the_fingerprint(tmp_path):
    here, there, other = (
        load_study(written(tmp_path, dataset=dataset))
        for dataset in ("data", "../some/where/data", "hub:org/data@v1.0.0")
    )
    assert fingerprint_of(here) == fingerprint_of(there) != fingerprint_of(other)
    assert changed_keys(settings_of(here), settings_of(there)) == []
    assert "where" not in str(settings_of(there))
    assert dataset_name(other.dataset) == "hub:org/data@v1.0.0"


def test_no_file_and_no_yaml(tmp_path):
    with pytest.raises(InputError, match="There is no study file"):
        load_study(tmp_path / "none.yaml")
    path = tmp_path / "STUDY.yaml"
    path.write_text("title: a\ntitle: b\n", encoding="utf-8")
    with pytest.raises(InputError, match="title twice"):
        load_study(path)


def leaves(value, where=()):
    if not isinstance(value, dict):
        return [where]
    return [leaf for key, inner in value.items() for leaf in leaves(inner, (*where, key))]


@pytest.mark.parametrize("place", leaves(settings_of(Study(**LEAST | {"consent": Consent(**CONSENT)}))))
def test_every_key_of_the_file_is_in_the_fingerprint(tmp_path, place):
    before = settings_of(load_study(written(tmp_path)))
    after = copy.deepcopy(before)
    target = after
    for key in place[:-1]:
        target = target[key]
    old = target[place[-1]]
    target[place[-1]] = f"{old}!" if isinstance(old, str) else (old or 0) + 1
    assert changed_keys(before, after) == [".".join(place)]
    consent, pairs, exclusions = (after.pop(name) for name in ("consent", "pairs", "exclusions"))
    study = Study(**after, consent=Consent(**consent), pairs=Pairs(**pairs), exclusions=Exclusions(**exclusions))
    assert fingerprint_of(study) != fingerprint_of(load_study(written(tmp_path)))


def test_the_order_of_the_keys_in_the_file_changes_nothing(tmp_path):
    path = written(tmp_path)
    before = fingerprint_of(load_study(path))
    path.write_text(yaml.safe_dump(dict(reversed(LEAST.items())), sort_keys=False), encoding="utf-8")
    assert fingerprint_of(load_study(path)) == before


TREES = st.recursive(st.integers(0, 2), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3))
MAPPINGS = st.dictionaries(st.sampled_from("abc"), TREES, max_size=3)


@given(MAPPINGS, MAPPINGS)
def test_changed_keys_are_none_exactly_where_nothing_changed(before, now):
    found = changed_keys(before, now)
    assert (found == []) == (before == now)
    assert found == changed_keys(now, before) == sorted(set(found))
