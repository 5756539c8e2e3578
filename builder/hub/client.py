"""A dataset on the Hub by its address, `hub:org/name@revision`: the client, its errors as ours, and the files at one revision.

The one place that knows the Hub client. Where the Hub is comes from HF_ENDPOINT, who asks from HF_TOKEN or `hf auth login`.
"""

import errno
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx2

from builder.errors import InputError

PREFIX = "hub:"
# Git allows no colon in the name of a branch or tag, so that more may follow behind one (builder.prompts.hub_table).
ADDRESS = re.compile(r"hub:(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^:@\s]+))?")
# What the client raises: HTTP, the network, files (OSError), an answer or a file that the Hub does not take (ValueError), a failed
# upload (RuntimeError).
HUB_ERRORS = (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError, RuntimeError)
# Seconds without a single byte, after which the network counts as lost; the client by itself would wait for ever.
PATIENCE = 300
LOG_IN = "Log in with `hf auth login`, or set HF_TOKEN to a token that may write."


@dataclass(frozen=True)
class HubAddress:
    """repository: `org/name`. revision: a tag, branch or commit, or None."""

    repository: str
    revision: str | None

    def __str__(self) -> str:
        return f"{PREFIX}{self.repository}" + (f"@{self.revision}" if self.revision else "")


def parse_address(text: str) -> HubAddress:
    """Raises InputError for what is no address, and for names that the Hub does not allow."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    found = ADDRESS.fullmatch(text)
    if found is None:
        raise InputError(f"{text} is no address of a dataset on the Hub. Write hub:org/name, or hub:org/name@v1.0.0.")
    try:
        validate_repo_id(found["repository"])
    except HFValidationError as error:
        raise InputError(f"{text}: the Hub allows no such name ({first_lines(error)}). Choose another.") from None
    return HubAddress(found["repository"], found["revision"])


def hub_api(*, token_needed: bool = False) -> Any:
    """The Hub client. Raises InputError where a token is needed and there is none."""
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.utils import get_session

    if token_needed and not get_token():
        raise InputError(f"There is no token for the Hub, which writing needs. {LOG_IN} Nothing was sent.")
    get_session().timeout = httpx2.Timeout(PATIENCE)
    keep_bars_out_of_logs()
    return HfApi()


def keep_bars_out_of_logs() -> None:
    """Some of the client's bars are drawn wherever stderr goes; our own only on a terminal."""
    from huggingface_hub import constants
    from huggingface_hub.utils import disable_progress_bars

    # Whoever sets HF_HUB_DISABLE_PROGRESS_BARS has chosen.
    if not sys.stderr.isatty() and constants.HF_HUB_DISABLE_PROGRESS_BARS is None:
        disable_progress_bars()


def may_create(api: Any, repository: str) -> str:
    """What is to be said of the token with which this repository will be created: nothing, or that the namespace is not its own.

    Raises InputError for a token that may only read. Whether the namespace lets it, only the Hub itself decides.
    """
    who = api.whoami()
    if who.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise InputError(
            f"The token may only read, and {PREFIX}{repository} is to be created. {LOG_IN} Nothing was sent."
        )
    own = [str(who.get("name")), *(str(each["name"]) for each in who.get("orgs", []))]
    return "" if repository.partition("/")[0] in own else f"The token is for {', '.join(own)}: the Hub may refuse."


def snapshot(address: HubAddress, patterns: Sequence[str] | None = None) -> Path:
    """The folder with the files of this revision (those that match `patterns`), through the Hub client's cache.

    The folder is named after the commit that the revision stands for. Raises InputError where it cannot be had.
    """
    from huggingface_hub import snapshot_download

    keep_bars_out_of_logs()
    with hub_errors(f"{address} cannot be had from the Hub"):
        return Path(
            snapshot_download(
                address.repository,
                repo_type="dataset",
                revision=address.revision,
                allow_patterns=None if patterns is None else list(patterns),
            )
        )


@lru_cache(maxsize=8)  # once a run: a branch that moves meanwhile must not give two answers
def commit_of(address: HubAddress) -> str:
    """The SHA of the commit that the revision stands for. A SHA stands for itself, so that what is in the cache can be read without a
    network. Raises InputError where the Hub has no such revision or cannot be asked.
    """
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    repository, revision = address.repository, address.revision
    if revision and re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    try:
        sha = hub_api().dataset_info(repository, revision=revision, timeout=30).sha
    except RevisionNotFoundError:
        raise InputError(
            f"The Hub has dataset {repository}, but no revision {revision}. See its branches, tags and commits under Files, and name one."
        ) from None
    except RepositoryNotFoundError as error:
        if isinstance(error, GatedRepoError):
            raise hub_error(error, f"{address} cannot be read") from None
        raise InputError(
            f"The Hub has no dataset {repository} that you may read. Check the name; for a private or gated one accept "
            "its terms and set HF_TOKEN."
        ) from None
    except HUB_ERRORS as error:
        raise InputError(
            f"The Hub could not be asked about dataset {repository}: {first_lines(error)}. Check the network, or download the file and "
            "give its path. A table that was read before is read from the cache if the revision is the SHA of its commit."
        ) from None
    if sha is None:
        raise InputError(f"The Hub does not say which commit {revision} of {repository} is. Name the SHA of a commit.")
    return sha


