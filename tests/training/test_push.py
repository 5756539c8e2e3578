"""Finished models go to a Hub on 127.0.0.1 through the real client, and come back as they were."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import snapshot_download
from trl import RewardConfig

from builder.errors import InputError
from builder.schema import preference_messages
from tests.hub_server import READ_TOKEN, WRITE_TOKEN, HubServer, environment
from tests.published_folder import write_published_folder
from training import launch
from training.arguments import parse_arguments
from training.data import load_preference_data
from training.push import model_repository, push, refuse_before_training
from training.scoring import load_dpo_model, load_reward_model, score_implicit_rewards, score_rewards

REPOSITORY = Path(__file__).parents[2]
NAME = "org/nurse-reward"
ITEMS = [(preference_messages("You are a nurse.", "What about pets?"), text) for text in ("I like pets.", "No.")]


def pushed_files(hub: HubServer, name: str = NAME) -> dict[str, bytes]:
    return {path: text for path, text in hub.files(name, kind="model").items() if path != ".gitattributes"}


def copy_of(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target)
    return target


def test_a_reward_model_comes_back_and_scores_as_before(hub, place, reward_folder):
    pushed = push(reward_folder, NAME, private=True)
    there = pushed_files(hub)
    ours = {p.relative_to(reward_folder).as_posix(): p.read_bytes() for p in reward_folder.rglob("*") if p.is_file()}
    assert there.keys() == ours.keys()
    assert {name for name in ours if there[name] != ours[name]} == {"README.md"}
    assert f'snapshot_download("{NAME}"' in there["README.md"].decode()
    first, *earlier = hub.log(NAME, kind="model")
    assert first.sha == pushed.commit == hub.head(NAME, "model")
    assert len(earlier) == 1
    assert hub.tags(NAME, "model") == {}
    assert hub.repositories["model", NAME].private
    assert pushed.commit in pushed.said[0]

    folder = snapshot_download(NAME, revision=pushed.commit)
    scores = [score_rewards(load_reward_model(f, base_model=str(place.base)), ITEMS) for f in (reward_folder, folder)]
    assert scores[0] == scores[1]


def test_a_dpo_model_comes_back_and_scores_as_before(hub, place, dpo_folder):
    push(dpo_folder, "hub:org/dpo")
    folder = snapshot_download("org/dpo")
    scores = [
        score_implicit_rewards(load_dpo_model(f, base_model=str(place.base)), ITEMS) for f in (dpo_folder, folder)
    ]
    assert scores[0] == scores[1]


def test_pushing_again_does_nothing_and_another_training_is_one_more_commit(hub, tmp_path, reward_folder):
    first = push(reward_folder, NAME)
    again = push(reward_folder, NAME)
    assert again.commit == first.commit
    assert "already on the Hub" in again.said[0]
    changed = copy_of(reward_folder, tmp_path / "changed")
    (changed / "README.md").write_text("# Written by hand\n")
    (changed / "launch.json").write_text("{}")
    second = push(changed, NAME)
    assert [commit.sha for commit in hub.log(NAME, kind="model")][:2] == [second.commit, first.commit]
    assert pushed_files(hub)["README.md"] == b"# Written by hand\n"
    assert "launch.json" not in pushed_files(hub)


@pytest.mark.parametrize("how", ["reset", "500_after"])
def test_a_push_that_breaks_at_any_request_is_mended_by_running_it_again(hub, tmp_path, reward_folder, how):
    folder = copy_of(reward_folder, tmp_path / "model")
    for path in (*folder.glob("token*"), *folder.glob("chat_template*")):
        path.unlink()  # fewer files to read back, for the sake of time
    push(folder, "org/whole")
    whole = set(pushed_files(hub, "org/whole"))
    # The files that are read back one after another are all asked for alike.
    requests = [path for _, path in hub.requests].index(next(p for _, p in hub.requests if "/resolve/" in p)) + 2
    expected, failures = None, []
    for nth in range(1, requests + 1):
        name = f"org/broken-{nth:02}"
        fault = hub.fail(how=how, nth=nth, times=None)
        try:
            push(folder, name)
        except InputError as error:
            failures.append(str(error))
        hub.faults.remove(fault)
        if ("model", name) in hub.repositories:
            assert set(pushed_files(hub, name)) in (set(), whole)
        push(folder, name)
        found = {path: text.replace(name.encode(), b"NAME") for path, text in pushed_files(hub, name).items()}
        expected = expected or found
        assert found == expected
        assert len(hub.log(name, kind="model")) == 2
    assert len(failures) == requests
    assert all("run the same command again" in said and WRITE_TOKEN not in said for said in failures)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"how": 401}, r"does not take the token.*hf auth login"),
        ({"how": 403}, r"may not do this"),
        ({"how": "quota"}, r"storage on the Hub is used up"),
        ({"how": 412}, r"Somebody else committed"),
        ({"how": 409}, r"Somebody else committed"),
        ({"how": 429, "times": None}, r"wait some minutes"),
    ],
)
def test_what_the_hub_refuses_is_said_with_what_is_there_and_how_to_go_on(hub, reward_folder, fault, said):
    hub.fail(**{"times": 1} | fault, method="POST", path="/commit/")
    with pytest.raises(InputError, match=said) as error:
        push(reward_folder, NAME)
    assert "othing of this model" in str(error.value)
    assert WRITE_TOKEN not in str(error.value)
    assert pushed_files(hub) == {}


@pytest.mark.parametrize("how", ["reset_after", "502_after"])
def test_a_commit_whose_answer_is_lost_is_found_in_the_same_run(hub, tmp_path, reward_folder, how):
    first = push(reward_folder, NAME)
    changed = copy_of(reward_folder, tmp_path / "changed")
    (changed / "README.md").write_text("# Written by hand\n")
    second = push(changed, NAME)
    # The same files and title as the first commit, which must not be taken for this one.
    fault = hub.fail(how=how, method="POST", path="/commit/")
    third = push(reward_folder, NAME)
    assert fault.fired == 1
    assert [commit.sha for commit in hub.log(NAME, kind="model")][:3] == [third.commit, second.commit, first.commit]


def test_an_older_commit_is_not_taken_for_one_that_never_arrived(hub, tmp_path, reward_folder):
    push(reward_folder, NAME)
    changed = copy_of(reward_folder, tmp_path / "changed")
    (changed / "README.md").write_text("# Written by hand\n")
    push(changed, NAME)
    hub.fail(how="reset", method="POST", path="/commit/", times=None)
    with pytest.raises(InputError, match="the Hub had nothing of this model"):
        push(reward_folder, NAME)
    assert len(hub.log(NAME, kind="model")) == 3


def test_somebody_elses_commit_in_between_is_not_overwritten(hub, reward_folder, monkeypatch):
    from huggingface_hub import HfApi

    create = HfApi.create_commit

    def later(self, *args, **kwargs):
        hub.commit(NAME, {".gitattributes": "", "notes.txt": "mine"}, kind="model")
        return create(self, *args, **kwargs)

    monkeypatch.setattr(HfApi, "create_commit", later)
    with pytest.raises(InputError, match="Somebody else committed"):
        push(reward_folder, NAME)
    monkeypatch.undo()
    assert pushed_files(hub) == {"notes.txt": b"mine"}


def test_without_a_token_or_with_one_that_may_only_read(hub, reward_folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", READ_TOKEN)
    with pytest.raises(InputError, match="may not do this") as error:
        push(reward_folder, NAME)
    assert READ_TOKEN not in str(error.value)
    monkeypatch.delenv("HF_TOKEN")
    before = len(hub.requests)
    for refused in (lambda: push(reward_folder, NAME), lambda: refuse_before_training(NAME, False, "reward", True)):
        with pytest.raises(InputError, match=r"no token.*hf auth login"):
            refused()
    assert len(hub.requests) == before


def test_what_is_in_the_repository_already_is_never_lost(hub, tmp_path, dpo_folder, reward_folder):
    hub.commit("org/theirs", {"README.md": "# Mine", "model.bin": b"\0"}, kind="model")
    for refused in (
        lambda: push(reward_folder, "org/theirs"),
        lambda: refuse_before_training("org/theirs", False, "reward", True),
    ):
        with pytest.raises(InputError, match=r"README\.md, model\.bin"):
            refused()
    push(reward_folder, NAME)
    with pytest.raises(InputError, match="another kind of model"):
        push(dpo_folder, NAME)
    smaller = copy_of(reward_folder, tmp_path / "smaller")
    (smaller / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match=r"does not have \(chat_template\.jinja\)"):
        push(smaller, NAME)
    with pytest.raises(InputError, match="exists and is public"):
        push(reward_folder, NAME, private=True)
    assert len(hub.log(NAME, kind="model")) == 2


def test_damage_on_the_way_is_noticed(hub, reward_folder, monkeypatch):
    from training import push as module

    keep = module.send_commit

    def damaged(api, upload, head, theirs):
        keep(api, upload, head, theirs)
        files = hub.files(upload.repository, kind="model") | {"training.json": b"{}"}
        return hub.commit(upload.repository, files, kind="model"), None

    monkeypatch.setattr(module, "send_commit", damaged)
    with pytest.raises(InputError, match=r"training\.json has other content"):
        push(reward_folder, NAME)


@pytest.mark.parametrize("leak", ["token", "key", "path"])
def test_secrets_and_machine_paths_stay_here(hub, tmp_path, reward_folder, leak):
    folder = copy_of(reward_folder, tmp_path / "model")
    record = json.loads((folder / "training.json").read_text())
    said = {"token": WRITE_TOKEN, "key": "sk-" + "a1" * 20, "path": str(Path.home() / "data")}[leak]
    (folder / "training.json").write_text(json.dumps(record | {"note": said}))
    with pytest.raises(InputError, match=r"training\.json") as error:
        push(folder, NAME)
    if leak != "path":
        assert said not in str(error.value)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("dpo", {}, "holds another kind of model"),
        ("reward", {"merge": True}, r"does not have \(adapter_config\.json, adapter_model\.safetensors\)"),
        ("reward", {"arguments": ["--use-peft", "false"]}, r"does not have \(adapter_config\.json"),
        ("reward", {"private": True}, "exists and is public"),
        ("rewad", {}, "no training method"),
    ],
)
def test_what_the_repository_cannot_take_is_refused_before_the_training(
    hub, place, tmp_path, reward_folder, monkeypatch, method, options, said
):
    push(reward_folder, NAME)
    monkeypatch.setattr(launch, "run_once", None)
    with pytest.raises(InputError, match=said):
        launch.train(method, str(place.data), tmp_path / "out", push_to=NAME, **options)
    assert len(hub.log(NAME, kind="model")) == 2


def test_a_whole_model_in_the_repository_is_no_place_for_an_adapter(hub, reward_folder):
    record = (reward_folder / "training.json").read_text()
    hub.commit(NAME, {"training.json": record, "config.json": "{}", "model.safetensors": b"\0"}, kind="model")
    with pytest.raises(InputError, match=r"does not have \(config\.json, model\.safetensors\)"):
        refuse_before_training(NAME, False, "reward", adapter=True)
    assert refuse_before_training(NAME, False, "reward", adapter=False) == ""


def test_what_the_repository_takes_is_not_refused(hub, reward_folder, dpo_folder):
    for folder, kind in ((reward_folder, "reward"), (dpo_folder, "dpo")):
        push(folder, f"org/{kind}")
        assert refuse_before_training(f"org/{kind}", False, kind, adapter=True) == ""
    assert refuse_before_training("tester/new", False, "dpo", adapter=False) == ""
    assert "may refuse" in refuse_before_training("org/new", False, "dpo", adapter=False)
    assert set(hub.repositories) == {("model", "org/reward"), ("model", "org/dpo")}


@pytest.mark.parametrize("there", [True, False])
def test_a_token_that_may_only_read_is_refused_before_the_training(hub, reward_folder, monkeypatch, there):
    if there:
        push(reward_folder, NAME)
    monkeypatch.setenv("HF_TOKEN", READ_TOKEN)
    with pytest.raises(InputError, match="may not do this" if there else "may only read") as error:
        refuse_before_training(NAME, False, "reward", adapter=True)
    assert READ_TOKEN not in str(error.value)


@pytest.mark.parametrize(
    ("recipe", "arguments", "adapter"),
    [
        ("use_peft: true", [], True),
        ("use_peft: yes", ["--max_steps", "2"], True),
        ("learning_rate: 1", [], False),
        ("use_peft: true\nmerge_adapter: true", [], False),
        ("use_peft: true", ["--merge_adapter"], False),
        ("use_peft: true", ["--merge-adapter=True", "--seed", "1"], False),
        ("use_peft: true", ["--merge_adapter", "true", "--merge_adapter", "false"], True),
        ("use_peft: false", ["--use_peft", "--seed", "1"], True),
        ("use_peft: [", [], False),
    ],
)
def test_what_the_weights_will_be_is_read_as_the_script_reads_it(tmp_path, recipe, arguments, adapter):
    (tmp_path / "recipe.yaml").write_text(recipe)
    assert launch.saves_adapter(tmp_path / "recipe.yaml", arguments) == adapter
    if "[" not in recipe:
        given = ["--dataset", "x", "--output_dir", str(tmp_path), "--use_cpu", "true", "--bf16", "false", *arguments]
        run = parse_arguments(["--config", str(tmp_path / "recipe.yaml"), *given], RewardConfig)
        assert (run.model.use_peft and not run.data.merge_adapter) == adapter


def test_data_that_may_not_be_passed_on_are_refused_before_the_training(hub, tmp_path, place, monkeypatch):
    data = copy_of(place.data, tmp_path / "data")
    (data / "build.json").write_text(json.dumps({"not_for_publishing": "No licence says so"}))
    monkeypatch.setattr(launch, "run_once", None)
    with pytest.raises(InputError, match=r"No licence says so.*--private"):
        launch.train("reward", str(data), tmp_path / "out", push_to=NAME)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("foo", "--push foo is no repository of a model. Write org/name."),
        ("hub:a/b/c", "--push hub:a/b/c is no repository of a model. Write org/name."),
        ("org/name@v1", "--push org/name@v1 names a revision, but a push makes one. Write org/name."),
    ],
)
def test_what_is_no_name_of_a_model_is_said_in_one_sentence(name, said):
    with pytest.raises(InputError) as error:
        model_repository(name)
    assert str(error.value) == said


def test_what_cannot_be_pushed_is_said_before_anything_is_sent(hub, tmp_path, place, reward_folder):
    with pytest.raises(InputError, match="no finished model"):
        push(place.base, NAME)
    for name in ("name", "org/name@v1", "org/na me", "a/b/c"):
        with pytest.raises(InputError, match="Write org/name"):
            push(reward_folder, name)
    folder = copy_of(reward_folder, tmp_path / "model")
    record = json.loads((folder / "training.json").read_text())
    record["data"]["not_for_publishing"] = "No licence says so"
    (folder / "training.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"No licence says so.*--private"):
        push(folder, NAME)
    with pytest.raises(InputError, match="--private is for --push"):
        launch.train("reward", str(place.data), tmp_path / "out", private=True)
    assert hub.requests == []


# Datasets on the Hub

BUILD = {"version": "1.2.0", "fingerprint": "f" * 64, "content_sha256": "c" * 64, "recipe": {"name": "test"}}


def publish(hub: HubServer, folder: Path) -> str:
    write_published_folder(folder)
    (folder / "build.json").write_text(json.dumps(BUILD))
    (folder / "responses.parquet").write_bytes(b"large")
    return hub.commit("org/personas", folder, tags=("v1.2.0",))


def test_a_dataset_on_the_hub_is_named_by_tag_commit_and_content(hub, tmp_path):
    commit = publish(hub, tmp_path / "data")
    hub.commit("org/personas", {"README.md": "gone"})
    data = load_preference_data("hub:org/personas@v1.2.0", ["contrast"])
    assert len(data.splits["train"]) > 0
    wanted = {"dataset": "org/personas", "tag": "v1.2.0", "revision": commit, "content_sha256": "c" * 64}
    assert wanted.items() <= data.identity.items()
    assert not [path for _, path in hub.requests if "responses.parquet" in path and "resolve" in path]
    other = load_preference_data("org/personas", ["contrast"], revision=commit)
    assert (other.identity["revision"], other.identity["tag"]) == (commit, commit)
    with pytest.raises(InputError, match=r"v9\.9\.9"):
        load_preference_data("hub:org/personas@v9.9.9", ["dpf"])
    with pytest.raises(InputError, match="Remove one"):
        load_preference_data("hub:org/personas@v1.2.0", ["dpf"], revision="main")


@pytest.mark.thorough
def test_from_a_hub_dataset_to_a_merged_model_on_the_hub_by_one_command(hub, tmp_path, place, monkeypatch):
    commit = publish(hub, tmp_path / "data")
    out = tmp_path / "model"
    quick = ["--model_name_or_path", str(place.base), "--base_model_id", "org/tiny", "--max_steps", "2"]
    command = ["train", "reward", "hub:org/personas@v1.2.0", "--out", str(out), "--merge", "--push", NAME, *quick]
    done = subprocess.run(
        [sys.executable, "-m", "persona", *command],
        cwd=REPOSITORY,
        env=environment(hub, tmp_path / "cache", WRITE_TOKEN) | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"commit {hub.head(NAME, 'model')}" in done.stdout
    assert WRITE_TOKEN not in done.stdout + done.stderr
    there = pushed_files(hub)
    record = json.loads(there["training.json"])
    assert record["merged"]
    assert (record["data"]["revision"], record["data"]["content_sha256"]) == (commit, "c" * 64)
    card = there["README.md"].decode()
    assert f"at `v1.2.0`, commit `{commit}`" in card
    assert "c" * 64 in card
    assert "datasets:\n- org/personas\n" in card
    assert not [text for text in there.values() if WRITE_TOKEN.encode() in text or str(tmp_path).encode() in text]

    # The same command again: no training, no commit.
    monkeypatch.setattr(subprocess, "run", None)
    trained, said = launch.train(
        "reward", "hub:org/personas@v1.2.0", out, arguments=quick, merge=True, push_to="org/second"
    )
    assert not trained
    assert "pushed to the Hub in one commit" in said[0]
    assert json.loads(pushed_files(hub, "org/second")["training.json"]) == record
    assert os.environ["HF_TOKEN"] == WRITE_TOKEN
