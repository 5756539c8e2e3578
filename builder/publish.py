"""From the tables of a build to a folder that `load_dataset` reads: Parquet by config and split, card, audit, provenance.

What is published depends on the build's content alone: no time, no duration, no machine path. Publishing the same build twice
therefore gives the same bytes, and a folder that holds something else is never overwritten.
"""

import hashlib
import json
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.files import read_json, sha256_file, write_json
from builder.pairs.audit import audit_tables, failures
from builder.pipeline import arrow_table, read_table
from builder.recipe import PROVENANCE_KEYS, named_file
from builder.schema import PAIR_CONFIGS, SPLITS

# About ten personas to a row group: one persona is read without the rest, and the footer stays small (one row group per persona
# makes it 8 % of the file, ten make it 1 %).
PERSONAS_PER_ROW_GROUP = 10
Row = dict[str, Any]


def audit_build(run: Path) -> list[dict[str, Any]]:
    """Run the audit over a finished build, write RUN/audit.json and return its checks."""
    build = _finished_build(run)
    tables = {config: read_table(run, config) for config in _pair_configs(build)}
    checks = audit_tables(build["recipe"]["seed"], read_table(run, "personas"), read_table(run, "prompts"), tables)
    write_json(run / "audit.json", {"fingerprint": build["fingerprint"], "checks": checks})
    return checks


def publish(run: Path, target: Path, version: str = "0.1.0") -> dict[str, Any]:
    """Write the build in `run` to the folder `target`, whole or not at all, and return the published build.json.

    Raises InputError if the build is unfinished, fails the audit's proofs, or if `target` holds anything else than this content.
    """
    build = _finished_build(run)
    if not any(row["split"] == "train" for row in read_table(run, "dpf")):
        raise InputError(
            f"The build in {run} has no pair in train, so there is nothing to publish. {run / 'ledger' / 'pairs.json'} says why each "
            "pair failed; another model, template or number of retries may mend it."
        )
    checks = audit_build(run)
    failed = failures(checks)
    if failed:
        raise InputError(f"The build in {run} fails its audit and is not published: {'; '.join(failed)}.")
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        published = _write_folder(unfinished, run, build, checks, version)
        unfinished.chmod(0o755)
        if target.exists():
            _refuse_other_content(target, unfinished)
        else:
            unfinished.rename(target)
    except OSError as error:
        if error.errno == 28:  # ENOSPC
            raise InputError(
                f"The disk is full: {target} was not written; the build in {run} is untouched. Free some space and publish again."
            ) from None
        raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return published


def _finished_build(run: Path) -> dict[str, Any]:
    build = read_json(run / "build.json")
    wanted = ["personas", "prompts", "pairs", *(["contrast"] if "contrast" in build["recipe"]["configs"] else [])]
    missing = [stage for stage in wanted if stage not in build["stages"]]
    if missing:
        raise InputError(
            f"The build in {run} is not finished: {', '.join(missing)} missing. Run `persona build` with the same recipe and --out; "
            "it goes on from what is recorded."
        )
    return build


def _pair_configs(build: dict[str, Any]) -> list[str]:
    return [config for config in PAIR_CONFIGS if config in build["recipe"]["configs"]]


def _write_folder(
    folder: Path, run: Path, build: dict[str, Any], checks: list[dict[str, Any]], version: str
) -> dict[str, Any]:
    configs: dict[str, dict[str, dict[str, Any]]] = {}
    for config in _pair_configs(build):
        rows = read_table(run, config)
        by_split = {split: [r for r in rows if r["split"] == split] for split in SPLITS}
        configs[config] = {split: _write_split(folder, config, split, by_split[split]) for split in SPLITS}
    personas, prompts = read_table(run, "personas"), read_table(run, "prompts")
    # Personas and prompts are one table each; `datasets` calls the only split of a table `train`.
    configs["personas"] = {"train": _write_split(folder, "personas", "train", personas)}
    configs["prompts"] = {"train": _write_split(folder, "prompts", "train", prompts)}

    published = published_build(build, version)
    published["configs"] = configs
    published["content_sha256"] = _content_hash(folder, configs)
    write_json(folder / "audit.json", {"fingerprint": build["fingerprint"], "checks": checks})
    _write_card(folder, published, checks, personas, prompts)
    write_json(folder / "build.json", published)
    return published


