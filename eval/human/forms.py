"""What a request brings, taken from browsers that may send anything: its form, its address, numbers, a password."""

import base64
import binascii
import hmac
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

MOST_FIELDS = 20  # of a form; ours has five
Fields = Mapping[str, str]


async def read_form(request: Any) -> Fields:
    """A form as browsers send it; of a field given twice the last. Bytes that are no UTF-8 become U+FFFD."""
    from fastapi import HTTPException

    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise HTTPException(415)
    try:
        pairs = parse_qsl(
            (await request.body()).decode("latin-1"),
            keep_blank_values=True,
            errors="replace",
            max_num_fields=MOST_FIELDS,
        )
    except ValueError:
        raise HTTPException(422) from None
    return dict(pairs)


def address_of(request: Any, proxies: int) -> str:
    """Whom to count failures by. Kept in memory only, for a minute, and written nowhere."""
    hops = [hop.strip() for hop in ",".join(request.headers.getlist("x-forwarded-for")).split(",") if hop.strip()]
    # Counted from the end, which our own proxies wrote; what stands before it the visitor may have made up.
    if proxies and len(hops) >= proxies:
        return str(hops[-proxies])
    return str(request.client.host) if request.client else ""


def question_number(text: str) -> int | None:
    """A question's number, from 1; None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and 0 < len(text) < 6 and int(text) > 0 else None


def characters_pasted(text: str) -> int:
    """Of a number with very many digits the first nine: no text is so long."""
    return int(text.lstrip("0")[:9] or 0) if text.isascii() and text.isdigit() else 0


def is_password(authorization: str, password: str) -> bool:
    """`Basic` of RFC 7617, with any user name; compared in a time that does not tell how much of it was right."""
    kind, _, coded = authorization.partition(" ")
    try:
        given = base64.b64decode(coded.strip(), validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return False
    return kind.lower() == "basic" and hmac.compare_digest(given, password.encode())
