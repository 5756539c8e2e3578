"""The audit as a whole: proofs on tables that are broken one way at a time, bands, and what is written."""

import copy
import json

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from builder.audit.audit import audit_build, failures
from builder.audit.checks import Outcome, shares
from builder.audit.table import audit_table
from builder.errors import InputError
from builder.personas.groups import COMPARED
from builder.randomness import rng_for
from builder.recipe import as_dict
from builder.schema import (
    CANARY,
    PAIR_CONFIGS,
    assistant_message,
    contrast_pair_id,
    dpf_pair_id,
    empty_attributes,
    features,
    persona_id,
    preference_messages,
    prompt_id,
    split_for,
)
from builder.tables import STAGE_OF_TABLE
from tests.builder.conftest import scripted_recipe

PERSONAS, SEEN, TRAIN_POOL, PROMPTS = 12, 8, 12, 18


def sound_tables():
    """Rows by config: 12 personas, 18 questions, every persona asked all of them, contrast between neighbours of a group."""
    rng = rng_for(1, "test", "audit")
    vocabulary = [f"word{n}" for n in range(300)]

    def text(length):
        return " ".join(vocabulary[n] for n in rng.integers(0, 300, length)) + "."

    personas, prompts, pairs = [], [], {config: [] for config in PAIR_CONFIGS}
    for n in range(PERSONAS):
        # Each persona of another age, language, schooling and job: nobody is a near-clone.
        own = {name: f"{name} {n}" for name in COMPARED if name not in ("age", "income")} | {"age": 20 + n, "income": 1}
        row = {**dict.fromkeys(features("personas")), **empty_attributes(), **own, "persona_id": persona_id(n)}
        row |= {"group": "seen" if n < SEEN else "unseen", "is_adult": True, "profile": f"A person. {text(30)}"}
        row |= {"big_five_scores": None, "extras": None, "null_reasons": None, "provenance": None}
        personas.append(row)
    for n in range(PROMPTS):
        row = dict.fromkeys(features("prompts")) | {"prompt_id": prompt_id(n), "question": f"What of {text(8)}?"}
        prompts.append(row | {"pool": "train" if n < TRAIN_POOL else "heldout", "topic": "all", "canary": CANARY})

    def pair(config, persona, prompt, chosen, rejected, split, **more):
        members = [p["persona_id"] for p in personas if p["group"] == persona["group"]]
        involved = {persona["persona_id"], more.get("partner_persona_id")}
        row = dict.fromkeys(features(config)) | {"split": split, "persona_id": persona["persona_id"]}
        row |= {"pair_id": dpf_pair_id(persona["persona_id"], prompt["prompt_id"], config), "topic": "all"}
        row |= {"prompt_id": prompt["prompt_id"], "persona_group": persona["group"], "is_adult": True}
        row |= {"prompt": preference_messages(persona["profile"], prompt["question"])}
        row |= {"chosen": assistant_message(chosen), "rejected": assistant_message(rejected)}
        row |= {"chosen_tokens": len(chosen.split()), "rejected_tokens": len(rejected.split())}
        row |= {"length_violation": False, "attribute_leak": False, "inferable_attributes": []}
        row |= {"wrong_persona_id": next(m for m in members if m not in involved)}
        pairs[config].append(row | more)

    for p, prompt in enumerate(prompts):
        part = "heldout_test" if p >= TRAIN_POOL else "train" if p < 8 else "seen_test"
        base = text(int(rng.integers(40, 90)))
        base_id = f"base/{prompt['prompt_id']}/0"
        revision = {}
        for n, persona in enumerate(personas):
            split = split_for(part, persona["group"])
            length = len(base.split())
            revision[n] = text(length - 10 - n)
            pair("dpf", persona, prompt, revision[n], base, split, base_id=base_id)
            longer = 5 if (n + p) % 2 else -5
            pair("dpf_matched", persona, prompt, text(length + longer), base, split, base_id=base_id)
        for own, other in [(a, b) for a in range(PERSONAS) for b in range(PERSONAS) if (a < SEEN) == (b < SEEN)]:
            if (own + other) % 2:
                ids = personas[own]["persona_id"], personas[other]["persona_id"]
                pair(
                    "contrast",
                    personas[own],
                    prompt,
                    revision[own],
                    revision[other],
                    split_for(part, personas[own]["group"]),
                    pair_id=contrast_pair_id(*ids, prompt["prompt_id"]),
                    mirror_pair_id=contrast_pair_id(*reversed(ids), prompt["prompt_id"]),
                    partner_persona_id=ids[1],
                )
    return {"personas": personas, "prompts": prompts, **pairs}


