"""What must not stand in a file that others get: secrets, this machine's paths, the keys of census records, private addresses.

A kind is a pattern and a test of what it found. The pattern is written for RE2, which reads hundreds of megabytes a second without
looking around, and for `re` alike; the test says in Python what the pattern cannot. A finding names the kind, never the text.
"""

import configparser
import contextlib
import ipaddress
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

GROUPS = ("secret", "path", "census", "endpoint")
SECRET_NAMES = ("KEY", "TOKEN", "SECRET", "PASSWORD")  # how a variable's name ends whose value is taken for a secret
SHORTEST_SECRET = 8  # shorter values (`EMPTY`, `none`) are words that stand anywhere
ALONE_BELOW = 16  # a value shorter than this counts only where it stands alone: 12345678 is part of many a number
# What documentation and default accounts call themselves: people write of such folders without ever having seen this machine.
COMMON_USERS = (
    "root",
    "user",
    "users",
    "username",
    "ubuntu",
    "debian",
    "admin",
    "runner",
    "guest",
    "name",
    "me",
    "you",
    "home",
)
PLACEHOLDERS = ("password", "passwd", "pass", "pwd", "secret", "token", "key", "xxx", "changeme", "your", "placeholder")
# Their addresses say nothing about who built.
PUBLIC_ENDPOINTS = (
    *("api.openai.com", "api.anthropic.com", "generativelanguage.googleapis.com", "openrouter.ai", "api.mistral.ai"),
    *("api.together.xyz", "api.groq.com", "api.deepseek.com", "api.fireworks.ai", "api.x.ai", "router.huggingface.co"),
)
# Before 2017 a SERIALNO is a number of up to seven digits in the 1-year files. Shorter ones cannot be told from any other number.
SHORTEST_SERIAL = 7
# 20 random hexadecimal digits have 9 on average, and 32 fewer than 6 once in a thousand; text as people write it has one or two.
CHANGES_IN_A_KEY = 6
CENSUS_NEARBY = 80  # characters before and behind a PUMA
CENSUS_CONTEXT = re.compile(
    r"(?i)\b(?:SERIALNO|P?WGTP|PUMS|microdata|state\W{1,3}(?:code\W{1,3})?\d{1,2}|ST(?:ATE)?\W{0,3}[:=]\W{0,3}\d{1,2})\b"
)
CENSUS_KEY = re.compile(r"(?i)\W*(serialno|(pow|mig)?puma(00|10|20)?)\W*")


def always(_: re.Match[str]) -> bool:
    return True


@dataclass(frozen=True)
class Kind:
    """holds: whether what the pattern found is one. in_texts: looked for in what people and models wrote, too.

    Only what can hardly be anything else is `in_texts`: people write about shoes of PUMA and name home folders. Nobody who describes
    a dataset needs either, so in metadata more is taken for a leak.
    """

    name: str
    group: str
    pattern: str
    holds: Callable[[re.Match[str]], bool] = always
    in_texts: bool = True


def has_digit(found: re.Match[str]) -> bool:
    """Amazon's documentation writes EXAMPLE into its keys."""
    return any(c.isdigit() for c in found[0]) and "EXAMPLE" not in found[0].upper()


def random_key(found: re.Match[str]) -> bool:
    """Keys are drawn at random: inside their parts small letters, capitals and digits follow on each other in no order. Words and years
    with hyphens between them (`sk-learn-edition-2024`) are of one kind each, but for a capital at the beginning."""
    parts = [part[:1].lower() + part[1:] for part in re.split(r"[-_]", found[0]) if part]
    kinds = ["".join("0" if c.isdigit() else "A" if c.isupper() else "a" for c in part) for part in parts]
    changes = sum(left != right for part in kinds for left, right in pairwise(part))
    return changes >= CHANGES_IN_A_KEY and has_digit(found)


def real_password(found: re.Match[str]) -> bool:
    password = found[0].rsplit("@", 1)[0].rsplit(":", 1)[1]
    return re.search(r"[<>{}$*\[]", password) is None and not password.lower().startswith(PLACEHOLDERS)


