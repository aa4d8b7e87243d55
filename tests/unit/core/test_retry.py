"""The retry policy as a table: every class of error, every status, and how long to wait."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from getm import errors
from getm.core.retry import Fail, Retries, Retry, cause, is_transient

POLICY = Retries()

# What the same request may overcome, and what stays as it is.
TRANSIENT = {
    errors.NetworkError,
    errors.ConnectFailed,
    errors.TimedOut,
    errors.Truncated,
    errors.BadResponse,
}
FINAL = {
    errors.GetmError,
    errors.InvalidInput,
    errors.NothingFound,
    errors.MissingExtra,
    errors.NothingFound,
    errors.HostNotFound,
    errors.ProxyRefused,
    errors.TLSFailed,
    errors.URLExpired,
    errors.ResolveFailed,
    errors.HTTPStatusError,
    errors.RangesRefused,
    errors.RedirectError,
    errors.RemoteChanged,
    errors.IntegrityError,
    errors.ChecksumMismatch,
    errors.SizeMismatch,
    errors.Unverified,
    errors.ReaderClosed,
    errors.Cancelled,
    errors.DescriptorsExhausted,
    errors.CommandFailed,
    errors.EngineDied,
    errors.NotSeekable,
    errors.ReaderBusy,
    errors.ProtocolError,
    errors.SlotsExhausted,
    errors.MemoryUnavailable,
    errors.TargetError,
    errors.FormatError,
    errors.WorkerLost,
}
TRANSIENT_STATUSES = {408, 425, 429, 500, 502, 503, 504, 509, 520, 521, 522, 523, 524, 529}


def subclasses(cls: type[errors.GetmError]) -> set[type[errors.GetmError]]:
    return {cls, *(found for sub in cls.__subclasses__() for found in subclasses(sub))}


def status_error(status: int, cls: type[errors.GetmError] = errors.HTTPStatusError) -> errors.GetmError:
    return cls(f"the server answered {status}", status=status, reason="")


def test_every_class_of_error_is_decided_on_here() -> None:
    known = {cls for cls in subclasses(errors.GetmError) if cls.__module__ == "getm.errors"}
    assert known == TRANSIENT | FINAL


CAUSES = [
    (errors.ConnectFailed("x"), "connect"),
    (errors.TimedOut("x", phase="connect"), "connect"),
    (errors.TLSFailed("x"), "tls"),
    (errors.NetworkError("x"), "reset"),
    (errors.Truncated("x"), "truncation"),
    (errors.TimedOut("x", phase="response"), "stall"),
    (errors.TimedOut("x", phase="body"), "stall"),
    (errors.TimedOut("x", phase="pace"), "slow"),
    (errors.TimedOut("x", phase="total"), "deadline"),
    (errors.HTTPStatusError("x", status=503), "status"),
    (errors.URLExpired("x", status=403), "status"),
    (errors.RemoteChanged("x"), "changed"),
    (errors.RedirectError("x"), "redirect"),
    (errors.BadResponse("x"), "bad response"),
    (errors.EngineDied("x"), "engine-died"),
    (errors.ChecksumMismatch("x"), "checksum-mismatch"),
]


@pytest.mark.parametrize(("failure", "expected"), CAUSES, ids=lambda value: getattr(value, "code", value))
def test_causes(failure: errors.GetmError, expected: str) -> None:
    assert cause(failure) == expected


def test_every_network_error_has_its_own_cause() -> None:
    """Only a plain one is a connection that broke."""
    kinds = subclasses(errors.NetworkError) - {errors.NetworkError}
    assert all(cause(kind("x")) != "reset" for kind in kinds if kind.__module__ == "getm.errors")


def test_only_what_may_pass_is_tried_again() -> None:
    for cls in TRANSIENT | FINAL:
        error = cls("x")
        assert is_transient(error) is (cls in TRANSIENT), cls
        assert isinstance(POLICY.decide(error, 1, jitter=0.5), Retry) is (cls in TRANSIENT), cls
        # A server's Retry-After does not make a lasting failure a passing one.
        again = POLICY.decide(error, 1, jitter=0.5, retry_after_s=1.0)
        assert isinstance(again, Retry) is (cls in TRANSIENT), cls


def test_statuses() -> None:
    transient = {status for status in range(100, 600) if is_transient(status_error(status))}
    assert transient == TRANSIENT_STATUSES
    assert not any(is_transient(status_error(status, errors.URLExpired)) for status in (401, 403))


@given(st.integers(0, 20), st.integers(1, 40), st.floats(0, 1), st.none() | st.floats(0, 100))
def test_as_many_attempts_as_were_asked_for(
    attempts: int, attempt: int, jitter: float, retry_after_s: float | None
) -> None:
    verdict = Retries(attempts=attempts).decide(
        errors.Truncated("x"), attempt, jitter=jitter, retry_after_s=retry_after_s
    )
    assert isinstance(verdict, Retry) is (attempt <= attempts)


def test_the_first_failure_of_a_connection_is_retried_at_once_and_that_of_a_server_is_not() -> None:
    assert POLICY.decide(errors.NetworkError("reset"), 1, jitter=1.0) == Retry(0.0)
    assert POLICY.decide(status_error(503), 1, jitter=1.0) == Retry(0.5)
    assert POLICY.decide(errors.NetworkError("reset"), 2, jitter=1.0) == Retry(1.0)


def test_the_longest_delays_double_up_to_the_cap() -> None:
    policy = Retries(attempts=9)
    delays = [policy.decide(status_error(503), attempt, jitter=1.0) for attempt in range(1, 11)]
    assert delays == [*map(Retry, (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0)), Fail()]


@given(st.integers(1, 1000), st.floats(0, 1), st.floats(0.01, 10), st.floats(0.01, 100))
def test_jitter_spreads_the_delay_over_all_of_its_range(
    attempt: int, jitter: float, base_s: float, cap_s: float
) -> None:
    policy = Retries(attempts=1000, base_s=base_s, cap_s=cap_s)
    longest = policy.decide(status_error(503), attempt, jitter=1.0)
    drawn = policy.decide(status_error(503), attempt, jitter=jitter)
    assert isinstance(longest, Retry) and isinstance(drawn, Retry)
    assert longest.delay_s == min(cap_s, base_s * 2.0 ** (attempt - 1))
    assert drawn.delay_s == pytest.approx(jitter * longest.delay_s)
    assert policy.decide(status_error(503), attempt, jitter=0.0) == Retry(0.0)


@given(st.integers(1, 5), st.floats(0, 1), st.floats(0, 1e12))
def test_retry_after_is_honoured_up_to_the_cap_and_not_jittered(
    attempt: int, jitter: float, retry_after_s: float
) -> None:
    for failure in (status_error(503), errors.Truncated("x")):
        verdict = POLICY.decide(failure, attempt, jitter=jitter, retry_after_s=retry_after_s)
        assert verdict == Retry(min(retry_after_s, 30.0))


def test_ten_thousand_attempts_are_no_problem() -> None:
    assert Retries(attempts=10_000).decide(status_error(503), 9_999, jitter=1.0) == Retry(30.0)


# The deadline of the whole -------------------------------------------------------------------------------------------


@given(st.integers(1, 5), st.floats(0, 1), st.none() | st.floats(0, 100), st.floats(-10, 100))
def test_no_retry_waits_beyond_the_deadline(
    attempt: int, jitter: float, retry_after_s: float | None, left_s: float
) -> None:
    free = POLICY.decide(status_error(503), attempt, jitter=jitter, retry_after_s=retry_after_s)
    bound = POLICY.decide(status_error(503), attempt, jitter=jitter, retry_after_s=retry_after_s, left_s=left_s)
    assert isinstance(free, Retry)
    assert bound == (free if free.delay_s < left_s else Fail(late=True))


def test_what_is_final_is_not_called_late() -> None:
    assert POLICY.decide(status_error(404), 1, jitter=1.0, left_s=0.0) == Fail()
    assert POLICY.decide(status_error(503), 6, jitter=1.0, left_s=0.0) == Fail()


# What a caller may give ----------------------------------------------------------------------------------------------


def test_a_number_means_attempts() -> None:
    default = Retries(7, 0.1, 0.2)
    assert Retries.of(None, default) == default
    assert Retries.of(2, default) == Retries(2, 0.1, 0.2)
    assert Retries.of(Retries(1), default) == Retries(1, 0.5, 30.0)


@pytest.mark.parametrize(
    "value",
    [
        -1,
        1.5,
        True,
        "3",
        10**7,
    ],
)
def test_what_cannot_be_used_is_refused(value: int) -> None:
    with pytest.raises(errors.InvalidInput, match="retries"):
        Retries.of(value, Retries())


@given(st.frozensets(st.integers(100, 999)), st.integers(100, 999))
def test_case_27_which_statuses_may_pass_is_the_callers_to_say(statuses: frozenset[int], status: int) -> None:
    policy = Retries(statuses=statuses)
    retried = isinstance(policy.decide(status_error(status), 1, jitter=0.0), Retry)
    assert retried == (status in statuses)
    # Whatever else may pass is not concerned.
    assert isinstance(policy.decide(errors.Truncated("x", received=0), 1, jitter=0.0), Retry)


def test_case_27_any_collection_of_statuses_will_do() -> None:
    assert Retries(statuses=[500, 500, 599]).statuses == {500, 599}  # type: ignore[arg-type]  # as a caller may
    assert Retries(statuses=range(500, 600)).statuses == {*range(500, 600)}  # type: ignore[arg-type]
    assert not isinstance(Retries(statuses=frozenset()).decide(status_error(503), 1, jitter=0.0), Retry)


@pytest.mark.parametrize("statuses", ["503", 503, None, [True], [503.0], ["503"], [99], [1000], [-1]])
def test_case_27_what_is_no_status_is_refused(statuses: Any) -> None:
    with pytest.raises(errors.InvalidInput, match="retries: "):
        Retries(statuses=statuses)


def test_case_34_what_a_proxy_answers_is_judged_like_what_a_server_does() -> None:
    for status in range(100, 600):
        refused = errors.ProxyRefused("x", status=status, reason="")
        assert is_transient(refused) == (status in TRANSIENT_STATUSES)
        assert cause(refused) == "connect"