def _write_split(folder: Path, config: str, split: str, rows: list[Row]) -> dict[str, Any]:
    import pyarrow.parquet as parquet

    if not rows:
        # `datasets` cannot load a split without rows, nor any other split of a config that lists one.
        return {"rows": 0, "file": None}
    unnamed = folder / "data" / config / f"{split}.parquet"
    unnamed.parent.mkdir(parents=True, exist_ok=True)
    rows = sorted(rows, key=lambda r: (r.get("persona_id", ""), r.get("pair_id") or r.get("prompt_id") or ""))
    personas = len({r["persona_id"] for r in rows}) if rows and "persona_id" in rows[0] else 0
    # Rows per persona are nearly equal, so a fixed number of rows holds about ten personas.
    per_group = max(1, round(len(rows) / personas * PERSONAS_PER_ROW_GROUP)) if personas else 10_000
    parquet.write_table(arrow_table(config, rows), unnamed, compression="zstd", row_group_size=per_group)
    # `datasets` (5.2) caches a local folder under its name and file names, not its content: without the hash a dataset that was
    # built again would silently be read as it was before.
    name = f"data/{config}/{split}-00000-of-00001-{sha256_file(unnamed)[:12]}.parquet"
    unnamed.rename(folder / name)
    entry: dict[str, Any] = {"rows": len(rows), "file": name}
    if config in PAIR_CONFIGS:
        groups = Counter(r["persona_group"] for r in rows)
        entry["groups"] = {group: groups[group] for group in ("seen", "unseen")}
    return entry


def published_build(build: dict[str, Any], version: str) -> dict[str, Any]:
    """build.json as it is published: without durations, without what only this machine or this run knows."""
    recipe = json.loads(json.dumps(build["recipe"]))
    for key in PROVENANCE_KEYS:
        *parents, last = key.split(".")
        section = recipe
        for parent in parents:
            section = section[parent]
        if last.endswith("source") and section[last] is not None:
            section[last] = Path(section[last]).name  # the file's name, not where it lay
        elif not last.endswith("source"):
            section.pop(last)
    recipe["judge"] = named_file(recipe["judge"])
    recipe["pairs"] = {key: named_file(value) for key, value in recipe["pairs"].items()}
    return {
        "version": version,
        "name": recipe["name"],
        "recipe": recipe,
        "fingerprint": build["fingerprint"],
        "code_version": build["code_version"],
        "inputs": build["inputs"],
        "templates": build["templates"],
        "models": build["models"],
        "judge": build["judge"],
        "stages": {name: {k: v for k, v in stage.items() if k != "seconds"} for name, stage in build["stages"].items()},
        # Prices are the publisher's, so the cost that follows from them stays out.
        "usage": {key: value for key, value in build["usage"]["recorded"].items() if key != "cost_usd"},
    }


def _write_card(
    folder: Path, published: dict[str, Any], checks: list[dict[str, Any]], personas: list[Row], prompts: list[Row]
) -> None:
    from dataset_card.render import render_card

    stages = published["stages"]
    licences = Counter(p["licence"] or "unknown" for p in prompts)
    census = stages["personas"]
    statistics = {
        "repo_id": None,
        "version": published["version"],
        "recipe_name": published["name"],
        "licence": "cc-by-4.0",
        "configs": published["configs"],
        "build": {
            **published,
            "sources": {
                "census records": census.get("source"),
                "census survey year": census.get("survey_year"),
                "questions": stages["prompts"].get("source"),
                "question licences": ", ".join(f"{name} ({n})" for name, n in sorted(licences.items())),
            },
        },
        "audit": {check["name"]: check for check in checks},
        "flip_rate": stages.get("contrast", {}).get("flip", {}),
        "personas": {
            "seen": sum(p["group"] == "seen" for p in personas),
            "unseen": sum(p["group"] == "unseen" for p in personas),
            "adults": sum(bool(p["is_adult"]) for p in personas),
        },
        "topics": dict(Counter(p["topic"] for p in prompts)),
    }
    (folder / "README.md").write_text(render_card(statistics), encoding="utf-8")


def _content_hash(folder: Path, configs: dict[str, dict[str, dict[str, Any]]]) -> str:
    """SHA-256 over the names and hashes of all data files."""
    files = sorted(entry["file"] for splits in configs.values() for entry in splits.values() if entry["file"])
    lines = "".join(f"{sha256_file(folder / name)}  {name}\n" for name in files)
    return hashlib.sha256(lines.encode("utf-8")).hexdigest()


def _refuse_other_content(target: Path, made: Path) -> None:
    """Nothing to do if `target` already holds exactly what was made; an error otherwise."""
    if not target.is_dir():
        raise InputError(f"{target} is a file. Give a folder.")
    names = {
        folder: {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} for folder in (target, made)
    }
    differing = sorted(names[target] ^ names[made]) or sorted(
        name for name in names[made] if sha256_file(target / name) != sha256_file(made / name)
    )
    if differing:
        raise InputError(
            f"{target} already holds something else (differing: {', '.join(differing[:4])}). A published version is never "
            "overwritten: give another folder, or remove this one yourself if nobody uses it."
        )