def write_run(folder, tables, households=None, divided=0, counts=None, **audit):
    """A build's folder with these tables. counts: the rows that build.json says were written, as many as there are unless given."""
    for config, rows in tables.items():
        schema = features(config).arrow_schema
        if config in PAIR_CONFIGS and "split" not in schema.names:
            schema = schema.insert(0, arrow.field("split", arrow.string()))
        table = arrow.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema)
        (folder / "tables").mkdir(parents=True, exist_ok=True)
        parquet.write_table(table, folder / "tables" / f"{config}.parquet")
    if households is not None:
        ids = [row["persona_id"] for row in tables["personas"]]
        records = arrow.table({"persona_id": ids, "SERIALNO": households})
        parquet.write_table(records, folder / "tables" / "persona_records.parquet")
    recipe = as_dict(scripted_recipe("configs=[dpf,dpf_matched,contrast]"))
    recipe["audit"] |= audit
    counts = counts or {config: len(rows) for config, rows in tables.items()}
    counted = {STAGE_OF_TABLE[config]: {"out": counts[config]} for config in PAIR_CONFIGS}
    stages = {"personas": {"clusters": {"divided": divided}}, "prompts": {}, **counted}
    build = {"fingerprint": "f", "recipe": recipe, "stages": stages}
    if "judgements" in counts:
        recipe["configs"] = [*recipe["configs"], "judgements"]
        build["judgements"] = counts["judgements"]
    (folder / "build.json").write_text(json.dumps(build), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def sound():
    return sound_tables()


@pytest.fixture
def audited(tmp_path, sound):
    """A function: change the sound tables, audit the folder, and get the checks by name."""

    def run(change=lambda tables: None, judged=False, **options):
        tables = copy.deepcopy(sound)
        if judged:
            tables["judgements"] = [{"pair_id": row["pair_id"]} for config in PAIR_CONFIGS for row in tables[config]]
        change(tables)
        # Few pairs for the fitted probes, so that the many audits of this file are quick.
        checks = audit_build(write_run(tmp_path / "run", tables, **{"probe_pairs": 80} | options))
        assert json.loads((tmp_path / "run" / "audit.json").read_text()) == {"fingerprint": "f", "checks": checks}
        assert len({c["name"] for c in checks}) == len(checks)
        return {c["name"]: c for c in checks}

    return run


HOUSEHOLDS = [f"h{n}" for n in range(PERSONAS)]


def test_a_sound_build_fails_nothing_and_every_check_says_what_it_is(audited):
    checks = audited(households=HOUSEHOLDS, probe_pairs=20_000)
    assert failures(list(checks.values())) == []
    for check in checks.values():
        assert set(check) == {"name", "value", "low", "high", "n", "verdict", "note", "band", "proof"}
        assert check["verdict"] in ("pass", "report", "inconclusive")
        assert (check["low"] is None) == (check["high"] is None)
    blind = (
        "lengths win",
        "shorter wins",
        "shorter wins in tokens",
        "style wins",
        "words win",
        "question and words win",
    )
    for name in blind:
        check = checks[f"contrast: {name}"]
        assert (check["value"], check["low"], check["high"]) == (0.5, 0.5, 0.5)
        assert (check["verdict"], check["band"], check["proof"]) == ("pass", [0.5, 0.5], True)
        assert checks[f"dpf: {name}"]["verdict"] == "report"
    for name in (*blind[:3], "style wins", "words win", "question and words win"):
        # As blind as each other: none without a band where length and words are to tell nothing.
        text = name in ("style wins", "words win", "question and words win")
        assert checks[f"dpf_matched: {name}"]["band"] == ([0.40, 0.60] if text else [0.48, 0.52])
    for name in ("profile and answer win", "wrong profile and answer win"):
        assert {checks[f"{config}: {name}"]["verdict"] for config in PAIR_CONFIGS} == {"report"}
    assert checks["dpf: shorter wins"]["value"] == 1.0
    assert checks["dpf_matched: shorter wins"]["verdict"] == "inconclusive"
    assert checks["dpf_matched: shorter wins"]["value"] == 0.5


def test_the_table_shows_every_check(audited):
    checks = list(audited().values())
    shown = audit_table(checks).split("\n")
    assert len(shown) == len(checks) + 1
    assert all(
        check["name"] in line and check["verdict"] in line for check, line in zip(checks, shown[1:], strict=True)
    )


def row_of(tables, config, split):
    return next(row for row in tables[config] if row["split"] == split)


def set_in(config, split, /, **changes):
    return lambda tables: row_of(tables, config, split).update(changes)


def repeat(config, split, /, **changes):
    def change(tables):
        tables[config].append(copy.deepcopy(row_of(tables, config, split)) | changes)

    return change


def copy_question(tables):
    tables["prompts"][-1]["question"] = tables["prompts"][0]["question"].upper() + " Say more"


def swap_sides(tables):
    row = row_of(tables, "contrast", "train")
    row["chosen"], row["rejected"] = row["rejected"], row["chosen"]


def other_persons_text(tables):
    """Both mirrors get a text that neither persona wrote: still complete and balanced, and wrong."""
    row = row_of(tables, "contrast", "train")
    mirror = next(r for r in tables["contrast"] if r["pair_id"] == row["mirror_pair_id"])
    row["chosen"] = mirror["rejected"] = assistant_message("What somebody else said.")


def without_control(tables):
    for row in tables["dpf"]:
        row["wrong_persona_id"] = None


def base_text_of_heldout(tables):
    """The base answer of a held-out prompt under the id of a train-pool one."""
    row_of(tables, "dpf", "train")["rejected"] = row_of(tables, "dpf", "heldout_test")["rejected"]


def other_split(tables):
    """In dpf_matched a train pair of dpf stands in seen_test: each table alone is in order."""
    row_of(tables, "dpf_matched", "train")["split"] = "seen_test"


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (repeat("dpf", "train"), "dpf: repeated pair ids"),
        (set_in("dpf", "train", chosen=assistant_message(" ")), "dpf: empty or identical sides"),
        (set_in("dpf_matched", "train", chosen=assistant_message("a"), rejected=assistant_message("a ")),
         "dpf_matched: empty or identical sides"),
        (set_in("dpf", "train", persona_id="p99999"), "dpf: ids that no table knows"),
        (set_in("contrast", "train", partner_persona_id="p99999"), "contrast: ids that no table knows"),
        (set_in("dpf", "train", persona_group="unseen"), "dpf: groups that are not the persona's"),
        (repeat("dpf", "support", split="train", pair_id="new"), "dpf: unseen personas in train"),
        (repeat("dpf", "train", split="support", pair_id="new"), "dpf: seen personas in support"),
        (repeat("dpf", "heldout_test", split="seen_test", pair_id="new"), "dpf: prompts in the wrong pool"),
        (repeat("dpf", "train", split="seen_test", pair_id="new"), "dpf: persona-prompt pairs in two splits"),
        (other_split, "build: persona-prompt pairs in two splits"),
        (set_in("dpf", "train", wrong_persona_id="p00000"), "dpf: controls that are no controls"),
        (set_in("dpf", "train", wrong_persona_id=persona_id(PERSONAS - 1)), "dpf: controls that are no controls"),
        (without_control, "dpf: controls that are no controls"),
        (set_in("contrast", "train", wrong_persona_id=None), "contrast: controls that are no controls"),
        (base_text_of_heldout, "dpf: base answers of held-out prompts in train"),
        (set_in("dpf", "train", base_id=f"base/{prompt_id(PROMPTS - 1)}/0"), "dpf: base answers of held-out prompts in train"),
        (set_in("dpf", "train", base_id=f"base/{prompt_id(PROMPTS - 1)}/1"), "dpf: base answers of held-out prompts in train"),
        (copy_question, "build: held-out prompts with a near-duplicate in train"),
        (lambda tables: tables["contrast"].pop(0), "contrast: mirrors that are absent or differ"),
        (lambda tables: tables["contrast"].pop(0), "contrast: texts chosen unequally often"),
        (lambda tables: tables["contrast"].pop(0), "contrast: shorter wins"),
        (swap_sides, "contrast: mirrors that are absent or differ"),
        (swap_sides, "contrast: texts chosen unequally often"),
        (set_in("contrast", "train", mirror_pair_id="contrast/none"), "contrast: mirrors that are absent or differ"),
        (set_in("contrast", "train", split="seen_test"), "contrast: mirrors that are absent or differ"),
        (set_in("dpf_matched", "train", chosen_tokens=7), "dpf_matched: pairs whose length has no counterpart"),
        (other_persons_text, "contrast: texts that are not the personas' own"),
    ],
)  # fmt: skip
def test_each_kind_of_damage_fails_its_proof(audited, change, name):
    checks = audited(change)
    assert checks[name]["verdict"] == "fail"
    assert checks[name]["proof"] is True
    assert checks[name]["value"] > 0
    assert any(phrase.startswith(f"{name}: ") for phrase in failures(list(checks.values())))


