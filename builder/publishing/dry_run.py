"""What publishing a version to the Hub would do, in sentences; nothing is sent."""

from collections.abc import Mapping
from typing import Any

from builder.errors import InputError
from builder.hub import LOG_IN
from builder.hub_files import Upload, changes


def would_create(api: Any, upload: Upload, private: bool) -> str:
    """Raises InputError for a token that may not create it; whether the namespace lets it, only the Hub itself decides."""
    who = api.whoami()
    if who.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise InputError(f"The token may only read, and {upload.address} is to be created. {LOG_IN} Nothing was sent.")
    own = [str(who.get("name")), *(str(each["name"]) for each in who.get("orgs", []))]
    foreign = upload.repository.partition("/")[0] not in own
    return (
        f"{upload.address} would be created{', private' if private else ''}."
        + f" The token is for {', '.join(own)}: the Hub may refuse." * foreign
    )


def would_change(upload: Upload, theirs: Mapping[str, Any]) -> str:
    """The commit that makes `theirs` ours."""
    added, deleted = changes(upload.files, theirs)
    parts = [f"{what} {', '.join(paths)}" for what, paths in (("add", added), ("delete", deleted)) if paths]
    return f"One commit would {' and '.join(parts)}."


def would_tag(upload: Upload) -> str:
    return f"Tag {upload.tag} would be set on that commit, and the version be read back."
