"""Scores by what is on disk and nothing else: `python -m tests.training.rescore`, job on standard input, scores on standard output.

Job: `kind` (reward or dpo), `folder`, `base`, `items` ([messages, text] each). A list of jobs gives a list of score lists.
"""

import json
import sys
from typing import Any

from training.scoring import load_dpo_model, load_reward_model, score_implicit_rewards, score_rewards


def rescored(job: dict[str, Any]) -> list[float]:
    items = [(messages, text) for messages, text in job["items"]]
    if job["kind"] == "reward":
        return score_rewards(load_reward_model(job["folder"], job["base"], device="cpu"), items)
    model = load_dpo_model(job["folder"], job["base"], device="cpu")
    return [model.beta * (policy - reference) for policy, reference in score_implicit_rewards(model, items)]


if __name__ == "__main__":
    scores = [rescored(job) for job in json.load(sys.stdin)]
    print(json.dumps(scores))