@pytest.mark.parametrize("config", PAIR_CONFIGS)
def test_rows_that_were_counted_and_are_not_there_fail(audited, sound, config):
    """Neither mirrors nor ids can tell that a table was emptied: of no rows they prove nothing."""
    counts = {name: len(sound[name]) for name in PAIR_CONFIGS}
    checks = audited(lambda tables: tables[config].clear(), counts=counts)
    check = checks[f"{config}: rows more or fewer than counted"]
    assert (check["verdict"], check["value"], check["proof"]) == ("fail", counts[config], True)
    assert checks[f"{config}: repeated pair ids"]["verdict"] == "inconclusive"
    if config == "contrast":
        assert checks["contrast: mirrors that are absent or differ"]["verdict"] == "inconclusive"
    assert audited(counts=counts)[check["name"]]["verdict"] == "pass"


def test_rows_of_an_extended_version_are_counted_too(tmp_path, sound):
    folder = write_run(tmp_path, sound, probe_pairs=80, counts={name: len(sound[name]) for name in PAIR_CONFIGS})
    build = json.loads((folder / "build.json").read_text())
    stages = build["stages"]
    stages["pairs"] = {"out": stages["pairs"]["out"] - 20, "earlier_rows": 20}
    del stages["matched"]["out"]
    (folder / "build.json").write_text(json.dumps(build))
    checks = {c["name"]: c["verdict"] for c in audit_build(folder)}
    assert checks["dpf: rows more or fewer than counted"] == "pass"
    assert checks["dpf_matched: rows more or fewer than counted"] == "inconclusive"