# The forms as the providers document them. Keys without a form of their own (40 hexadecimal digits) would be found in every hash.
SECRET_KINDS = (
    Kind("a token of the Hugging Face Hub", "secret", r"\b(?:hf_|api_org_)[A-Za-z0-9]{30}"),
    Kind("a key of Anthropic", "secret", r"\bsk-ant-[A-Za-z0-9_-]{16,}", random_key),
    Kind("an API key (sk-...)", "secret", r"\bsk-[A-Za-z0-9_-]{20,}", random_key),
    Kind("a key of a model provider", "secret", r"\b(?:gsk_|xai-|r8_|nvapi-|pplx-|fw_)[A-Za-z0-9_-]{30,}", random_key),
    Kind("a key of Google", "secret", r"\bAIza[A-Za-z0-9_-]{35}|\bya29\.[A-Za-z0-9_-]{30}|\bGOCSPX-[A-Za-z0-9_-]{20}"),
    Kind("an access key of AWS", "secret", r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b", has_digit),
    Kind("a secret key of AWS", "secret", r"(?i:aws_secret_access_key)\W{1,8}[A-Za-z0-9/+]{40}", has_digit),
    Kind("a token of GitHub", "secret", r"\bgh[pousr]_[A-Za-z0-9]{36}|\bgithub_pat_[A-Za-z0-9_]{22}"),
    Kind("a token of GitLab", "secret", r"\bglpat-[A-Za-z0-9_-]{20,}", random_key),
    Kind(
        "a token of Slack",
        "secret",
        r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}|hooks\.slack\.com/services/\w+/\w+/\w+",
        has_digit,
    ),
    Kind("a key of Stripe", "secret", r"\b[rs]k_live_[A-Za-z0-9]{20}"),
    Kind("a token of a package registry", "secret", r"\bpypi-AgE[A-Za-z0-9_-]{20}|\bnpm_[A-Za-z0-9]{36}"),
    Kind("a JSON web token", "secret", r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8}"),
    Kind("a private key", "secret", r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY"),
    Kind(
        "an Authorization header",
        "secret",
        r"(?i:authorization[\"']?\s*[:=]\s*[\"']?(?:bearer|basic|token)\s+[A-Za-z0-9._~+/=-]{8,})",
        has_digit,
    ),
    Kind(
        "a password in an address",
        "secret",
        r"://[^\s/:@\"'<>]+:[^\s/:@\"']{3,}@[A-Za-z0-9]",
        real_password,
    ),
)


def near_census(found: re.Match[str]) -> bool:
    """Whether what stands around it speaks of census records."""
    begin, end = max(0, found.start() - CENSUS_NEARBY), found.end() + CENSUS_NEARBY
    around = found.string[begin : found.start()] + " \n " + found.string[found.end() : end]
    return CENSUS_CONTEXT.search(around) is not None


def whole_number(found: re.Match[str]) -> bool:
    return not part_of_number(found)


# PUMA is a brand and an animal too. A key of the census goes with a value of five digits.
PUMA = r"(?:POW|MIG)?PUMA(?:00|10|20)?"
CENSUS_KINDS = (
    Kind("a SERIALNO of the Bureau", "census", r"\b(?i:20\d\d(?:HU|GQ)\d{7})\b"),
    # Until 2017 the 5-year files wrote the year and nine digits. A count of milliseconds has thirteen digits too, and begins with 1.
    Kind("a SERIALNO of the Bureau", "census", r"\b20(?:0[5-9]|1[0-7])\d{9}\b", whole_number, in_texts=False),
    Kind("a census key with its value", "census", rf"\b(?i:{PUMA})\b[\"']?\s{{0,3}}[:=]\s{{0,3}}[\"']?\d{{5}}\b"),
    Kind("a census key with its value", "census", r"\b(?i:SERIALNO)\b[\"']?\s{0,3}[:=]\s{0,3}[\"']?\d{7}"),
    Kind(
        "a census key with its value",
        "census",
        rf"\b(?i:SERIALNO[\"']?\s{{0,3}}[:=]\s{{0,3}}[\"']?\w|{PUMA}[\"']?\s{{0,3}}[:=]\s{{0,3}}[\"']?\d)",
        in_texts=False,
    ),
    Kind("a PUMA code", "census", rf"\b(?i:{PUMA}\W{{1,3}}(?:(?:code|number|no\.)\W{{1,3}})?)\d{{5}}\b", near_census),
    Kind("a PUMA code", "census", rf"\b{PUMA}\s(?:(?:code|number|no\.)\s)?\d{{5}}\b", in_texts=False),
)

# In what people and models write, a path says nothing: a question may be about somebody's home folder. In metadata nobody has one.
PATH_KINDS = (
    Kind("a path of somebody's machine", "path", r"(?:^|[^\w.~-])/(?:home|Users)/[\w.-]", in_texts=False),
    Kind(
        "a path of somebody's machine",
        "path",
        r"(?:^|[^\w.~-])/(?:root|tmp|var/folders|var/tmp)/[\w.-]",
        in_texts=False,
    ),
    Kind("a path of somebody's machine", "path", r"\b[A-Za-z]:[\\/]{1,2}Users[\\/]", in_texts=False),
    Kind("a path of somebody's machine", "path", r"\bfile:///", in_texts=False),
)


def known_secrets(named: Iterable[str] = ()) -> list[Kind]:
    """The secrets that this process holds: variables named like one or `named`, and the tokens that the Hub's client has saved."""
    from huggingface_hub import constants

    values: dict[str, str] = {}
    also = set(named)
    for name, value in os.environ.items():
        if name in also or name.upper().endswith(SECRET_NAMES):
            values.setdefault(value.strip(), f"the value of the environment variable {name}")
    for value in _saved_tokens(Path(constants.HF_TOKEN_PATH), Path(constants.HF_STORED_TOKENS_PATH)):
        values.setdefault(value, "the saved token of the Hub's client")
    kinds = []
    for value, name in values.items():
        # SSL_KEY and the like name a file; its path is no secret.
        if len(value) < SHORTEST_SECRET or value.lower() in PLACEHOLDERS or os.path.exists(value):
            continue
        for line in value.splitlines():
            if len(line.strip()) >= SHORTEST_SECRET:
                exact = re.escape(line.strip())
                alone = rf"(?:^|[^\w]){exact}(?:[^\w]|$)"
                kinds.append(Kind(name, "secret", alone if len(line.strip()) < ALONE_BELOW else exact))
    return kinds


def _saved_tokens(token: Path, stored: Path) -> list[str]:
    found = []
    with contextlib.suppress(OSError, UnicodeDecodeError):
        found.append(token.read_text(encoding="utf-8").strip())
    parser = configparser.ConfigParser(interpolation=None)
    with contextlib.suppress(OSError, UnicodeDecodeError, configparser.Error):
        parser.read(stored, encoding="utf-8")
        found += [parser[section].get("hf_token", "").strip() for section in parser.sections()]
    return [value for value in found if value]


def machine_places(places: Mapping[str, Path]) -> list[Kind]:
    """This machine's own folders: home, working and temporary folder, and `places`, each with what a finding calls it.

    A place that many machines share (one folder below `/`, an account that documentation names) counts in metadata only: a text that
    mentions it was not necessarily written here.
    """
    named = {
        "home folder": Path.home(),
        "working folder": Path.cwd(),
        "temporary folder": Path(tempfile.gettempdir()),
        **places,
    }
    kinds: dict[str, Kind] = {}
    for name, place in named.items():
        for text in (os.path.abspath(place), os.path.realpath(place)):
            parts = [part for part in re.split(r"[\\/]", text) if part]
            if not parts or text in kinds:
                continue
            shared = len(parts) == 1 or parts[-1].lower() in COMMON_USERS or parts in (["var", "tmp"], ["usr", "tmp"])
            exact = re.escape(text)
            begin, end = r"(?:^|[^\w.~-])", r"(?:[^\w-]|$)"
            # `/root cause` is no path: a single folder needs something below it, or to stand alone.
            pattern = rf"{begin}{exact}(?:[\\/][\w.]|[\"'])|^{exact}$" if len(parts) == 1 else f"{begin}{exact}{end}"
            kinds[text] = Kind(f"a path of this machine (its {name})", "path", pattern, in_texts=not shared)
    user = Path.home().name
    if len(user) >= 3 and user.lower() not in COMMON_USERS:
        below = rf"[\\/](?:home|Users|scratch|u)[\\/](?:[\w.-]+[\\/])?{re.escape(user)}\b"
        kinds["user"] = Kind("a path with this account's name", "path", below)
    return list(kinds.values())


def serial_kinds(serials: Iterable[str]) -> list[Kind]:
    """These SERIALNO, in capitals or not. The pattern is their forms only, as thousands of alternatives would slow the search tenfold."""
    known = frozenset(serial.upper() for serial in serials if len(serial) >= SHORTEST_SERIAL)
    forms = {_form(serial) for serial in known}
    if not forms:
        return []
    pattern = rf"\b(?i:{'|'.join(sorted(forms))})\b"

    def is_known(found: re.Match[str]) -> bool:
        return found[0].upper() in known and not (found[0].isdigit() and part_of_number(found))

    return [Kind("the SERIALNO of a drawn record", "census", pattern, is_known)]


def _form(serial: str) -> str:
    """Each run of digits becomes a pattern for as many digits."""
    return re.sub(r"\d+", lambda digits: f"[0-9]{{{len(digits[0])}}}", re.escape(serial), flags=re.ASCII)


def part_of_number(found: re.Match[str]) -> bool:
    """The digits before or behind a decimal point."""
    before, after = found.string[max(0, found.start() - 2) : found.start()], found.string[found.end() : found.end() + 2]
    return re.fullmatch(r"\d\.", before) is not None or re.fullmatch(r"\.\d", after) is not None


def endpoint_kinds(addresses: Iterable[str]) -> list[Kind]:
    """The endpoints that a build called, by address and by host, without those that everyone may know.

    A loopback address names no machine, so with its port it counts in metadata only; a host without a dot is a word, so it counts with
    `//` before it or a port behind it.
    """
    kinds: dict[str, Kind] = {}
    for address in addresses:
        parts = urlsplit(address)
        host = (parts.hostname or "").lower()
        if not host or host in PUBLIC_ENDPOINTS:
            continue
        exact = re.escape(host)
        if _is_loopback(host):
            pattern, in_texts = rf"//{re.escape(parts.netloc.rsplit('@', 1)[-1])}", False
        elif "." in host or ":" in host:
            pattern, in_texts = rf"(?i:(?:^|[^\w.-]){exact}(?:[^\w-]|$))", True
        else:
            pattern, in_texts = rf"(?i://{exact}(?:[^\w.-]|$)|\b{exact}:\d{{2,5}}\b)", True
        kinds[host] = Kind("the address of a private endpoint", "endpoint", pattern, in_texts=in_texts)
    return list(kinds.values())


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def combined_pattern(kinds: Sequence[Kind]) -> str:
    """One pattern that finds a text with any of the kinds; what it finds is looked at again by `kinds_in`."""
    return "|".join(dict.fromkeys(f"(?:{kind.pattern})" for kind in kinds))


def kinds_in(text: str, kinds: Sequence[Kind]) -> list[Kind]:
    """The kinds that the text holds, one of a name."""
    found: dict[str, Kind] = {}
    for kind in kinds:
        if kind.name not in found and any(kind.holds(match) for match in _compiled(kind.pattern).finditer(text)):
            found[kind.name] = kind
    return list(found.values())


def masked(text: str, kinds: Sequence[Kind]) -> str:
    """The text with *** for everything of these kinds: a place is named in a message, and a name can hold a secret."""
    for kind in kinds:
        done, parts = 0, []
        for match in _compiled(kind.pattern).finditer(text):
            if match.start() >= done and kind.holds(match):
                parts += [text[done : match.start()], "***"]
                # A pattern may end before the secret does.
                done = _compiled(r"[\w+/=.-]*").match(text, match.end()).end()  # type: ignore[union-attr]
        text = "".join([*parts, text[done:]])
    return text


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII)  # \w and \b mean ASCII to RE2
