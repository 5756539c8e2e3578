"""A published version that a build extends: more personas or more prompts, every id kept, nothing old rewritten or asked for again.

The earlier version's rows are taken over as they are. New personas go on with the same weighted draw; new prompts are those that are not
near-duplicates of the old; pairs are made for new personas, and for old ones only where the recipe asks for more pairs a persona.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.hub import version_folder
from builder.ownership import judge_templates, load_judges
from builder.pairs.assignment import Assigned
from builder.pairs.feedback import Written
from builder.personas.personas import EarlierPersonas
from builder.publishing.version_files import read_version, refuse_damaged
from builder.randomness import rng_for
from builder.recipe import ROLES, BuildRecipe, ModelRecipe, as_dict, deciding_keys, seen_count
from builder.schema import SPLITS
from builder.tables import ROWS_AT_A_TIME, table_schema

Row = dict[str, Any]
PERSONAS_AT_A_TIME = 40
# What an extension is for, or what says nothing of a row. Every other key must be as it was: one table would hold rows of two kinds,
# and its card would describe the new ones only.
MAY_DIFFER = (
    *(
        "name",
        "personas.count",
        "personas.seen",
        "pairs.train",
        "pairs.seen_test",
        "pairs.heldout_test",
        "pairs.judge_check",
    ),
    *(
        "prompts.count",
        "prompts.heldout",
        "prompts.text_column",
        "prompts.min_words",
        "prompts.require_question_mark",
        "prompts.topics",
    ),
)
# Compared in their own way, or (audit) about what is told of the rows.
COMPARED_APART = ("configs", "models.", "audit.")


@dataclass(frozen=True)
class EarlierVersion:
    """A published folder. `build`: its build.json. `address`: where the user says it is; its folder may be one of the Hub's cache."""

    folder: Path
    build: dict[str, Any]
    address: str = ""

    @functools.cached_property
    def personas(self) -> list[Row]:
        return self._rows("personas")

    @functools.cached_property
    def prompts(self) -> list[Row]:
        return self._rows("prompts")

    def earlier_personas(self) -> EarlierPersonas:
        return EarlierPersonas(self.personas, self.build["stages"]["personas"]["examined"])

    @functools.cached_property
    def assigned(self) -> list[Assigned]:
        """Who was asked what, as far as the pair was published; an unseen persona's `support` is its train part."""
        return [
            Assigned(row["persona_id"], row["prompt_id"], "train" if row["split"] == "support" else row["split"])
            for row in self.columns("dpf", ("persona_id", "prompt_id")).to_pylist()
        ]

    def base_answers(self) -> dict[str, Written]:
        """The shared base answers by prompt id."""
        if self.build["recipe"]["pairs"]["base_answer"] != "shared":
            return {}
        found: dict[str, Written] = {}
        for table in self._splits("dpf", ("prompt_id", "rejected")):
            for batch in table.to_batches(ROWS_AT_A_TIME):
                for row in batch.to_pylist():
                    found.setdefault(row["prompt_id"], Written(row["rejected"][0]["content"]))
        return found

    def columns(self, config: str, columns: Sequence[str]) -> Any:
        """These columns and `split` of all published rows of a pair config, as one Arrow table in no particular order."""
        import pyarrow as arrow

        names = [name for name in table_schema(config).names if name in (*columns, "split")]
        schema = arrow.schema([table_schema(config).field(name) for name in names])
        return arrow.concat_tables([schema.empty_table(), *self._splits(config, columns)])

    def rows_of(self, config: str, personas: Sequence[str]) -> Any:
        """The published rows of these personas as an Arrow table with `split`, sorted by persona and pair."""
        import pyarrow as arrow

        found = self._splits(config, None, [("persona_id", "in", list(personas))])
        whole = arrow.concat_tables([table_schema(config).empty_table(), *found])
        return whole.sort_by([("persona_id", "ascending"), ("pair_id", "ascending")])

    def judgements(self) -> Any:
        """The published judgements as an Arrow table, or None."""
        import pyarrow.parquet as parquet

        entry = self.build["configs"].get("judgements", {}).get("train", {})
        return parquet.read_table(self.folder / entry["file"]) if entry.get("file") else None

    def _rows(self, config: str) -> list[Row]:
        import pyarrow.parquet as parquet

        return parquet.read_table(self.folder / self.build["configs"][config]["train"]["file"]).to_pylist()

    def _splits(self, config: str, columns: Sequence[str] | None, filters: Any = None) -> Iterator[Any]:
        """Per split the rows with `split` in front."""
        import pyarrow as arrow
        import pyarrow.parquet as parquet

        names = [name for name in table_schema(config).names if columns is None or name in columns]
        for split in SPLITS:
            file = self.build["configs"].get(config, {}).get(split, {}).get("file")
            if file:
                wanted = [name for name in names if name != "split"]
                table = parquet.read_table(self.folder / file, columns=wanted, filters=filters).select(wanted)
                yield table.add_column(0, "split", arrow.array([split] * table.num_rows, arrow.string()))


