"""From the tables of a build to a folder that `load_dataset` reads: Parquet by config and split, card, audit, provenance.

What is published depends on the build's content alone: no time, no duration, no machine path. Publishing the same build twice
therefore gives the same bytes, and a folder that holds something else is never overwritten.
"""

import hashlib
import json
import logging
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from builder.audit.audit import audit_build, failures
from builder.errors import InputError
from builder.files import sha256_file, write_bytes, write_json
from builder.pipeline import finished_build
from builder.recipe import PROVENANCE_KEYS, named_file
from builder.schema import PAIR_CONFIGS, SPLITS
from builder.tables import RowGroups, arrow_table, read_columns, read_table, table_path, table_schema

Row = dict[str, Any]
TOPIC_FIGURE = "figures/topics.png"  # the paper's figure 3
log = logging.getLogger(__name__)


def publish(run: Path, target: Path, version: str = "0.1.0", for_own_use: bool = False) -> dict[str, Any]:
    """Write the build in `run` to the folder `target`, whole or not at all, and return the published build.json.

    Raises InputError if the build is unfinished, if a proof of its audit fails, or if `target` holds anything else than this content. A
    shortcut outside the recipe's band is warned of; `gate` says what stops a target that others read. Imported data that may not be
    passed on need `for_own_use`.
    """
    if str(target).startswith("hub:"):
        raise InputError(f"--to {target}: this version publishes to folders. Publish to a folder and upload that.")
    build = finished_build(run)
    if "not_for_publishing" in build and not for_own_use:
        raise InputError(f"{build['not_for_publishing']}. A folder for your own use: --for-own-use.")
    if "train" not in read_columns(run, "dpf", ["split"])["split"].unique().to_pylist():
        raise InputError(
            f"The build in {run} has no pair in train, so there is nothing to publish. {run / 'ledger' / 'pairs.json'} says why each "
            "pair failed; another model, template or number of retries may mend it."
        )
    checks = audit_build(run)
    for warning in gate(run, checks, for_hub=False):
        log.warning("Warning: %s", warning)
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


def gate(run: Path, checks: list[dict[str, Any]], for_hub: bool) -> list[str]:
    """The failed checks that a folder may have and the Hub may not: shortcuts outside the recipe's bands.

    Raises InputError for a failed proof (splits, mirrors, ids), which no target may have, and for any failure where `for_hub`.
    """
    proofs = [check for check in checks if check["proof"]]
    stopping = failures(checks if for_hub else proofs)
    if stopping:
        raise InputError(f"The build in {run} fails its audit and is not published: {'; '.join(stopping)}.")
    return failures(checks)


def _write_folder(
    folder: Path, run: Path, build: dict[str, Any], checks: list[dict[str, Any]], version: str
) -> dict[str, Any]:
    wanted = build["recipe"]["configs"]
    configs = {config: _write_pairs(folder, run, config) for config in PAIR_CONFIGS if config in wanted}
    personas, prompts = read_table(run, "personas"), read_table(run, "prompts")
    # These are one table each; `datasets` calls the only split of a table `train`.
    configs["personas"] = {"train": _write_rows(folder, "personas", personas)}
    configs["prompts"] = {"train": _write_rows(folder, "prompts", prompts)}
    if "judgements" in wanted:
        configs["judgements"] = {"train": _copy_table(folder, run, "judgements")}

    published = published_build(build, version)
    published["configs"] = configs
    published["content_sha256"] = _content_hash(folder, configs)
    write_json(folder / "audit.json", {"fingerprint": build["fingerprint"], "checks": checks})
    _write_card(folder, published, checks, personas, prompts)
    write_json(folder / "build.json", published)
    return published