def test_judgements_are_about_pairs_that_are_there(audited):
    strangers, rows = "judgements: of pairs that are not there", "judgements: rows more or fewer than counted"

    def dropped(tables):
        tables["dpf_matched"] = [r for r in tables["dpf_matched"] if r["prompt_id"] != prompt_id(0)]

    assert {audited(judged=True)[name]["verdict"] for name in (strangers, rows)} == {"pass"}
    check = audited(dropped, judged=True)[strangers]
    assert (check["verdict"], check["value"]) == ("fail", PERSONAS)
    counts = dict.fromkeys(PAIR_CONFIGS, PERSONAS * PROMPTS) | {"judgements": 7}
    assert audited(judged=True, counts=counts)[rows]["verdict"] == "fail"
    assert not any(name.startswith("judgements") for name in audited())


def test_a_control_may_be_absent_where_there_is_nobody_else(audited):
    def lonely(tables):
        """The last persona is the only one who is left unseen."""
        kept = {p["persona_id"] for p in tables["personas"][:SEEN]} | {tables["personas"][-1]["persona_id"]}
        tables["personas"] = [p for p in tables["personas"] if p["persona_id"] in kept]
        for config in PAIR_CONFIGS:
            rows = [r for r in tables[config] if {r["persona_id"], r.get("partner_persona_id")} <= {*kept, None}]
            tables[config] = rows
            for row in rows:
                if row["persona_group"] == "unseen":
                    row["wrong_persona_id"] = None

    assert audited(lonely)["dpf: controls that are no controls"]["verdict"] == "pass"


