"""How a training script ends when its input is at fault."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from builder.errors import InputError

# Set by training.launch: where to leave the message, because accelerate does not pass exit codes on.
COMPLAINT_VARIABLE = "PERSONA_INPUT_ERROR_FILE"


def run_as_script(main: Callable[[], Path]) -> None:
    """Exit code 2 and a plain message where the input is at fault; anything else keeps its traceback."""
    try:
        main()
    except InputError as error:
        complaint = os.environ.get(COMPLAINT_VARIABLE)
        if complaint:
            Path(complaint).write_text(str(error), encoding="utf-8")
        else:
            print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    import torch  # here, because training.launch reads this file and has to start quickly

    if torch.distributed.is_initialized():
        # Left open, the connections are torn down while Python ends, and now and then a process aborts over a finished model.
        torch.distributed.destroy_process_group()