def read_earlier(source: str, recipe: BuildRecipe, new: dict[str, Any]) -> EarlierVersion:
    """`source`: a published folder, or `hub:org/name@version`. new: `new_build(recipe)`, with the hashes of its inputs and templates.

    Raises InputError for what cannot be extended by this recipe, and for data files that are not as they were published: their rows are
    taken over unseen.
    """
    version = read_version(version_folder(source))
    earlier = EarlierVersion(version.folder, version.build, source)
    refuse_damaged(version)
    refuse_what_does_not_extend(earlier, recipe, new)
    return earlier


def refuse_what_does_not_extend(earlier: EarlierVersion, recipe: BuildRecipe, new: dict[str, Any]) -> None:
    name = earlier.address
    if recipe.personas.source != "census":
        raise InputError(
            "--extend goes on with a draw from the census, and personas.source is a file. Build a new dataset instead."
        )
    if "examined" not in earlier.build["stages"]["personas"]:
        raise InputError(
            f"The personas of {name} come from a file ({earlier.build['stages']['personas']['source']}) and were not drawn from the "
            "census, so there is no draw to go on with. Build a new dataset without --extend."
        )
    differing = differences(earlier, recipe, new)
    if differing:
        shown = "; ".join(f"{key} ({told(old)} there, {told(new)} now)" for key, (old, new) in differing.items())
        raise InputError(
            f"{name} was made otherwise: {shown}. An extension goes on with the same draw and the same way of writing and judging, so "
            "that one table holds one kind of row. Use what the earlier version used, or build a new dataset without --extend."
        )
    refuse_other_configs(name, earlier.build["recipe"]["configs"], recipe.configs)
    refuse_smaller_sizes(earlier, recipe)