def _write_pairs(folder: Path, run: Path, config: str) -> dict[str, dict[str, Any]]:
    """The build's table divided by split, a row group at a time, so that no more than ten personas are in memory."""
    import pyarrow.compute as compute
    import pyarrow.parquet as parquet

    schema = table_schema(config).remove(0)  # without `split`, which is the file now
    place = folder / "data" / config
    place.mkdir(parents=True)
    groups = {split: Counter[str]() for split in SPLITS}
    files = {split: RowGroups(place / f"{split}.parquet", schema) for split in SPLITS}
    with parquet.ParquetFile(table_path(run, config)) as table:
        for number in range(table.num_row_groups):
            rows = table.read_row_group(number)
            for split in SPLITS:
                own = rows.filter(compute.equal(rows["split"], split))
                files[split].add(own)
                groups[split].update(own["persona_group"].to_pylist())
    entries = {}
    for split, file in files.items():
        file.close()
        if file.rows:
            counts = {group: groups[split][group] for group in ("seen", "unseen")}
            entries[split] = _named(folder, config, split, file.rows) | {"groups": counts}
        else:
            # `datasets` cannot load a split without rows, nor any other split of a config that lists one.
            (place / f"{split}.parquet").unlink()
            entries[split] = {"rows": 0, "file": None}
    return entries


def _write_rows(folder: Path, config: str, rows: list[Row]) -> dict[str, Any]:
    import pyarrow.parquet as parquet

    place = folder / "data" / config / "train.parquet"
    place.parent.mkdir(parents=True)
    rows = sorted(rows, key=lambda r: r.get("persona_id") or r["prompt_id"])
    parquet.write_table(arrow_table(config, rows), place, compression="zstd")
    return _named(folder, config, "train", len(rows))


def _copy_table(folder: Path, run: Path, config: str) -> dict[str, Any]:
    import pyarrow.parquet as parquet

    place = folder / "data" / config / "train.parquet"
    place.parent.mkdir(parents=True)
    shutil.copyfile(table_path(run, config), place)
    return _named(folder, config, "train", parquet.read_metadata(place).num_rows)


def _named(folder: Path, config: str, split: str, rows: int) -> dict[str, Any]:
    """`datasets` (5.2) caches a local folder under its name and file names, not its content: without the hash in its name a dataset
    that was built again would silently be read as it was before."""
    unnamed = folder / "data" / config / f"{split}.parquet"
    name = f"data/{config}/{split}-00000-of-00001-{sha256_file(unnamed)[:12]}.parquet"
    unnamed.rename(folder / name)
    return {"rows": rows, "file": name}


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
    for section in ("pairs", "matched"):
        recipe[section] = {key: named_file(value) for key, value in recipe[section].items()}
    recipe["second_judge"] = named_file(recipe["second_judge"])
    terms: dict[str, Any] = {
        key: build[key] for key in ("licence", "not_for_publishing", "imported", "extends") if key in build
    }
    return {
        "version": version,
        **terms,
        "name": recipe["name"],
        "recipe": recipe,
        "fingerprint": build["fingerprint"],
        "code_version": build["code_version"],
        "inputs": build["inputs"],
        "templates": build["templates"],
        "packaged": build.get("packaged", {}),
        "models": build["models"],
        "judge": build["judge"],
        "judges": build["judges"],
        "canary": build["canary"],
        "stages": {
            name: {k: v for k, v in stage.items() if not k.endswith("seconds")}
            for name, stage in build["stages"].items()
        },
        # Prices are the publisher's, so the cost that follows from them stays out.
        "usage": {key: value for key, value in build["usage"]["recorded"].items() if key != "cost_usd"},
    }


def _write_card(
    folder: Path, published: dict[str, Any], checks: list[dict[str, Any]], personas: list[Row], prompts: list[Row]
) -> None:
    from dataset_card.figures import topic_figure
    from dataset_card.render import render_card

    topics = Counter(p["topic"] for p in prompts)
    write_bytes(folder / TOPIC_FIGURE, topic_figure(topics))
    stages = published["stages"]
    licences = Counter(p["licence"] or "unknown" for p in prompts)
    census = stages["personas"]
    statistics = {
        "repo_id": None,
        "version": published["version"],
        "recipe_name": published["name"],
        "licence": published.get("licence", "cc-by-4.0"),
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
        "topics": dict(topics),
        "figures": {"Questions by topic": TOPIC_FIGURE},
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