def test_a_short_base_answer_may_stand_on_both_sides_of_the_split(audited):
    def change(tables):
        for row in (row_of(tables, "dpf", "train"), row_of(tables, "dpf", "heldout_test")):
            row["rejected"] = assistant_message("That is for everybody to decide.")

    assert audited(change)["dpf: base answers of held-out prompts in train"]["verdict"] == "pass"


def test_a_balanced_set_with_foreign_texts_is_caught_only_by_its_own_proof(audited):
    checks = audited(other_persons_text)
    assert [p.split(":")[1] for p in failures(list(checks.values()))] == [" texts that are not the personas' own"]


def test_repeated_answers_are_told_and_not_judged(audited):
    def change(tables):
        for row in tables["dpf"]:
            if row["persona_id"] == "p00003" and row["prompt_id"] in (
                prompt_id(0),
                prompt_id(1),
                prompt_id(PROMPTS - 1),
            ):
                row["chosen"] = assistant_message("I cannot say anything about that.")

    checks = audited(change)
    assert checks["dpf: chosen texts of several prompts"]["value"] == 1
    assert checks["dpf: held-out answers that train knows"]["value"] == 1
    assert checks["dpf: chosen texts of several prompts"]["verdict"] == "report"


def test_a_household_in_both_groups_fails(audited):
    check = "build: households in both groups"
    assert audited(households=HOUSEHOLDS)[check]["verdict"] == "pass"
    shared = [*HOUSEHOLDS[:-1], HOUSEHOLDS[0]]
    found = audited(households=shared)[check]
    assert (found["verdict"], found["value"]) == ("fail", 1)
    # The build said that it had to divide a cluster: told, not judged. It excuses no more than it named.
    assert audited(households=shared, divided=1)[check]["verdict"] == "report"
    twice = [*HOUSEHOLDS[:-2], HOUSEHOLDS[1], HOUSEHOLDS[0]]
    assert audited(households=twice, divided=1)[check]["verdict"] == "fail"


def test_imported_personas_have_no_households_and_the_audit_says_so(audited):
    check = audited()["build: households in both groups"]
    assert (check["verdict"], check["value"]) == ("report", None)
    assert "no census record" in check["note"]


def test_near_clones_in_both_groups_fail(audited):
    def clone(differences):
        def change(tables):
            first, last = tables["personas"][0], tables["personas"][-1]
            last.update({name: first[name] for name in COMPARED[differences:]})

        return change

    check = "build: near-clones in both groups"
    found = audited(clone(2))[check]
    assert (found["verdict"], found["value"]) == ("fail", 2)
    assert audited(clone(3))[check]["verdict"] == "pass"
    assert audited(clone(2), divided=1)[check]["verdict"] == "report"


def test_an_unfinished_build_is_not_audited(tmp_path, sound):
    folder = write_run(tmp_path, sound)
    build = json.loads((folder / "build.json").read_text())
    del build["stages"]["matched"]
    (folder / "build.json").write_text(json.dumps(build))
    with pytest.raises(InputError, match="not finished: matched missing"):
        audit_build(folder)
    with pytest.raises(InputError, match=r"build\.json does not exist"):
        audit_build(tmp_path / "nowhere")


