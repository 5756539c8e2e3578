"""Fuzzing of the parsers: whatever a file, a reply or a profile holds, it is read or refused with an InputError.

    python -m tests.fuzz pums --minutes 10 [--seed 0] [--out runs/fuzz]

Targets: pums, recipes, verdicts, persona_text, a module each, with `inputs()`, which makes valid files wrong, and `check(folder)`, which
reads them and asserts what must hold of what was read. `make test` runs a small number of inputs of each and every entry of regressions.py.

The engine is Hypothesis: already a development dependency, on every Python that we support, and it minimises what it finds. Atheris
(coverage-guided) has wheels for some Pythons on Linux alone and sees nothing of Arrow's C++, where the bytes of a census file end up; what
takes its place here is that all inputs begin valid, so that most get past the first check.
"""
