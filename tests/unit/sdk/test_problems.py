"""Errors and the statuses they mean."""

import pytest

from pillion_sdk import problems
from pillion_sdk.headers import encode
from pillion_sdk.problems import ErrorTable, NotFound, Problem, RegistrationError, TooManyRequests


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("BadRequest", 400, "ERR_BAD_REQUEST"),
        ("Unauthorized", 401, "ERR_UNAUTHORIZED"),
        ("Forbidden", 403, "ERR_PERMISSION_DENIED"),
        ("NotFound", 404, "ERR_NOT_FOUND"),
        ("MethodNotAllowed", 405, "ERR_METHOD_NOT_ALLOWED"),
        ("Conflict", 409, "ERR_CONFLICT"),
        ("TooLarge", 413, "ERR_BODY_TOO_LARGE"),
        ("Unprocessable", 422, "ERR_UNPROCESSABLE"),
        ("TooManyRequests", 429, "ERR_TOO_MANY_REQUESTS"),
        ("Unavailable", 503, "ERR_UNAVAILABLE"),
        ("TimedOut", 504, "ERR_TIMED_OUT"),
    ],
)
def test_each_problem_has_a_status_and_a_code(name, status, code):
    """The class says the status and the code, and one instance may say another code."""
    kind = getattr(problems, name)

    assert (kind("m").status, kind("m").error_code) == (status, code)
    assert kind("m", error_code="ERR_MINE").error_code == "ERR_MINE"
    assert kind.error_code == code


@pytest.mark.parametrize(
    ("seconds", "sent"), [(1, "1"), (0.2, "1"), (2.5, "3"), (0, "0"), (-1, "0")]
)
def test_retry_after_is_in_whole_seconds(seconds, sent):
    """Retry-After is rounded up, so that nobody comes back too early."""
    assert encode(TooManyRequests("m", retry_after=seconds).headers) == [
        (b"retry-after", sent.encode())
    ]
    assert TooManyRequests("m").headers is None


class Missing(KeyError):
    pass


class VeryMissing(Missing):
    pass


def test_own_exceptions_mean_a_status():
    """A mapped class, and those derived from it, become a problem; the nearest mapping counts."""
    table = ErrorTable()
    table.add(Missing, 404, "ERR_MISSING", lambda error: f"no {error.args[0]}")

    problem = table.problem_for(VeryMissing("x"))
    assert problem is not None
    assert (problem.status, problem.error_code, problem.message) == (404, "ERR_MISSING", "no x")

    table.add(VeryMissing, 410, "ERR_GONE", str)
    problem = table.problem_for(VeryMissing("x"))
    assert problem is not None
    assert problem.status == 410


def test_problems_are_themselves_and_others_unexpected():
    """A Problem needs no mapping but may have one; any other exception is unexpected."""
    table = ErrorTable()
    missing = NotFound("m")

    assert table.problem_for(missing) is missing
    assert table.problem_for(ValueError("x")) is None

    table.add(NotFound, 410, "ERR_GONE", str)
    problem = table.problem_for(missing)
    assert isinstance(problem, Problem)
    assert problem.status == 410


@pytest.mark.parametrize("status", [200, 399, 600])
def test_an_error_has_an_error_status(status):
    """A status that is no error is refused."""
    with pytest.raises(RegistrationError, match="from 400 to 599"):
        ErrorTable().add(Missing, status, "X", str)


def test_a_class_is_mapped_once():
    """A second mapping of the same class is refused."""
    table = ErrorTable()
    table.add(Missing, 404, "X", str)
    with pytest.raises(RegistrationError, match="Missing is mapped"):
        table.add(Missing, 409, "Y", str)
