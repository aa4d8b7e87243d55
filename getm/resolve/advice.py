"""What to do about a refusal, as the resolver of a name knows it."""

from __future__ import annotations

from copy import copy

from getm.errors import GetmError, HTTPStatusError

# How servers refuse what is not for everybody: some as if it were not there, and Azure by a conflict with its settings.
_REFUSED = frozenset({401, 403, 404, 409})


def advised(error: GetmError, advice: str) -> GetmError:
    """`error` with the advice, where a server has refused; the same one otherwise."""
    if not advice or not isinstance(error, HTTPStatusError) or error.status not in _REFUSED:
        return error
    # Errors are shared by those who wait for the same.
    other = copy(error)
    other.__cause__ = error.__cause__
    other.message += f"; {advice}"
    return other
