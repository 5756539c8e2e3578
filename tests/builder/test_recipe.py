"""Recipes are read strictly, and the fingerprint knows what matters."""

from pathlib import Path

import pytest
import yaml

from builder.errors import InputError
from builder.recipe import RECIPE_FOLDER, ROLES, as_dict, fingerprint, load_recipe, seen_count

PACKAGED = sorted(p.stem for p in RECIPE_FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("name", PACKAGED)
def test_every_packaged_recipe_parses(name):
    assert load_recipe(name).name == name


def test_paper_recipe_has_the_papers_totals():
    recipe = load_recipe("paper")
    pairs = recipe.pairs
    assert (recipe.personas.count, seen_count(recipe.personas), recipe.prompts.count, recipe.prompts.heldout) == (
        1586,
        1000,
        3868,
        868,
    )
    assert recipe.personas.count * (pairs.train + pairs.seen_test + pairs.heldout_test) == 317_200
    assert recipe.personas.count * pairs.train == 158_600


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("personas.cont=3", r"Unknown key personas\.cont\. The closest valid key is personas\.count"),
        ("personnas.count=3", r"closest valid key is personas;"),
        ("models.critic.modle=x", r"closest valid key is models\.critic\.model"),
        ("personas.count=many", "takes a whole number"),
        ("personas.count=true", "takes a whole number"),
        ("prompts.controversy_threshold=high", "takes a number"),
        ("personas.enrichment=some", "takes `lm`"),
        ("personas.enrichment_sampling.temperature=-1", "temperature of at least 0"),
        ("pairs.answer.top_p=0", "top_p"),
        ("personas.enrichment_categories=9", "Choose 1 to 5"),
        ("personas.consistency=llm", "takes `rules`"),
        ("personas.consistency=lm", "name a checker"),
        ("personas.profile_attributes=[age, agee]", "Did you mean age"),
        ("personas.seen=99", "0 <= seen <= count"),
        ("pairs.train=500", "train-pool prompts"),
        ("pairs.heldout_test=500", r"prompts\.heldout is"),
        ("configs=[contrast]", "must name dpf"),
        ("configs=[dpf, dpf_matchd]", "it takes dpf, dpf_matched"),
        ("models.generator.provider=none", "cannot do without"),
        ("models.generator.provider=gpt", "choose one of"),
        ("models.judge.provider=openai", "without models.judge.base_url"),
        ("pairs.train=-2", r"pairs\.train is -2; it takes a whole number of at least 0"),
        ("pairs.seen_test=-1", r"pairs\.seen_test is -1"),
        ("pairs.heldout_test=-1", r"pairs\.heldout_test is -1"),
        ("pairs={train: 0, seen_test: 0, heldout_test: 0}", "there would be no pair"),
        ("pairs.max_retries=-1", r"pairs\.max_retries is -1"),
        ("pairs.answer.temperature=.nan", r"pairs\.answer\.temperature is nan; it takes a finite number"),
        ("audit.matched_text=[.nan, 0.6]", r"audit\.matched_text is nan"),
        ("configs=[dpf, dpf]", "names dpf twice"),
        ("audit.min_pairs=-5", r"audit\.min_pairs is -5"),
        ("audit.probe_pairs=0", r"audit\.probe_pairs is 0"),
        ("prompts.topics=0", r"prompts\.topics is 0"),
        ("prompts.controversy_votes=0", r"prompts\.controversy_votes is 0"),
        ("prompts.controversy_threshold=1.5", "Choose 0 to 1"),
        ("prompts.controversy_threshold=-0.1", "Choose 0 to 1"),
        ("contrast.partners=0", r"contrast\.partners is 0"),
        ("contrast.partners=-1", r"contrast\.partners is -1"),
        ("models.judge.timeout_seconds=-1", r"models\.judge\.timeout_seconds is -1"),
        ("models.judge.timeout_seconds=.inf", "finite"),
        ("models.judge.cost_per_million_prompt_tokens=-1", "a price is 0 USD or more"),
        ("models.judge.cost_per_million_completion_tokens=.nan", "finite"),
        ("models.judge.max_tokens_field=tokens", "max_tokens or max_completion_tokens"),
        ("personas=3", "is a section with keys"),
        ("personas.count", "dotted.key=value"),
        ("name.count=1", "is a value, not a section"),
    ],
)
def test_what_does_not_fit_is_named(override, message):
    with pytest.raises(InputError, match=message):
        load_recipe("demo", [override])


