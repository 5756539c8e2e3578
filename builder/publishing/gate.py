"""What must hold before anything leaves: the audit, the licences, and no file with a secret, a machine path or a census record's key."""

from collections import defaultdict
from pathlib import Path
from typing import Any

from builder.audit.audit import failures
from builder.errors import InputError
from builder.private_text import (
    CENSUS_KINDS,
    PATH_KINDS,
    SECRET_KINDS,
    Kind,
    endpoint_kinds,
    known_secrets,
    machine_places,
    serial_kinds,
)
from builder.publishing.licences import DEFAULT_LICENCE, licence_defect
from builder.publishing.scan import Finding, scan_folder
from builder.recipe import flatten
from builder.schema import CONFIGS, features
from builder.tables import read_columns, read_serials

SHOWN = 8

WHAT_TO_DO = {
    "secret": "A key that others may have read is to be revoked where it was issued. If a variable's value is no secret, unset it for this "
    "command.",
    "path": "A path gets in with the text of a template, a judge, a question or an earlier file: take it out there.",
    "census": "What names a household or its area must not leave with the personas.",
    "endpoint": "The address of an endpoint gets in with a template, a judge or a reply: take it out there.",
    "file": "A file that cannot be read cannot be checked.",
    "row": "A row's text comes from a question or a model; a pair's name ends in its question's prompt_id. Leave that question out of the "
    "file of prompts.source, or have the model write otherwise (another template or temperature in the recipe), and build into a new "
    "folder. `persona responses export` and `import` take this build's replies there, so that only what is new is asked for.",
    "schema": "Every table must have the columns and types of this version: build and publish with the same one.",
}


def refuse_failed_audit(run: Path, checks: list[dict[str, Any]], for_hub: bool) -> list[str]:
    """The failed checks that a folder may have and the Hub may not: shortcuts outside the recipe's bands.

    Raises InputError for a failed proof (splits, mirrors, ids), which no target may have, and for any failure where `for_hub`.
    """
    proofs = [check for check in checks if check["proof"]]
    stopping = failures(checks if for_hub else proofs)
    if stopping:
        raise InputError(f"The build in {run} fails its audit and is not published: {'; '.join(stopping)}.")
    return failures(checks)


def refuse_licences(run: Path, build: dict[str, Any], for_hub: bool = True) -> list[str]:
    """What a folder may hold and the Hub may not: questions, or imported personas, whose licence does not allow passing them on with this
    dataset. At most one warning; [] where all licences allow it.

    Personas from a file that names no licence pass: such a file has no place for one. Raises InputError for any such row where `for_hub`.
    """
    dataset = build.get("licence", DEFAULT_LICENCE)
    prompts: dict[str, list[str]] = defaultdict(list)
    table = read_columns(run, "prompts", ["prompt_id", "licence"])
    for prompt, licence in zip(table["prompt_id"].to_pylist(), table["licence"].to_pylist(), strict=True):
        prompts[licence or "unknown"].append(prompt)
    refused = []
    for licence, ids in sorted(prompts.items()):
        reason = licence_defect(licence, dataset)
        if reason is not None:
            listed = ", ".join(ids[:2]) + (", ..." if len(ids) > 2 else "")
            refused.append(f"{len(ids)} question{'s' if len(ids) > 1 else ''} under {licence} ({listed}): {reason}")
    personas = build["stages"].get("personas", {}).get("licence")
    if personas is not None and (reason := licence_defect(personas, dataset)):
        refused.append(f"the personas under {personas}: {reason}")
    if not refused:
        return []
    mend = (
        "Where you know the licence, give `licence` in every row of the prompt file (such as CC-BY-4.0); leave the other rows out, and "
        "build again."
    )
    if for_hub:
        raise InputError(
            f"The build in {run} cannot be passed on under {dataset}: {'; '.join(refused)}. {mend} A folder for your own use is not "
            "stopped: --to FOLDER."
        )
    return [f"This version cannot go to the Hub or to others under {dataset} as it is: {'; '.join(refused)}. {mend}"]


def refuse_private(folder: Path, run: Path, build: dict[str, Any], for_hub: bool) -> None:
    """Raises InputError naming every file (and column) with a secret, a machine path, SERIALNO or PUMA, a private endpoint's address, or
    other columns than the schema's. A folder is looked through as the Hub's is: a folder is what people upload."""
    findings = [*schema_findings(folder), *scan_folder(folder, private_kinds(folder, run, build))]
    if not findings:
        return
    shown = "; ".join(map(str, findings[:SHOWN])) + (
        f"; and {len(findings) - SHOWN} more" if len(findings) > SHOWN else ""
    )
    groups = {f.group for f in findings} | ({"row"} if any(f.rows for f in findings) else set())
    what_to_do = " ".join(text for group, text in WHAT_TO_DO.items() if group in groups)
    nothing = "Nothing was sent to the Hub" if for_hub else "Nothing was written"
    count = f"{len(findings)} finding{'s' if len(findings) > 1 else ''}"
    raise InputError(f"{nothing}: the version would hold what must not leave ({count}): {shown}. {what_to_do}")


def private_kinds(folder: Path, run: Path, build: dict[str, Any]) -> list[Kind]:
    """What to look for in a version of this build."""
    recipe = build["recipe"]
    models = list(recipe["models"].values())
    places = {"run folder": run, "folder of the version": folder, "folder beside the version": folder.parent}
    # Sources, models, templates and judges as files. A relative path, or a word such as `packaged`, says nothing of the machine.
    for key, value in flatten(recipe).items():
        if isinstance(value, str) and Path(value).is_absolute():
            places[f"file of {key}"] = Path(value)
    return [
        *SECRET_KINDS,
        *known_secrets(model["api_key_env"] for model in models if model.get("api_key_env")),
        *machine_places(places),
        *PATH_KINDS,
        *serial_kinds(drawn_serials(run)),
        *CENSUS_KINDS,
        *endpoint_kinds(model["base_url"] for model in models if model.get("base_url")),
    ]


def drawn_serials(run: Path) -> list[str]:
    """The SERIALNO of the drawn records, [] where the personas are not of census records."""
    table = read_serials(run)
    return [] if table is None else [str(serial) for serial in table["SERIALNO"].unique().to_pylist() if serial]


def schema_findings(folder: Path) -> list[Finding]:
    """Tables under data/ whose columns are not those of builder.schema, to Arrow or, by their metadata, to `datasets`."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet
    from datasets import Features

    found = []
    for path in sorted((folder / "data").rglob("*.parquet")):
        name, config = path.relative_to(folder).as_posix(), path.parent.name
        if config not in CONFIGS:
            found.append(Finding(f"a table of no config ({', '.join(CONFIGS)})", "schema", name, ""))
            continue
        wanted = features(config)
        try:
            schema = parquet.read_schema(path)
        except (arrow.ArrowInvalid, OSError):
            continue  # the search says so of any file
        there, asked = {f.name: f.type for f in schema}, {f.name: f.type for f in wanted.arrow_schema}
        differing = sorted(column for column in there.keys() | asked.keys() if there.get(column) != asked.get(column))
        if differing or schema.names != wanted.arrow_schema.names:
            found.append(
                Finding("other columns than the schema's", "schema", name, ", ".join(differing[:4]) or "their order")
            )
        elif Features.from_arrow_schema(schema) != wanted:
            found.append(
                Finding(
                    "metadata that gives `datasets` other types than the schema", "schema", name, "metadata huggingface"
                )
            )
    return found
