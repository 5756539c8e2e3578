"""What must hold before anything leaves: the audit, the licences, and no file with a secret, a machine path or a census record's key."""

from pathlib import Path
from typing import Any

from builder.audit.audit import failures
from builder.errors import InputError


def refuse_failed_audit(run: Path, checks: list[dict[str, Any]], for_hub: bool) -> list[str]:
    """The failed checks that a folder may have and the Hub may not: shortcuts outside the recipe's bands.

    Raises InputError for a failed proof (splits, mirrors, ids), which no target may have, and for any failure where `for_hub`.
    """
    proofs = [check for check in checks if check["proof"]]
    stopping = failures(checks if for_hub else proofs)
    if stopping:
        raise InputError(f"The build in {run} fails its audit and is not published: {'; '.join(stopping)}.")
    return failures(checks)


def refuse_licences(run: Path, build: dict[str, Any]) -> None:
    """Raises InputError for questions whose licence does not allow passing them on."""


def refuse_private(folder: Path, run: Path, build: dict[str, Any], for_hub: bool) -> None:
    """Raises InputError naming every file (and column) with a secret, a machine path, SERIALNO or PUMA."""