def test_the_order_of_the_rows_changes_nothing(audited):
    def turned(tables):
        for config in PAIR_CONFIGS:
            tables[config].reverse()

    assert audited(turned) == audited()


def test_a_longer_table_is_sampled_by_whole_prompts(audited):
    checks = audited()
    asked = checks["dpf: style wins"]["n"]
    assert asked == 72  # six prompts of twelve personas are the most that fit into 80
    assert checks["contrast: style wins"]["value"] == 0.5
    assert checks["dpf: shorter wins"]["n"] == PERSONAS * PROMPTS


@pytest.mark.parametrize(
    ("wins", "band", "n", "verdict"),
    [
        (0.50, (0.48, 0.52), 2000, "pass"),
        (0.53, (0.48, 0.52), 2000, "pass"),  # its interval of about +- 0.02 meets the band
        (0.60, (0.48, 0.52), 2000, "fail"),
        (0.40, (0.48, 0.52), 2000, "fail"),
        (0.60, (0.48, 0.52), 900, "inconclusive"),
        (0.60, (0.40, 0.70), 2000, "pass"),
        (0.60, None, 2000, "report"),
    ],
)
def test_a_check_fails_when_its_whole_interval_is_outside_the_band(wins, band, n, verdict):
    values = [1.0] * round(wins * n) + [0.0] * (n - round(wins * n))
    clusters = [(f"p{i}",) for i in range(n)]
    check = shares("dpf_matched", [Outcome("x", values, "", band)], clusters, seed=1, min_pairs=1000)[0]
    assert check["verdict"] == verdict
    assert check["low"] < wins < check["high"]


def test_exactly_half_is_meant_exactly():
    clusters = [(f"p{i}",) for i in range(2001)]
    nearly = [1.0] * 1000 + [0.0] * 1001
    assert shares("contrast", [Outcome("x", nearly, "", exact=True)], clusters, 1, 1000)[0]["verdict"] == "fail"
    assert (
        shares("contrast", [Outcome("x", nearly[:-1], "", exact=True)], clusters[:-1], 1, 1000)[0]["verdict"] == "pass"
    )


def test_what_could_not_be_asked_is_inconclusive():
    check = shares("dpf", [Outcome("x", None, "too few prompts")], [], 1, 1000)[0]
    assert (check["verdict"], check["value"], check["n"]) == ("inconclusive", None, 0)


def test_empty_tables_are_no_error(audited):
    def nothing_left(tables):
        for config in PAIR_CONFIGS:
            tables[config].clear()

    checks = audited(nothing_left)
    assert failures(list(checks.values())) == []
    assert checks["contrast: words win"]["verdict"] == "inconclusive"
    assert checks["dpf: attributes are read off"]["verdict"] == "inconclusive"


def test_attributes_read_off_are_told_with_the_most_frequent_value(tmp_path, sound):
    """Enough personas for the probe: five times the sound ones, whose chosen answers in dpf name their sex."""
    tables = copy.deepcopy(sound) | {"contrast": [], "dpf_matched": []}
    personas, rows = tables["personas"], tables["dpf"]
    tables["personas"], tables["dpf"] = [], []
    for n in range(5 * PERSONAS):
        old = personas[n % PERSONAS]
        sex, name = ("Female", "Male")[n % 2], persona_id(n)
        tables["personas"].append(old | {"persona_id": name, "sex": sex})
        for row in (r for r in rows if r["persona_id"] == old["persona_id"]):
            told = assistant_message(f"{row['chosen'][0]['content']} {sex} {sex}")
            more = {"persona_id": name, "pair_id": dpf_pair_id(name, row["prompt_id"]), "chosen": told}
            tables["dpf"].append(row | more)
    check = {c["name"]: c for c in audit_build(write_run(tmp_path, tables))}["dpf: sex is read off"]
    assert check["value"] == pytest.approx(0.5, abs=0.03)
    assert check["low"] > 0.4
    assert (check["verdict"], check["n"]) == ("report", 5 * PERSONAS * PROMPTS)
    assert "less 0.500 by always saying the most frequent value" in check["note"]
