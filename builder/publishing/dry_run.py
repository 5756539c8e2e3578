"""What publishing a version to the Hub would do, in sentences; nothing is sent."""

from collections.abc import Mapping, Sequence
from typing import Any

from builder.hub.client import HubAddress, may_create
from builder.hub.files import LocalFile, Upload, changes


def would_create(api: Any, address: HubAddress, private: bool) -> str:
    """Raises InputError for a token that may not create it; whether the namespace lets it, only the Hub itself decides."""
    foreign = may_create(api, address.repository)
    return f"{address} would be created{', private' if private else ''}.{' ' if foreign else ''}{foreign}"


def would_change(upload: Upload, theirs: Mapping[str, Any]) -> str:
    """The commit that makes `theirs` ours."""
    added, deleted = changes(upload.files, theirs)
    parts = [f"add or replace {counted(upload.files, added)}"] if added else []
    parts += [f"delete {', '.join(deleted)}"] if deleted else []
    return f"One commit would {' and '.join(parts)}."


def counted(files: Mapping[str, LocalFile], paths: Sequence[str]) -> str:
    """How many files and MB, by config; the names of data files, which are hashes, say nothing. Others by name."""
    groups: dict[str, list[int]] = {}
    for path in paths:
        parts = path.split("/")
        group = f"{parts[0]}/{parts[1]}" if parts[0] == "data" and len(parts) == 3 else path
        groups.setdefault(group, []).append(files[path].size)
    total = size_said([files[path].size for path in paths])
    return f"{total}: " + ", ".join(
        f"{group} ({size_said(sizes)})" if group not in files else group for group, sizes in groups.items()
    )


def size_said(sizes: Sequence[int]) -> str:
    return f"{len(sizes)} file{'s' if len(sizes) > 1 else ''}, {sum(sizes) / 1e6:,.1f} MB"


def would_tag(upload: Upload) -> str:
    return f"Tag {upload.tag} would be set on that commit, and the version be read back."
