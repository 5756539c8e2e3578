"""FSDP2 without a GPU: `accelerate launch ... tests/training/fsdp_on_cpu.py dpo|reward ARGUMENTS`, with ACCELERATE_TORCH_DEVICE=cpu.

accelerate 1.15 divides a model only in processes that it takes for a GPU's; with `use_cpu` it goes back to whole copies (DDP), without
a word. torch itself divides weights over gloo as it does over NCCL, so accelerate is told here that the processes are of that kind.
All else is its own code, and ours.
"""

import importlib
import sys

from accelerate.state import PartialState
from accelerate.utils import DistributedType

from training.run_as_script import run_as_script

if __name__ == "__main__":
    PartialState._prepare_backend = lambda *_: ("gloo", DistributedType.MULTI_GPU)  # type: ignore[method-assign]
    method = importlib.import_module(f"training.{sys.argv.pop(1)}")
    run_as_script(method.main)
