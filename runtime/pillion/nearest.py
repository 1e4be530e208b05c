"""The valid name nearest to a misspelt one, for error messages."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, names: Iterable[str]) -> str | None:
    """Return the one of ``names`` that ``word`` was probably meant to be, or None.

    A name that differs in case only wins; otherwise the most similar one does.
    """
    import difflib  # needed only once something is wrong

    folded: dict[str, str] = {}
    for name in names:
        folded.setdefault(name.casefold(), name)
    word = word.casefold()[:100]
    if word in folded:
        return folded[word]
    close = difflib.get_close_matches(word, folded, n=1, cutoff=0.6)
    return folded[close[0]] if close else None


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """Return ``; did you mean "name"?`` for the nearest of ``names``, or nothing."""
    name = nearest(word, names)
    return f'; did you mean "{name}"?' if name is not None else ""