def differences(earlier: EarlierVersion, recipe: BuildRecipe, new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """{what: (in the earlier version, now)} for everything that decides rows and is not what an extension is for."""
    published = earlier.build
    # A key that the earlier version's recipe does not know yet had the effect of its default.
    old = deciding_keys(as_dict(BuildRecipe(recipe.name, recipe.seed))) | deciding_keys(published["recipe"])
    keys = deciding_keys(new["recipe"])
    before: dict[str, Any] = {k: v for k, v in old.items() if k not in MAY_DIFFER and not k.startswith(COMPARED_APART)}
    now: dict[str, Any] = {key: keys.get(key) for key in before}

    for role in ROLES:
        before[f"models.{role}"] = named_model(**published["models"][role])
        now[f"models.{role}"] = model_now(getattr(recipe.models, role), published["models"][role])
    # Template and judge files may have the same name and another content.
    judges = load_judges(recipe)
    before["judges"], now["judges"] = published["judges"], [judge.label for judge in judges]
    templates = new["templates"] | judge_templates(judges)
    for template in templates.keys() & published["templates"].keys():
        before[f"template {template}"] = published["templates"][template]
        now[f"template {template}"] = templates[template]
    for what, key in (("the census file", "census.source"), ("the household file", "census.household_source")):
        before[what], now[what] = published["inputs"].get(key), new["inputs"][key]
    if recipe.census.source == "packaged" and before["the census file"] is None:
        before["the packaged census records"] = published["stages"]["personas"]["sha256"]
        now["the packaged census records"] = new["packaged"]["census records"]
    return {key: (before[key], now[key]) for key in sorted(before) if before[key] != now[key]}


def named_model(provider: str, model: str, revision: str | None) -> str:
    return provider if provider == "none" else f"{provider} {model}" + (f" at revision {revision}" if revision else "")


def told(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def model_now(model: ModelRecipe, published: dict[str, Any]) -> str:
    """The recipe's model by what is published of it: provider, declared id, revision. For weights in this process that is their hash."""
    revision = model.revision
    if model.provider == published["provider"] == "transformers" and published["revision"] != revision:
        from builder.llm.weights import find_model

        revision = find_model(model.model, model.path, model.revision).content_hash
    return named_model(model.provider, model.model, revision)


def refuse_other_configs(name: str, old: Sequence[str], new: Sequence[str]) -> None:
    for config in old:
        if config not in new:
            raise InputError(f"{name} has the config {config}, which the recipe leaves out. Add it to configs.")
    for config in new:
        if config not in old:
            raise InputError(
                f"{name} has no config {config}, so it would hold rows of the new personas only. Leave it out of configs, or build a new "
                "version with it, of all personas, without --extend."
            )


def refuse_smaller_sizes(earlier: EarlierVersion, recipe: BuildRecipe) -> None:
    seen = sum(row["group"] == "seen" for row in earlier.personas)
    wanted_seen = seen_count(recipe.personas)
    for what, have, wanted in (
        ("personas.count", len(earlier.personas), recipe.personas.count),
        ("personas.seen", seen, wanted_seen),
        ("personas.count less personas.seen", len(earlier.personas) - seen, recipe.personas.count - wanted_seen),
        ("prompts.count", len(earlier.prompts), recipe.prompts.count),
    ):
        if wanted < have:
            raise InputError(
                f"{what} is {wanted}, but {earlier.address} has {have}. An extension keeps all of them: raise {what}."
            )


def with_earlier(earlier: EarlierVersion | None, config: str, tables: Iterable[Any]) -> Iterator[Any]:
    """`tables`, which come in the order of personas, and between and among them the earlier version's rows."""
    import pyarrow as arrow

    if earlier is None:
        yield from tables
        return
    waiting = sorted(row["persona_id"] for row in earlier.personas)
    for table in tables:
        if not table.num_rows:
            continue
        first, last = table["persona_id"][0].as_py(), table["persona_id"][-1].as_py()
        before = [persona for persona in waiting if persona < first]
        among = [persona for persona in waiting if first <= persona <= last]
        waiting = waiting[len(before) + len(among) :]
        yield from earlier_blocks(earlier, config, before)
        both = arrow.concat_tables([earlier.rows_of(config, among), table]) if among else table
        yield both.sort_by([("persona_id", "ascending"), ("pair_id", "ascending")]) if among else both
    yield from earlier_blocks(earlier, config, waiting)


def earlier_blocks(earlier: EarlierVersion, config: str, personas: Sequence[str]) -> Iterator[Any]:
    for start in range(0, len(personas), PERSONAS_AT_A_TIME):
        yield earlier.rows_of(config, personas[start : start + PERSONAS_AT_A_TIME])


def assign_more(
    earlier: EarlierVersion, recipe: BuildRecipe, prompts: Sequence[Row], fresh: list[Assigned]
) -> list[Assigned]:
    """The pairs to make: all of `fresh` that belong to new personas, and for old ones as many as the recipe asks beyond what it asked
    before, of prompts that the persona has not been asked."""
    old_sizes, new_sizes = earlier.build["recipe"]["pairs"], recipe.pairs
    more = {part: getattr(new_sizes, part) - old_sizes[part] for part in ("train", "seen_test", "heldout_test")}
    if min(more.values()) < 0:
        part = min(more, key=lambda name: more[name])
        raise InputError(
            f"pairs.{part} is {getattr(new_sizes, part)}, but {earlier.address} has {old_sizes[part]}. An extension keeps "
            "every pair: do not lower it."
        )
    old = {row["persona_id"] for row in earlier.personas}
    wanted = [a for a in fresh if a.persona_id not in old]
    asked: dict[str, set[str]] = {}
    for a in earlier.assigned:
        asked.setdefault(a.persona_id, set()).add(a.prompt_id)
    pools = {name: sorted(p["prompt_id"] for p in prompts if p["pool"] == name) for name in ("train", "heldout")}
    for persona in sorted(old) if max(more.values()) else ():
        rng = rng_for(recipe.seed, "assignment of more", f"{persona}/{len(asked.get(persona, ()))}")
        for pool, parts in (("train", ("train", "seen_test")), ("heldout", ("heldout_test",))):
            left = [q for q in pools[pool] if q not in asked.get(persona, ())]
            order = iter(rng.permutation(len(left)).tolist())
            wanted += [Assigned(persona, left[i], part) for part in parts for i in islice(order, more[part])]
    return sorted(wanted, key=lambda a: (a.persona_id, a.part, a.prompt_id))
