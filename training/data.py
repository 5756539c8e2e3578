"""A published dataset, checked: train, seen_test, heldout_test and support, apart from each other."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from accelerate import PartialState
from datasets import Dataset, DatasetDict, Value, concatenate_datasets, load_dataset
from huggingface_hub import metadata_load

from builder.errors import InputError
from builder.files import sha256_file
from builder.hub.client import HubAddress
from builder.schema import NEUTRAL_SYSTEM_TEXT, features
from training.conditioning import LabelledPair
from training.dataset_address import dataset_address, dataset_snapshot

TRAIN_SPLIT = "train"
TEST_SPLITS = ("seen_test", "heldout_test")
# The unseen personas' pairs on the questions of train: nothing is trained on them, but few-shot methods may look at them.
SUPPORT_SPLIT = "support"
MESSAGE_COLUMNS = ("prompt", "chosen", "rejected")
ID_COLUMNS = ("pair_id", "persona_id", "prompt_id", "persona_group", "wrong_persona_id")
BATCH = 1000  # rows read at a time: one at a time costs ten times as much, all together more memory than the rest


@dataclass(frozen=True)
class PreferenceData:
    """`splits`: the four splits, each with MESSAGE_COLUMNS, ID_COLUMNS, `question`, `pair_kind` and `mirror_pair_id` (null outside
    contrast).
    """

    splits: dict[str, Dataset]
    profiles: dict[str, str]
    identity: dict[str, Any]


def load_preference_data(source: str, configs: Sequence[str], revision: str | None = None) -> PreferenceData:
    """Read pair configs and profiles from a published folder or a Hub dataset (`dataset_address`); several configs become one, row
    after row, in the order given.

    Raises InputError if a config, split or column is missing, a text is of the wrong shape, the profiles do not match
    the prompts, or test rows are among the training rows.
    """
    address = dataset_address(source, revision)
    splits = {}
    with PartialState().main_process_first():  # one process fills the caches, the others read them
        folder = Path(source).expanduser() if address is None else dataset_snapshot(address, configs)
        for split in (TRAIN_SPLIT, *TEST_SPLITS, SUPPORT_SPLIT):
            parts = [_checked(_load(folder, source, config, split), config, split) for config in configs]
            splits[split] = concatenate_datasets(parts)
        personas = _load(folder, source, "personas", None)
    _check_columns(personas, ("persona_id", "profile"), "Config personas")
    profiles = {row["persona_id"]: row["profile"] for row in personas.select_columns(["persona_id", "profile"])}
    if len(splits[TRAIN_SPLIT]) == 0:
        raise InputError(
            f"The train split of {source} ({', '.join(configs)}) has no rows. Build a dataset with training pairs."
        )
    _check_texts(splits)
    _check_profiles(splits, profiles)
    _check_leaks(splits)
    return PreferenceData(splits, profiles, _identity(folder, address))


def labelled_pairs(data: PreferenceData, without: Collection[str] = ()) -> dict[str, list[LabelledPair]]:
    """Persona -> the pairs that may be looked at to learn its preferences: train of the seen ones, support of the unseen ones.

    without: prompt ids of which no pair is given.
    """
    pairs: dict[str, list[LabelledPair]] = {}
    columns = ("persona_id", "prompt_id", "question", "chosen", "rejected")
    for split in (TRAIN_SPLIT, SUPPORT_SPLIT):
        for persona, prompt, question, chosen, rejected in _values(data.splits[split], columns):
            if prompt not in without:
                pair = LabelledPair(prompt, question, chosen[0]["content"], rejected[0]["content"])
                pairs.setdefault(persona, []).append(pair)
    return pairs


def trainer_rows(rows: Dataset) -> Dataset:
    """Only what the trainer reads, and the ids. (A column named `margin`, say, would enter the reward loss.)"""
    return rows.select_columns([*MESSAGE_COLUMNS, "pair_id"])


def rows_hash(rows: Dataset) -> str:
    """SHA-256 over ids and texts in order: two runs with the same hash trained on the same rows."""
    digest = hashlib.sha256()
    columns = (*MESSAGE_COLUMNS, "pair_id")
    for values in _values(rows, columns):
        row = dict(zip(columns, values, strict=True))
        digest.update(json.dumps(row, sort_keys=True, ensure_ascii=False).encode("utf-8") + b"\n")
    return digest.hexdigest()


def _load(folder: Path, source: str, config: str, split: str | None) -> Dataset:
    """One split of one config, or all its splits, row after row, where `split` is None."""
    try:
        loaded = load_dataset(str(folder), config, split=split)
    except Exception as error:  # the loader raises many kinds; each means that this config cannot be read
        if "corresponds to no data" in str(error) and split is not None:
            # How the loader reports a split without rows.
            return Dataset.from_dict({name: [] for name in features(config)}, features=features(config))
        raise InputError(
            f"Config {config!r}{f', split {split!r},' if split else ''} of dataset {source} cannot be loaded: "
            f"{type(error).__name__}: {str(error).splitlines()[0]}. Give the folder that `persona publish` wrote (it "
            "holds README.md and build.json) or the address of a published dataset, hub:org/name@v1.0.0."
        ) from error
    return concatenate_datasets(list(loaded.values())) if isinstance(loaded, DatasetDict) else loaded


def _checked(rows: Dataset, config: str, split: str) -> Dataset:
    """One split of one config, cut to the columns that are used, plus `pair_kind` and `mirror_pair_id`."""
    _check_columns(rows, (*MESSAGE_COLUMNS, *ID_COLUMNS), f"Config {config}, split {split}")
    for name in MESSAGE_COLUMNS:
        if isinstance(rows.features[name], Value):
            raise InputError(
                f"Config {config}, split {split}: column {name} holds text, but prompt, chosen and rejected must all "
                "be lists of "
                "{role, content} messages (a mix of text and messages crashes both trainers). Rewrite the column as "
                "messages."
            )
    twice = [pair for pair, count in Counter(rows["pair_id"][:]).items() if count > 1]
    if twice:
        raise InputError(
            f"Config {config}, split {split}: {len(twice)} pair ids are given to several rows (first: {min(twice)}), so that these would "
            "count more than once. Publish the dataset again."
        )
    questions = [prompt[-1]["content"] if prompt else None for (prompt,) in _values(rows, ("prompt",))]
    # With their type from the start: to cast a column afterwards writes the whole table anew.
    text = Value("string")
    kind = rows.add_column("pair_kind", [config] * len(rows), feature=text).add_column(
        "question", questions, feature=text
    )
    if "mirror_pair_id" not in kind.column_names:
        kind = kind.add_column("mirror_pair_id", [None] * len(rows), feature=text)
    elif kind.features["mirror_pair_id"] != text:
        kind = kind.cast_column("mirror_pair_id", text)
    return kind.select_columns([*MESSAGE_COLUMNS, *ID_COLUMNS, "question", "pair_kind", "mirror_pair_id"])


def _check_columns(rows: Dataset, needed: Sequence[str], where: str) -> None:
    missing = [name for name in needed if name not in rows.column_names]
    if missing:
        raise InputError(
            f"{where} lacks the column(s) {', '.join(missing)}; it has {', '.join(rows.column_names)}. Use a dataset with the published "
            "columns."
        )


def _check_texts(splits: dict[str, Dataset]) -> None:
    """Chosen and rejected are one message of the assistant each, which may be blank: those rows are dropped and counted later."""
    for split, rows in splits.items():
        for pair, *answers in _values(rows, ("pair_id", "chosen", "rejected")):
            for side, answer in zip(("chosen", "rejected"), answers, strict=True):
                if [message["role"] for message in answer] != ["assistant"] or answer[0]["content"] is None:
                    raise InputError(
                        f"{split}, row {pair}: {side} is {answer!r}, not one message of the assistant with a text. Publish the "
                        "dataset again."
                    )


def _check_profiles(splits: dict[str, Dataset], profiles: dict[str, str]) -> None:
    """Each prompt is [system: the persona's published profile, user: question]."""
    for split, rows in splits.items():
        for pair, persona, prompt in _values(rows, ("pair_id", "persona_id", "prompt")):
            roles = [message["role"] for message in prompt]
            if roles != ["system", "user"] or prompt[1]["content"] is None:
                raise InputError(
                    f"{split}, row {pair}: the prompt's roles are {roles}, not [system, user] with a text each, so that the "
                    "persona's place is not known. Publish the dataset again."
                )
            system = prompt[0]["content"]
            if system != profiles.get(persona):
                shown = "the neutral text" if system == NEUTRAL_SYSTEM_TEXT else repr(system[:60])
                raise InputError(
                    f"{split}, row {pair}: the system text is {shown}, not the profile of {persona} in the personas config. A model "
                    "trained on it would be evaluated with other profiles. Publish the dataset again."
                )


def _check_leaks(splits: dict[str, Dataset]) -> None:
    train = splits[TRAIN_SPLIT]
    ids = {split: list(_values(rows, ("pair_id", "persona_id", "prompt_id"))) for split, rows in splits.items()}
    unseen = [
        pair for (pair, _, _), group in zip(ids[TRAIN_SPLIT], train["persona_group"][:], strict=True) if group != "seen"
    ]
    if unseen:
        raise InputError(
            f"{len(unseen)} train rows belong to unseen personas (first: {unseen[0]}). Training on them would make the unseen figures "
            "meaningless; they belong in the split `support`."
        )
    # What may be learned from: train, and by few-shot methods support.
    for split in (TRAIN_SPLIT, SUPPORT_SPLIT):
        pairs = {pair for pair, _, _ in ids[split]}
        asked = {(persona, prompt) for _, persona, prompt in ids[split]}
        for test_split in TEST_SPLITS:
            shared = pairs.intersection(pair for pair, _, _ in ids[test_split])
            if shared:
                raise InputError(
                    f"{len(shared)} pairs are in {split} and in {test_split} (first: {min(shared)}). Publish the dataset again."
                )
            answered = asked.intersection((persona, prompt) for _, persona, prompt in ids[test_split])
            if answered:
                raise InputError(
                    f"{len(answered)} personas are asked the same question in {split} and in {test_split} (first: {min(answered)}). "
                    "Publish the dataset again."
                )
        shared = {prompt for _, prompt in asked}.intersection(prompt for _, _, prompt in ids["heldout_test"])
        if shared:
            raise InputError(
                f"{len(shared)} prompts of heldout_test are also in {split} (first: {min(shared)}), so they are not held out. Publish the "
                "dataset again."
            )


def _values(rows: Dataset, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """The values of these columns, row after row."""
    for batch in rows.select_columns(list(columns)).iter(BATCH):
        yield from zip(*(batch[column] for column in columns), strict=True)


def _identity(folder: Path, address: HubAddress | None) -> dict[str, Any]:
    """What the checkpoint says about its data: where it is from, at which commit, and the hash of its tables."""
    identity: dict[str, Any] = {"dataset": folder.resolve().name, "tag": None, "revision": None}
    if address is not None:
        # A snapshot's folder is named by its commit.
        identity = {"dataset": address.repository, "tag": address.revision, "revision": folder.name}
    build_record = folder / "build.json"
    build: dict[str, Any] = {}
    if build_record.is_file():
        identity["build_sha256"] = sha256_file(build_record)
        build = json.loads(build_record.read_text(encoding="utf-8"))
    identity |= {key: build.get(key) for key in ("version", "fingerprint", "content_sha256")}
    identity |= {"licence": build.get("licence") or _licence_of_card(folder), "origin": _origin(build)}
    if "not_for_publishing" in build:
        identity["not_for_publishing"] = build["not_for_publishing"]
    return identity


def _licence_of_card(folder: Path) -> str | None:
    """Older versions say it only there."""
    try:
        found = (metadata_load(folder / "README.md") or {}).get("license")
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return ", ".join(map(str, found)) if isinstance(found, list) else found


def _origin(build: dict[str, Any]) -> dict[str, Any]:
    """What build.json says of where personas and answers come from; keys that it lacks are null."""
    recipe, personas = build.get("recipe", {}), build.get("stages", {}).get("personas", {})
    imported = build.get("imported", {}).get("source")
    return {
        "known": bool(personas),
        "personas": personas.get("source") or imported,
        "survey_year": personas.get("survey_year"),
        "packaged_records": recipe.get("census", {}).get("source") == "packaged",
        "enrichment": recipe.get("personas", {}).get("enrichment"),
        "author": build.get("models", {}).get("reviser", {}).get("model"),
        "judge": build.get("judge", {}).get("label"),
    }