def file_of(address: HubAddress, name: str) -> Path | None:
    """One file of this revision, through the Hub client's cache; None where there is none or it cannot be had."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    keep_bars_out_of_logs()
    try:
        return Path(hf_hub_download(address.repository, name, repo_type="dataset", revision=address.revision))
    except (EntryNotFoundError, *HUB_ERRORS):
        return None


@contextmanager
def hub_errors(doing: str, state: str = "") -> Iterator[None]:
    """What the Hub client raises inside as InputError: `doing`, why, what to do about it, and the `state` that things are in now.

    A full disk is left to who knows what was to be written.
    """
    try:
        yield
    except InputError:
        raise
    except HUB_ERRORS as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        raise hub_error(error, doing, state) from None


def hub_error(error: BaseException, doing: str, state: str = "") -> InputError:
    return InputError(f"{doing} ({reason(error)}). {advice(error)} {state}".rstrip())


def hub_cause(error: BaseException) -> BaseException:
    """The answer of the Hub behind an error of the client, which wraps what happens in its threads; else the error itself."""
    at: BaseException | None = error
    while at is not None:
        if getattr(at, "response", None) is not None:
            return at
        at = at.__cause__
    return error


def status_of(error: BaseException) -> int | None:
    """The HTTP status that the Hub answered; None where no answer came."""
    response = getattr(hub_cause(error), "response", None)
    return None if response is None else int(response.status_code)


def is_passing(error: BaseException) -> bool:
    """No answer, or one that the Hub gives while it is busy or broken: a request that changes something may have taken effect."""
    status = status_of(error)
    return (status is None and not isinstance(error, ValueError)) or status in (408, 425, 429) or (status or 0) >= 500


def reason(error: BaseException) -> str:
    """What the Hub said and with which status, else the first line of the client's own words."""
    cause, status = hub_cause(error), status_of(error)
    if status is None:
        return first_lines(cause, 1)
    said = getattr(cause, "server_message", None)
    return f"{status}: {first_lines(Exception(said) if said else cause)}"


def advice(error: BaseException) -> str:
    """What to do about an error of the Hub."""
    from huggingface_hub.errors import GatedRepoError, LocalTokenNotFoundError, RepositoryNotFoundError

    cause, status = hub_cause(error), status_of(error)
    said = str(cause).lower()
    if isinstance(cause, GatedRepoError):
        return (
            "It is gated: its authors give access on request. Ask for it on its page, log in with `hf auth login`, "
            "and run this again."
        )
    # The Hub has no status of its own for a full account.
    if status in (402, 413, 507) or re.search(r"quota|storage (limit|space)|out of storage", said):
        return "The account's storage on the Hub is used up. Free or buy some, and run the same command again."
    if isinstance(cause, RepositoryNotFoundError):
        return (
            "The Hub has no such repository that you may see. Check the name and, for a private one, that your token may read it "
            "(`hf auth login` or HF_TOKEN)."
        )
    if isinstance(cause, LocalTokenNotFoundError) or status == 401:
        return f"The Hub does not take the token. {LOG_IN}"
    if status == 403:
        return "The token may not do this. Use one that may write there, or ask the organisation for the right to."
    if status == 404:
        return "Check name and revision."
    if status == 429:
        return "Too many requests: wait some minutes and run the same command again."
    if is_passing(error):
        return "Check the connection and run the same command again."
    return "Mend what the Hub says and run the same command again."


def first_lines(error: BaseException, count: int = 2) -> str:
    """The first lines of the message as one, without a token in it and without the signatures of addresses to upload to."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return scrubbed(" ".join(lines[:count]))[:400].rstrip(".") or type(error).__name__


def scrubbed(text: str) -> str:
    from huggingface_hub import get_token

    token = get_token()
    if token:
        text = text.replace(token, "<token>")
    text = re.sub(r"\b(hf|api_org|hf_oauth)_\w{8,}", "<token>", text)
    text = re.sub(r"(?i)(bearer\s+)\S+", r"\1<token>", text)
    return re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\"]*", r"\1", text)
