"""The published folder without its card: Parquet by config and split, audit, build.json.

What is published depends on the build's content alone: no time, no duration, no machine path. Publishing the same build twice
therefore gives the same bytes.
"""

import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from builder.files import sha256_file, write_json
from builder.publishing.licences import DEFAULT_LICENCE
from builder.recipe import PROVENANCE_KEYS, named_file
from builder.schema import PAIR_CONFIGS, SPLITS
from builder.tables import RowGroups, arrow_table, read_table, table_path, table_schema

Row = dict[str, Any]


def write_data(
    folder: Path, run: Path, build: dict[str, Any], checks: list[dict[str, Any]], version: str
) -> dict[str, Any]:
    """Write the tables and audit.json of the build in `run` into `folder`; gives what build.json will say of them."""
    wanted = build["recipe"]["configs"]
    configs = {config: write_pairs(folder, run, config) for config in PAIR_CONFIGS if config in wanted}
    # These are one table each; `datasets` calls the only split of a table `train`.
    configs["personas"] = {"train": _write_rows(folder, "personas", read_table(run, "personas"))}
    configs["prompts"] = {"train": _write_rows(folder, "prompts", read_table(run, "prompts"))}
    if "judgements" in wanted:
        configs["judgements"] = {"train": _copy_table(folder, run, "judgements")}
    published = published_build(build, version)
    published["configs"] = configs
    published["content_sha256"] = _content_hash(configs)
    write_json(folder / "audit.json", {"fingerprint": build["fingerprint"], "checks": checks})
    return published


def write_pairs(folder: Path, run: Path, config: str) -> dict[str, dict[str, Any]]:
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
    sha256 = sha256_file(unnamed)
    name = f"data/{config}/{split}-00000-of-00001-{sha256[:12]}.parquet"
    unnamed.rename(folder / name)
    return {"rows": rows, "file": name, "bytes": (folder / name).stat().st_size, "sha256": sha256}


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
    terms: dict[str, Any] = {key: build[key] for key in ("not_for_publishing", "imported", "extends") if key in build}
    return {
        "version": version,
        "licence": build.get("licence", DEFAULT_LICENCE),
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


def _content_hash(configs: dict[str, dict[str, dict[str, Any]]]) -> str:
    """SHA-256 over the names and hashes of all data files."""
    entries = [entry for splits in configs.values() for entry in splits.values() if entry["file"]]
    lines = "".join(f"{e['sha256']}  {e['file']}\n" for e in sorted(entries, key=lambda e: e["file"]))
    return hashlib.sha256(lines.encode("utf-8")).hexdigest()
