"""A build becomes a version: checked, written, compared with the version before, and then a folder or a commit with a tag on the Hub.

A published version is never changed. The same build under the same version gives the same bytes, so publishing it again changes
nothing, and what was interrupted ends, run again, as if it had not been.
"""

import errno
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.audit.audit import audit_build
from builder.errors import InputError
from builder.files import locked, write_json
from builder.hub.client import HubAddress
from builder.llm.transfer import export_responses
from builder.pipeline import finished_build
from builder.published import is_published, parse_version, version_folder
from builder.publishing.card import write_card
from builder.publishing.diff import Difference, diff_versions
from builder.publishing.folder import write_data
from builder.publishing.gate import refuse_failed_audit, refuse_licences, refuse_private
from builder.publishing.target import (
    holds_this,
    left_by_a_publish,
    mistaken_for_hub,
    move_into,
    parse_target,
    refuse_target,
    sizes,
    unfinished_name,
)
from builder.publishing.upload import Uploaded, look_first, upload_version
from builder.publishing.versions import RESPONSES, changelog_entry, refuse_small_step
from builder.tables import read_columns


@dataclass(frozen=True)
class Published:
    """build: the published build.json. files: {path: bytes} of everything in the version.

    previous: the version compared with. uploaded: what was done on the Hub, None for a folder.
    """

    build: dict[str, Any]
    files: dict[str, int]
    previous: str | None = None
    difference: Difference | None = None
    uploaded: Uploaded | None = None
    warnings: list[str] = field(default_factory=list)


def publish(
    run: Path,
    target: str | Path,
    version: str = "0.1.0",
    *,
    previous: str | None = None,
    for_own_use: bool = False,
    private: bool = False,
    create_pr: bool = False,
    dry_run: bool = False,
    responses: bool = False,
) -> Published:
    """Publish the build in `run` as `version` to a folder, or to `hub:org/name`, whole or not at all.

    previous: the version before, a folder or `hub:org/name@v1.0.0`, with which this one is compared; on the Hub the newest tag below
    `version` is taken by itself. responses: the recorded replies go with it. dry_run: everything but writing to the target.

    Raises InputError if the build is unfinished, if its audit stops the target (`gate`), if the step from the version before is too
    small, if a file holds what must not leave, or if the target holds other content under this version. What can be known of the
    target without the version is asked first: the audit and the tables of a large build take minutes.
    """
    parse_version(version)
    place = parse_target(str(target))
    address = place if isinstance(place, HubAddress) else None
    refuse_contradictions(str(target), address, private, create_pr, for_own_use, previous)
    build = finished_build(run)
    refuse_published(run, build)
    if "not_for_publishing" in build and not for_own_use:
        raise InputError(f"{build['not_for_publishing']}. A folder for your own use: --for-own-use.")
    refuse_nothing_to_train_on(run)
    warnings = refuse_licences(run, build, for_hub=address is not None)
    if isinstance(place, HubAddress):
        earlier = look_first(place, version, private=private, create_pr=create_pr)
        previous = None if earlier is None else f"hub:{place.repository}@{earlier}"
    else:
        refuse_target(place, run, build, version)
        warnings += mistaken_for_hub(str(target))
    before = None if previous is None else version_folder(previous)
    checks = audit_build(run)
    warnings += refuse_failed_audit(run, checks, for_hub=address is not None)
    with unfinished_folder(run, place, dry_run) as folder:
        published = write_data(folder, run, build, checks, version)
        if responses:
            export_responses(run, folder / RESPONSES)
        difference = None
        published["changelog"] = []
        if before is not None:
            difference = diff_versions(before, folder, published)
            refuse_small_step(before, version, difference)
            published["changelog"] = changelog_entry(before, version, difference)
            if (before / RESPONSES).is_file() and not responses:
                warnings.append(f"{RESPONSES} is in the version before and not in this one: --responses adds it.")
        warnings += write_card(folder, run, published, checks, None if address is None else address.repository)
        write_json(folder / "build.json", published)
        refuse_private(folder, run, build, for_hub=address is not None)
        files = sizes(folder)
        uploaded = None
        if isinstance(place, HubAddress):
            uploaded = upload_version(folder, place, published, private=private, create_pr=create_pr, dry_run=dry_run)
        elif not holds_this(place, folder) and not dry_run:
            move_into(place, folder)
    return Published(published, files, previous, difference, uploaded, warnings)


def refuse_contradictions(
    target: str, address: HubAddress | None, private: bool, create_pr: bool, for_own_use: bool, previous: str | None
) -> None:
    if address is None:
        for option, given in (("--private", private), ("--create-pr", create_pr)):
            if given:
                raise InputError(
                    f"{option} is for the Hub, and --to {target} is a folder. Leave it out, or give hub:org/name."
                )
        return
    if address.revision is not None:
        raise InputError(
            f"--to {target} names a revision; a version is named by --version and its tag follows from it. Give hub:{address.repository}."
        )
    if for_own_use:
        raise InputError("--for-own-use writes a folder that stays with you; it cannot go to the Hub. Give a folder.")
    if previous is not None:
        raise InputError(
            "--previous is for folders; on the Hub the newest version there is compared with. Leave it out."
        )


def refuse_published(run: Path, build: dict[str, Any]) -> None:
    if is_published(build):
        raise InputError(
            f"{run} is already a published version ({build.get('version')}), and versions are published from their build. Give the RUN "
            "folder that `persona build` filled; the same build gives the same version on the Hub."
        )


def refuse_nothing_to_train_on(run: Path) -> None:
    if "train" not in read_columns(run, "dpf", ["split"])["split"].unique().to_pylist():
        raise InputError(
            f"The build in {run} has no pair in train, so there is nothing to publish. {run / 'ledger' / 'pairs.json'} says why each "
            "pair failed; another model, template or number of retries may mend it."
        )


@contextmanager
def unfinished_folder(run: Path, target: HubAddress | Path, dry_run: bool) -> Iterator[Path]:
    """An empty folder beside the target that nobody takes for finished; gone afterwards unless it was moved.

    Its name is always the same, so that what a killed publish left there is cleared by the next.
    """
    if isinstance(target, HubAddress) or dry_run:
        parent, name = run.resolve(), "hub" if isinstance(target, HubAddress) else target.resolve().name
    else:
        # It is moved at the end, so it grows on the same disk; on a folder that exists another disk may be mounted.
        parent = target.resolve() if target.exists() and can_be_filled(target) else target.resolve().parent
        name = target.resolve().name
    place = parent / unfinished_name(name)
    with ExitStack() as held:
        hold(held, place, target)
        folder = place / "version"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise InputError(
                    f"The disk is full: {target} was not published; the build is untouched. Free some space and publish again."
                ) from None
            raise
        finally:
            shutil.rmtree(place, ignore_errors=True)


def can_be_filled(target: Path) -> bool:
    return left_by_a_publish(target) or not any(target.iterdir())


def hold(held: ExitStack, place: Path, target: HubAddress | Path) -> None:
    """Lock `place`, made if need be. Raises InputError where it cannot be made, and where another publish holds it."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        (place / ".lock").touch()
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise InputError(f"{place.parent} cannot be written ({error.strerror}). Give another --to folder.") from None
    try:
        held.enter_context(locked(place, "publish"))
    except InputError:
        raise InputError(f"Another publish of {target} is running. Wait for it, and publish again.") from None
