"""A step with the prompt computed once has the loss, the figures and the gradients of a step that computes it twice."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from training import dpo, reward
from training.shared_prompt import common_beginnings

pytestmark = pytest.mark.thorough

MAINS = {"dpo": dpo.main, "reward": reward.main}


def curve(folder):
    history = json.loads((folder / "training.json").read_text())["run"]["history"]
    return [{key: value for key, value in entry.items() if "time" not in key} for entry in history if "loss" in entry]


@pytest.mark.parametrize("kind", ["dpo", "reward"])
def test_same_curve_and_same_weights(place, tmp_path, kind):
    def trained(share):
        arguments = [*place.arguments(f"demo_{kind}", tmp_path / share), "--share_prompt", share]
        return MAINS[kind]([*arguments, "--eval_max_rows", "0", "--per_device_train_batch_size", "3"])

    shared, whole = trained("true"), trained("false")
    assert len(curve(shared)) == 3
    for ours, plain in zip(curve(shared), curve(whole), strict=True):
        assert ours == pytest.approx(plain, abs=2e-5)
    first, second = (load_file(folder / "adapter_model.safetensors") for folder in (shared, whole))
    assert first.keys() == second.keys()
    assert all(torch.allclose(first[name], second[name], atol=1e-4) for name in first)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=4))
def test_a_beginning_is_common_and_leaves_the_token_that_predicts_the_answer(sizes):
    rows, starts = [], []
    for side in (1, 2):
        for prompt, *answers in sizes:
            rows.append([9] * prompt + [side] * answers[side - 1])
            starts.append(prompt)
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    labels = torch.tensor(
        [[-100] * s + row[s:] + [-100] * (width - len(row)) for row, s in zip(rows, starts, strict=True)]
    )
    for place, (length, with_labels) in enumerate(
        zip(common_beginnings(ids, mask).tolist(), common_beginnings(ids, mask, labels).tolist(), strict=True)
    ):
        assert length == sizes[place][0]
        assert with_labels == sizes[place][0] - 1
