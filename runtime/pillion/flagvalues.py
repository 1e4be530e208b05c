"""What the texts after flags mean; each reader raises Invalid with the rest of a sentence.

``must be a port from 0 to 65535`` becomes ``--app-port must be …, not 'x'`` in ``flags.py``.
"""

from __future__ import annotations

import re
from pathlib import Path

from pillion.config.values import duration, quantity
from pillion.errors import Invalid

BALANCERS = ("peak-ewma", "round-robin", "random")
LEVELS = {
    "debug": "debug",
    "info": "info",
    "warn": "warning",
    "warning": "warning",
    "error": "error",
    "fatal": "error",
}


def port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise Invalid("must be a port from 0 to 65535")
    return int(text)


def number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise Invalid("must be a whole number") from None


def limit(text: str) -> int:
    # daprd takes whatever is not positive for "no limit".
    return count if (count := number(text)) > 0 else -1


def switch(text: str) -> bool:
    lowered = text.lower()
    if lowered in ("1", "t", "true"):
        return True
    if lowered in ("0", "f", "false"):
        return False
    raise Invalid("must be true or false")


def names(text: str) -> tuple[str, ...]:
    return tuple(name for part in text.split(",") if (name := part.strip()))


def init_endpoints(text: str) -> frozenset[str]:
    return frozenset(one_of(name, ("config", "subscribe")) for name in names(text))


def app_id(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_-]{1,128}", text) is None:
        raise Invalid("must be up to 128 letters, digits, '-' and '_', without '.'")
    return text


def domain(text: str) -> str:
    # The characters of a SPIFFE trust domain and path segment (SPIFFE-ID, sections 2.1 and 2.2).
    if re.fullmatch(r"[A-Za-z0-9_.-]+", text) is None or text in (".", ".."):
        raise Invalid("must be letters, digits, '-', '_' and '.'")
    return text


def label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise Invalid("must be key=value")
    return key, value


def folder(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_dir():
        raise Invalid("must be a folder that exists")
    return path


def file(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_file():
        raise Invalid("must be a file that exists")
    return path


def protocol(text: str) -> str:
    if text in ("grpc", "grpcs", "h2c"):
        raise Invalid("must be http or https (others are not supported yet)")
    return one_of(text, ("http", "https"))


def mode(text: str) -> str:
    if text == "kubernetes":
        raise Invalid("must be standalone (kubernetes is not supported yet)")
    return one_of(text, ("standalone",))


def level(text: str) -> str:
    return LEVELS[one_of(text.lower(), tuple(LEVELS))]


def balancer(text: str) -> str:
    return one_of(text, BALANCERS)


def one_of(text: str, known: tuple[str, ...]) -> str:
    if text not in known:
        raise Invalid(f"must be one of {', '.join(known)}")
    return text


def body_limit(text: str) -> int:
    limit = quantity(text)
    if limit == 0:
        raise Invalid("must be a size above 0, or -1 for no limit")
    return max(limit, -1)


def head_limit(text: str) -> int:
    limit = quantity(text)
    if limit <= 0:
        raise Invalid("must be a size above 0: header blocks are kept in memory")
    return limit


def megabytes(text: str) -> int:
    return body_limit(text) if number(text) < 0 else body_limit(f"{text}Mi")


def kilobytes(text: str) -> int:
    number(text)
    return head_limit(f"{text}Ki")


def seconds(text: str) -> float:
    return duration(text, unit=1.0)


def milliseconds(text: str) -> float:
    return duration(text, unit=0.001)


def lease(text: str) -> float:
    seconds = duration(text, unit=1.0)
    if seconds == 0:
        raise Invalid("must be a duration above 0")
    return seconds
