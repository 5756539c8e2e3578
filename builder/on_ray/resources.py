"""What a shard takes of the cluster and of the endpoints, and so how many run at once."""

import dataclasses
from typing import Any

from builder.recipe import ModelsRecipe

# The roles that shards ask.
SHARD_ROLES = ("generator", "critic", "reviser", "judge", "second_judge")


def room_for_shards(ray: Any, models: ModelsRecipe, shards: int) -> tuple[int, dict[str, float]]:
    """How many shards run at once, and what each takes: a processor, and a GPU where models run in the workers and there are any."""
    there = ray.cluster_resources()
    together, resources = int(there.get("CPU", 0)), {"num_cpus": 1.0}
    used = [getattr(models, role) for role in SHARD_ROLES]
    if any(model.provider == "transformers" for model in used) and there.get("GPU", 0) >= 1:
        together, resources = min(together, int(there["GPU"])), {"num_cpus": 1.0, "num_gpus": 1.0}
    # Every shard asks at least one question at a time.
    concurrency = [model.max_concurrency for model in used if model.provider == "openai"]
    return max(1, min([together, shards, *concurrency])), resources


def share_endpoints(models: ModelsRecipe, together: int) -> ModelsRecipe:
    """Each shard with its part of `max_concurrency`, so that an endpoint sees as many calls at once as the recipe says."""
    shares = {
        role: dataclasses.replace(model, max_concurrency=max(1, model.max_concurrency // together))
        for role in SHARD_ROLES
        if (model := getattr(models, role)).provider == "openai"
    }
    return dataclasses.replace(models, **shares)
