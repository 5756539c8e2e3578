"""Inputs on which a parser once broke, as small as they got: (target, files). Each must be read, or be refused with an InputError."""

import pyarrow as pa

from tests.fuzz.mutations import Files
from tests.fuzz.pums import parquet_bytes

SURROGATE = b'{"profile": "Age: 41", "sex": "\\ud800"}\n'
DIGITS = b"9" * 400

CASES: tuple[tuple[str, Files], ...] = (
    # YAML that PyYAML reads with errors of other kinds, or reads into what is no settings file.
    ("recipes", {"recipe.yaml": b"name: a\nseed: 1\ncensus: {survey_year: 2024-13-45}\n"}),
    ("recipes", {"recipe.yaml": b"name: !!int x\nseed: 1\n"}),
    ("recipes", {"recipe.yaml": b"name: !!int ''\nseed: 1\n"}),
    ("recipes", {"recipe.yaml": b"name: !!bool x\nseed: 1\n"}),
    ("recipes", {"recipe.yaml": b"name: !!timestamp x\nseed: 1\n"}),
    ("recipes", {"recipe.yaml": b"2024-01-01: a\n"}),
    ("recipes", {"recipe.yaml": b"a: " + b"[" * 600}),
    ("recipes", {"recipe.yaml": b"a: &a\n  b: *a\n"}),
    (
        "recipes",
        {
            "recipe.yaml": b"a: &a {x: 1}\n"
            + b"".join(b"%c: &%c\n  <<: [%s]\n" % (n, n, b", ".join([b"*%c" % (n - 1)] * 9)) for n in b"bcdefghij")
        },
    ),
    ("recipes", {"recipe.yaml": b"a: &a [1, 1, 1]\nb: &b [*a, *a, *a]\nname: " + DIGITS * 13 + b"\n"}),
    ("recipes", {"recipe.yaml": b"seed: 0x" + b"f" * 5000 + b"\n"}),
    ("recipes", {"recipe.yaml": b'name: "\\ud800"\nseed: 1\n'}),
    ("recipes", {"recipe.yaml": b"name: http://[\nseed: 1\n"}),
    ("recipes", {"recipe.yaml": b"name: a\nseed: 1\nprompts: {controversy_threshold: 1" + b"0" * 400 + b"}\n"}),
    ("recipes", {"overrides": b"name=2024-13-45"}),
    ("recipes", {"overrides": b"personas.count=" + b"[" * 600}),
    ("recipes", {"training.yaml": b"learning_rate: !!float x\n"}),
    ("recipes", {"judge.yaml": b"kind: pairwise\ntemplate: " + b"x" * 300 + b"\n"}),
    ("recipes", {"judge.yaml": b"kind: likelihood\ntemperature: 1" + b"0" * 400 + b"\n"}),
    ("recipes", {"sweep.yaml": b"name: a\nmethods: [{id: a, name: a, method: dpo, recipe: " + b"x" * 300 + b"}]\n"}),
    # Parquet whose ids are no text, and whose own notes are not UTF-8.
    ("pums", {"people.parquet": parquet_bytes(pa.table({"SERIALNO": [[1]]}))}),
    ("pums", {"people.parquet": parquet_bytes(pa.table({"AGEP": [1]}).replace_schema_metadata({b"\xff": b"x"}))}),
    # What a judge's scored words were kept as.
    ("verdicts", {"judge-roleplay_choice": b'{"A": 1' + b"0" * 400 + b"}", "backward": b"{}"}),
    ("verdicts", {"judge-roleplay_choice": b'{"A": ' + b"[" * 100_000, "backward": b"{}"}),
    # Other people's personas.
    ("persona_text", {"personas.csv": b"profile,age\nAge: 41,41,9\n"}),
    ("persona_text", {"personas.jsonl": b'{"profile": "Age: 41", "weight": 1' + b"0" * 400 + b"}\n"}),
    ("persona_text", {"personas.jsonl": b'{"profile": "Age: 41", "weight": 1e300}\n'}),
    ("persona_text", {"personas.jsonl": b'{"profile": "Age: 41", "extras": {"core_values": 5}}\n'}),
    ("persona_text", {"personas.jsonl": b'{"age": 41, "income": "' + DIGITS + b'"}\n'}),
    ("persona_text", {"personas.jsonl": b'{"age": 41, "income": "99999999999999999999"}\n'}),
    ("persona_text", {"personas.jsonl": SURROGATE}),
    ("persona_text", {"personas.jsonl": b'{"profile": "Age: 41", "\\ud800": "x"}\n'}),
    ("persona_text", {"profile": b"Age: 41\nIncome: " + DIGITS}),
    # No errors, but minutes of work for one line.
    ("persona_text", {"profile": b"Age: 41\nBig five scores: Openness: Low" + b"0" * 100_000}),
    ("persona_text", {"profile": b"Age: 41\nIncome: -" + b" " * 100_000 + b"x"}),
)
