"""The two ways in which a run stops on purpose, each with its exit code, and how its message names a few of many."""

from collections.abc import Sequence


class InputError(Exception):
    """The input cannot be used. The message says what was got, why it is wrong and what to do. Exit code 2."""

    exit_code = 2


class BudgetStop(Exception):  # noqa: N818 - a stop that the user asked for is not an error
    """A cap set with --max-calls or --max-cost was reached; everything paid for so far is recorded. Exit code 3."""

    exit_code = 3


def few(names: Sequence[str], shown: int = 4) -> str:
    """`a, b, c, d and 7 more`, in the order given."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
