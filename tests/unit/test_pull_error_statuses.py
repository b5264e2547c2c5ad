"""The meaning of the status in a failed pull: the registry's, in any wording, and the engine's own."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container_manager.engine.pull_errors import pull_error
from tests.unit.pull_wordings import ABSENT, DENIED, FAILED, GET, LATER, MISSING, RESOLVE, RETRY, Meaning


def by_number(status: int) -> Meaning:
    """The meaning of a registry's status, by the contract."""
    if status in {401, 402, 403, 407, 451}:
        return DENIED
    if status in {408, 425, 429} or (status >= 500 and status != 501):
        return RETRY
    return MISSING if status in {404, 410} else FAILED


# With {} for a status, and a misleading phrase behind it.
STATUS_WORDINGS = (
    "received unexpected HTTP status: {}",
    "received unexpected HTTP status: {} ",
    "received unexpected HTTP status: {} No Such Reason",
    "error parsing HTTP {} response body: invalid character 'x' looking for beginning of value: \"x\"",
    "unexpected status resolving reader: {} <none>",
    RESOLVE + "unexpected status from HEAD request to https://reg.test/v2/a/manifests/1: {} ",
    "failed to copy: httpReadSeeker: failed open: unexpected status from GET request to https://reg.test:403/a: {} Oh",
    "unexpected status code https://reg.test/v2/a/blobs/sha256:404: {}",
    'reading manifest 1 in reg.test/a: StatusCode: {}, "oh"',
    "login attempt to https://reg.test/v2/ failed with status: {} Oh",
    "invalid status code from registry {} (Oh)",
    "Invalid status code returned when fetching blob {} (Oh)",
    "the gateway of reg.test said: {}",
)


@given(st.integers(400, 599), st.sampled_from(STATUS_WORDINGS))
def test_a_status_in_any_wording_counts_by_its_number(status: int, wording: str) -> None:
    assert by_number(status) is type(pull_error(wording.format(status), "reg.test/a:1"))


@pytest.mark.parametrize("status", [status for status in HTTPStatus if status >= 400 and by_number(status) != MISSING])
@pytest.mark.parametrize("wording", [GET + "{}", "{}", "failed to copy: {}: oh"])
def test_the_name_of_a_status_counts_as_its_number(status: HTTPStatus, wording: str) -> None:
    """Go tells no more of a proxy's answer to CONNECT. What a proxy does not find may be the registry."""
    # The names of other errors of servers are also said of images.
    expected = FAILED if status in {501, *range(505, 511)} else by_number(status)
    assert expected is type(pull_error(wording.format(status.phrase), "reg.test/a:1", 500))


@pytest.mark.parametrize(
    ("status", "text", "meaning"),
    [
        (401, "oh", DENIED),
        (403, "oh", DENIED),
        (429, LATER, RETRY),
        (503, "oh", RETRY),
        (404, "oh", MISSING),
        (404, ABSENT, DENIED),
        (404, "repository does not exist", MISSING),
        # The engine's own fault, or a text that it did not recognise.
        (500, "oh", FAILED),
        (500, GET + "EOF", RETRY),
        (400, "invalid reference format", FAILED),
        # What the registry answered counts before what the engine makes of it.
        (404, "received unexpected HTTP status: 503 Service Unavailable", RETRY),
        (503, "unauthorized: authentication required", DENIED),
        (None, "oh", FAILED),
        (0, "oh", FAILED),
    ],
)
def test_the_engines_status_counts_where_the_text_has_no_status_and_no_code(
    status: int | None, text: str, meaning: Meaning
) -> None:
    assert meaning is type(pull_error(text, "reg.test/a:1", status))
