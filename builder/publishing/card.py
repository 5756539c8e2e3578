"""What the card is made of: the statistics of a build for `dataset_card`, its figures, and its Croissant metadata."""

from collections import Counter
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.fidelity.bins import binned_attributes, binning
from builder.fidelity.compare import compare_build, identity_of
from builder.fidelity.figures import population_figure
from builder.fidelity.page import write_fidelity
from builder.files import read_json, write_bytes, write_json, write_text
from builder.llm.templates import TEMPLATE_FOLDER, load_template
from builder.schema import ATTRIBUTES, features
from builder.tables import read_columns, read_table

Row = dict[str, Any]
TOPIC_FIGURE = "figures/topics.png"  # the paper's figure 3
PERSONA_FIGURE = "figures/personas.png"  # its figure 2
POPULATION_FIGURE = "figures/population.png"  # its figures 2 and 13
CROISSANT = "croissant.json"
FIDELITY = "fidelity.json"
COMMONEST = 8  # values shown of an attribute whose words have no declared bins


def write_card(folder: Path, run: Path, published: Row, checks: list[Row], repository: str | None) -> list[str]:
    """README.md, figures/, croissant.json and, where the personas were compared with the census, fidelity.json in `folder`.

    Gives what the card could not say and why, in sentences. repository: `org/name`, for the snippets; None for a folder. For a repository
    the personas are compared with the census where RUN/fidelity.json does not hold it.
    """
    from dataset_card.croissant import croissant
    from dataset_card.figures import persona_figure, topic_figure
    from dataset_card.render import render_card

    fidelity, note = fidelity_of(run, published, compute=repository is not None)
    statistics = card_statistics(run, published, checks, repository, fidelity, note)
    write_bytes(folder / TOPIC_FIGURE, topic_figure(statistics["topics"]))
    if fidelity is None:
        write_bytes(folder / PERSONA_FIGURE, persona_figure(persona_histograms(run, published)))
    else:
        write_bytes(folder / POPULATION_FIGURE, population_figure(fidelity))
        write_json(folder / FIDELITY, published_fidelity(fidelity, published))
    write_text(folder / "README.md", render_card(statistics))
    write_json(folder / CROISSANT, croissant(statistics))
    return [note] if note else []


def card_statistics(
    run: Path, published: Row, checks: list[Row], repository: str | None, fidelity: Row | None, note: str | None
) -> Row:
    """Plain values for `dataset_card`. fidelity, note: as `fidelity_of` gives them."""
    personas, prompts = read_table(run, "personas"), read_table(run, "prompts")
    stages = published["stages"]
    census = stages["personas"]
    licences = Counter(p["licence"] or "unknown" for p in prompts)
    figure = {"personas": PERSONA_FIGURE} if fidelity is None else {"population": POPULATION_FIGURE}
    return {
        "repo_id": repository,
        "version": published["version"],
        "recipe_name": published["name"],
        "licence": published["licence"],
        "configs": published["configs"],
        "features": {config: features(config).to_dict() for config in published["configs"]},
        "build": {
            **published,
            "sources": {
                ("personas" if census.get("survey_year") is None else "census records"): census.get("source"),
                "census survey year": census.get("survey_year") and str(census["survey_year"]),
                "questions": stages["prompts"].get("source"),
                "question licences": ", ".join(f"{name} ({n})" for name, n in sorted(licences.items())),
            },
        },
        "audit": {check["name"]: check for check in checks},
        "flip_rate": stages.get("contrast", {}).get("flip", {}),
        "fidelity": fidelity,
        "fidelity_note": note,
        "personas": {
            "seen": sum(p["group"] == "seen" for p in personas),
            "unseen": sum(p["group"] == "unseen" for p in personas),
            "adults": sum(bool(p["is_adult"]) for p in personas),
        },
        "example_persona": example_persona(run),
        "longest_row": longest_row(run),
        "question_sources": dict(sorted(Counter(p["source"] for p in prompts).items())),
        "topics": dict(Counter(p["topic"] for p in prompts)),
        "templates": template_messages(published["templates"]),
        "figures": figure | {"topics": TOPIC_FIGURE},
    }


