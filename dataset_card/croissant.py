"""Croissant metadata of a version: the same statistics as the card, as JSON-LD that other tools read without `datasets`.

Croissant 1.1 (http://mlcommons.org/croissant/1.1) with the responsible-AI properties (http://mlcommons.org/croissant/RAI/1.0).
A pure function. It names no date: a version has none that would be the same whoever publishes it.
"""

from collections.abc import Mapping
from typing import Any

from dataset_card import texts
from dataset_card.columns import COLUMNS, CONFIG_MEANINGS, SPLIT_MEANINGS, SUBCOLUMNS
from dataset_card.configs import PAIR_CONFIGS, with_rows
from dataset_card.front_matter import TAGS
from dataset_card.models import models_used
from dataset_card.origin import AUTHORS, CENSUS, FILE, persona_origin
from dataset_card.snippets import tag

CONFORMS_TO = ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
# The registered name, and the older one that mlcroissant (1.1) reads by.
PARQUET = ["application/vnd.apache.parquet", "application/x-parquet"]
TYPES = {"string": "sc:Text", "bool": "sc:Boolean", "int64": "sc:Integer", "float64": "sc:Float"}
LICENCES = {
    "cc0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "cc-by-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "cc-by-sa-4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
    "cc-by-nc-4.0": "https://creativecommons.org/licenses/by-nc/4.0/",
    "cc-by-nc-sa-4.0": "https://creativecommons.org/licenses/by-nc-sa/4.0/",
    "apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
    "mit": "https://opensource.org/license/mit",
}
WRITTEN = (
    "base answers, critiques and revisions are written by language models; preferences are what these calls assume, checked by "
    "a judge."
)
COLLECTED = {
    CENSUS: f"Personas are drawn from records in the coding of the American Community Survey; {WRITTEN}",
    FILE: f"Personas are read from a file; {WRITTEN}",
    AUTHORS: "Pairs, with their personas and questions, are taken over from the release of the paper's authors.",
}
# The context that the standard gives for version 1.1.
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def croissant(statistics: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata as a JSON value. Besides what the card needs, `statistics` holds `features` ({config: `datasets.Features.to_dict()`})
    and each split's entry in `configs` its `bytes` and `sha256`.

    One record set for each split of a config, not for each config: a record's split stands nowhere but in its file, so it is a field of
    constant value. Of one record set over several files no reader could tell it, as a download does not keep the file's name.
    """
    configs = with_rows(statistics["configs"])
    licence = statistics.get("licence", "cc-by-4.0")
    build = statistics.get("build") or {}
    origin = persona_origin(build)
    page = texts.page(statistics)
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": f"PERSONA testbed: {statistics['recipe_name']}",
        "description": texts.plain(f"{texts.WHAT_IT_IS} {texts.nobody_speaks(origin)}"),
        "version": statistics["version"],
        "license": LICENCES.get(licence.lower(), licence),
        **({"url": page} if page else {}),
        "citeAs": texts.citation(statistics),
        "creator": {"@type": "sc:Organization", "name": texts.AUTHORS},
        "inLanguage": "en",
        "keywords": list(TAGS),
        "rai:dataCollection": COLLECTED[origin],
        "rai:dataCollectionType": ["Synthetic data generation"],
        "rai:dataAnnotationProtocol": [
            "The chosen text is the base answer revised after a critique on the persona's behalf; in contrast, one persona's revision "
            "against another's, both ways."
        ],
        **_tools(build),
        "rai:dataBiases": list(map(texts.plain, texts.biases())),
        "rai:dataLimitations": [*map(texts.plain, texts.limitations(origin)), f"Not for {texts.NOT_FOR}."],
        "rai:personalSensitiveInformation": list(texts.sensitive(origin)),
        "distribution": [_file(entry, statistics) for splits in configs.values() for entry in splits.values()],
        "recordSet": [
            _splits(configs),
            *(
                _record_set(config, split, entry, statistics["features"][config])
                for config, splits in configs.items()
                for split, entry in splits.items()
            ),
        ],
    }


def _tools(build: Mapping[str, Any]) -> dict[str, Any]:
    named = [f"{role}: {model['model']}" for role, model in models_used(build).items()]
    return {"rai:machineAnnotationTools": named} if named else {}


def _file(entry: Mapping[str, Any], statistics: Mapping[str, Any]) -> dict[str, Any]:
    repository = statistics.get("repo_id")
    place = f"{texts.HUB}/{repository}/resolve/{tag(statistics['version'])}/" if repository else ""
    return {
        "@type": "cr:FileObject",
        "@id": entry["file"],
        "name": entry["file"].rpartition("/")[2],
        "contentUrl": f"{place}{entry['file']}",
        "contentSize": f"{entry['bytes']} B",
        "encodingFormat": PARQUET,
        "sha256": entry["sha256"],
    }


def _splits(configs: Mapping[str, Any]) -> dict[str, Any]:
    """The enumeration of the splits; `train` also of the tables without a division, where it means all rows."""
    names = list(dict.fromkeys(split for splits in configs.values() for split in splits))
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "description": "The splits and what is in them.",
        "dataType": "sc:Enumeration",
        "key": {"@id": "splits/name"},
        "field": [
            {"@type": "cr:Field", "@id": "splits/name", "name": "name", "dataType": "sc:Text"},
            {"@type": "cr:Field", "@id": "splits/meaning", "name": "meaning", "dataType": "sc:Text"},
        ],
        "data": [{"splits/name": name, "splits/meaning": SPLIT_MEANINGS[name]} for name in names],
    }


def _record_set(config: str, split: str, entry: Mapping[str, Any], features: Mapping[str, Any]) -> dict[str, Any]:
    own = f"{config}/{split}"
    what = f"Split {split}: {SPLIT_MEANINGS[split]}. One record: " if config in PAIR_CONFIGS else "One record: "
    fields = [_field(own, entry["file"], config, column, feature) for column, feature in features.items()]
    key = next(iter(features))
    return {
        "@type": "cr:RecordSet",
        "@id": own,
        "name": own,
        "description": f"{what}{CONFIG_MEANINGS[config]}.",
        # A judge may be asked of one pair several times.
        **({"key": {"@id": f"{own}/{key}"}} if config != "judgements" else {}),
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{own}/split",
                "name": "split",
                "description": "The split of this record set, of the record set `splits`.",
                "dataType": ["sc:Text", "cr:Split"],
                "value": split,
            },
            *fields,
        ],
    }


def _field(own: str, file: str, config: str, column: str, feature: Any) -> dict[str, Any]:
    return _described(f"{own}/{column}", column, COLUMNS[config][column], feature, file, column, path=())


def _described(
    identity: str, name: str, description: str, feature: Any, file: str, column: str, path: tuple[str, ...]
) -> dict[str, Any]:
    """feature: `{"dtype": ..., "_type": "Value"}`, `{"feature": ..., "_type": "List"}`, or a mapping of names to such for a struct.

    path: from the column to this field; parts of a struct are read from its value by JSON path.
    """
    field: dict[str, Any] = {"@type": "cr:Field", "@id": identity, "name": name, "description": description}
    if feature.get("_type") == "List":
        field |= {"isArray": True, "arrayShape": "-1"}
        feature = feature["feature"]
    if feature.get("_type") == "Value":
        source: dict[str, Any] = {"fileObject": {"@id": file}, "extract": {"column": column}}
        if path:
            source["transform"] = {"jsonPath": ".".join(("$", *path))}
        return field | {"dataType": TYPES[feature["dtype"]], "source": source}
    parts = [
        _described(
            f"{identity}/{part}",
            part,
            SUBCOLUMNS.get(part, f"Of the attribute `{part}`."),
            inner,
            file,
            column,
            (*path, part),
        )
        for part, inner in feature.items()
    ]
    return field | {"subField": parts}