@pytest.mark.parametrize(
    ("override", "secret"),
    [
        ("models.judge.api_key=sk-abcdefgh12345678", "sk-abcdefgh12345678"),
        ("models.judge.model=sk-abcdefgh12345678", "sk-abcdefgh12345678"),
        ("models.judge.model=hf_abcdefghijklmnopqrst", "hf_abcdefghijklmnopqrst"),
        ("models.judge.api_key_env=sk-abcdefgh12345678", "sk-abcdefgh12345678"),
        ("models.judge.api_key_env=mykey12345", "mykey12345"),
        ("models.judge.base_url=http://user:pass1234@host/v1", "pass1234"),
        ("models.judge.base_url=http://host/v1?api_key=pass1234", "pass1234"),
    ],
)
def test_secrets_are_refused_and_not_repeated(override, secret):
    with pytest.raises(InputError) as raised:
        load_recipe("demo", [override])
    assert secret not in str(raised.value)
    assert "environment variable" in str(raised.value)


def test_names_of_variables_and_models_are_no_secrets():
    settings = ["models.judge.api_key_env=OPENAI_API_KEY", "models.judge.model=meta-llama/Llama-3.1-70B-Instruct"]
    assert load_recipe("demo", settings).models.judge.api_key_env == "OPENAI_API_KEY"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: [unclosed", "cannot be read as YAML"),
        (b"- a\n- b", "holds list instead of keys and values"),
        ("name: Köln".encode("latin-1"), "not UTF-8"),
        (b"name: x", "lacks seed"),
        (b"", "instead of keys and values"),
        (b"name: x\nseed: 1\nseed: 2\n", "seed twice"),
    ],
)
def test_unreadable_recipe_files(tmp_path, content, message):
    file = tmp_path / "r.yaml"
    file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_recipe(file)


def test_a_broken_line_that_holds_a_key_is_not_repeated(tmp_path):
    (tmp_path / "r.yaml").write_text('name: x\nmodels: {judge: {api_key: "sk-abcdefgh12345678}}\n')
    with pytest.raises(InputError, match="line") as raised:
        load_recipe(tmp_path / "r.yaml")
    assert "sk-abcdefgh" not in str(raised.value)


def test_a_recipe_that_does_not_exist_names_the_packaged_ones():
    with pytest.raises(InputError, match="demo, paper, small"):
        load_recipe("dmo")


def test_fingerprint_ignores_where_and_how_fast_but_nothing_else():
    base = fingerprint(load_recipe("demo"))
    for same in (
        "models.generator.max_tokens_field=max_completion_tokens",
        "models.generator.max_concurrency=3",
        "models.judge.path=/x",
        "census.source=/data/p.csv",
    ):
        assert fingerprint(load_recipe("demo", [same])) == base
    for other in (
        "seed=2",
        "personas.count=13",
        "models.critic.model=other/model",
        "pairs.revision.max_tokens=47",
        "judge=roleplay",
    ):
        assert fingerprint(load_recipe("demo", [other])) != base


def test_an_override_of_one_role_leaves_the_others():
    recipe = load_recipe("demo", ["models.critic.model=other/model"])
    assert [getattr(recipe.models, r).model for r in ROLES].count("other/model") == 1


def test_a_resolved_recipe_reads_back_as_itself(tmp_path):
    recipe = load_recipe("small")
    file = Path(tmp_path / "again.yaml")
    file.write_text(yaml.safe_dump(as_dict(recipe)))
    assert load_recipe(file) == recipe