def example_persona(run: Path) -> str | None:
    """The first persona with a training row, for the snippets that read one persona."""
    import pyarrow.compute as compute

    rows = read_columns(run, "dpf", ["persona_id", "split"])
    return compute.min(rows["persona_id"].filter(compute.equal(rows["split"], "train"))).as_py()


def longest_row(run: Path) -> int:
    """Tokens of the longest training row: the prompt and the longer of its answers, by the tokenizer of the build."""
    import pyarrow.compute as compute

    rows = read_columns(run, "dpf", ["split", "prompt_tokens", "chosen_tokens", "rejected_tokens"])
    rows = rows.filter(compute.equal(rows["split"], "train"))
    answers = compute.max_element_wise(rows["chosen_tokens"], rows["rejected_tokens"])
    return compute.max(compute.add(rows["prompt_tokens"], answers)).as_py()


def template_messages(versions: dict[str, str]) -> dict[str, list[Row]]:
    """The packaged templates among those of a build. The text of a user's own file is for its author to pass on."""
    found = {}
    for name, version in versions.items():
        if (TEMPLATE_FOLDER / f"{name}.yaml").is_file():
            template = load_template(name)
            if template.version == version:
                found[name] = [dict(message) for message in template.messages]
    return found


# --- fidelity


def fidelity_of(run: Path, build: Row, compute: bool) -> tuple[Row | None, str | None]:
    """(the personas beside the census, None) as `persona census compare` measured it, or (None, why there is nothing).

    RUN/fidelity.json counts if it is of these very personas. compute: measure it where it does not, and leave it in RUN, as the
    command does.
    """
    path = run / "fidelity.json"
    result = read_json(path) if path.is_file() else None
    if result is not None and is_of_these_personas(result, run, build):
        return result, None
    if build["stages"]["personas"].get("survey_year") is None:
        return None, "The personas come from a file and were not drawn from the census."
    if compute:
        try:
            result = compare_build(run)
        except InputError:
            # Its own words name folders of this machine.
            return (
                None,
                "The census records that the personas were drawn from were gone or changed when this was published.",
            )
        write_fidelity(result, run)
        return result, None
    if result is not None:
        return None, "The comparison on file is of other personas; `persona census compare` measures it anew."
    return None, "`persona census compare` measures it and draws the census beside the personas (figure 13)."


def is_of_these_personas(result: Row, run: Path, build: Row) -> bool:
    """A comparison of two census tables, of an older version of this project, or of a build that was here before is not."""
    identity = identity_of(run, build)
    return result.get("kind") == "build" and identity.items() <= result["what"].items()


def published_fidelity(result: Row, published: Row) -> Row:
    """The comparison as it is published: under the build's name, not that of the folder that it lay in."""
    what = result["what"]
    return result | {"what": what | {"name": published["name"], "source": Path(what["source"]).name}}


def persona_histograms(run: Path, build: Row) -> dict[str, dict[str, int]]:
    """{attribute: {value: personas}} in the bins declared for the census, the commonest values where words are not the census's."""
    personas = read_table(run, "personas")
    year = build["stages"]["personas"].get("survey_year")
    compared = [name for name in ATTRIBUTES if name in binned_attributes()]
    return {name: histogram(name, personas, year) for name in compared}


def histogram(attribute: str, personas: list[Row], survey_year: int | None) -> dict[str, int]:
    if survey_year is not None:
        try:
            bins = binning(attribute, survey_year)
            places = Counter(bins.place((p[attribute], p["null_reasons"][attribute])) for p in personas)
            return {label: places[place] for place, label in enumerate(bins.labels) if places[place]}
        except InputError:
            pass  # built by another version, whose words have no bin
    values = Counter(str(p[attribute]) for p in personas if p[attribute] is not None)
    shown = dict(sorted(values.items(), key=lambda item: (-item[1], item[0]))[:COMMONEST])
    rest = values.total() - sum(shown.values())
    return shown | ({"other": rest} if rest else {})
