"""Which trace a call belongs to, beside what OpenTelemetry's own propagator makes of the same headers."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from container_manager.observability.call import request_id_of
from container_manager.observability.trace_context import TraceContext

GOOD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

hexadecimal = st.text("0123456789abcdefABCg", min_size=0, max_size=34)
nearly = st.builds(
    "-".join,
    st.lists(
        st.one_of(
            st.sampled_from(["00", "01", "ff", "0", "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "0" * 32]),
            hexadecimal,
        ),
        min_size=3,
        max_size=5,
    ),
)


@given(nearly)
@example(GOOD)
@example(GOOD.replace("-01", "-00"))
@example(GOOD.replace("-01", "-ff"))
@example(GOOD + "-more")
@example("cc" + GOOD[2:] + "-more")
@example("ff" + GOOD[2:])
@example(GOOD.upper())
@example(f" {GOOD} ")
@example("00-" + "0" * 32 + "-b7ad6b7169203331-01")
@example("00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01")
def test_a_traceparent_is_continued_where_opentelemetry_continues_it(header: str) -> None:
    theirs = get_current_span(TraceContextTextMapPropagator().extract({"traceparent": header})).get_span_context()
    ours = TraceContext.of_call([("traceparent", header)])
    if not theirs.is_valid:
        assert ours is not None
        assert 0 == ours.parent_id
    elif not theirs.trace_flags.sampled:
        assert ours is None
    else:
        assert ours is not None
        assert (theirs.trace_id, theirs.span_id) == (ours.trace_id, ours.parent_id)


def test_a_tracestate_goes_with_its_traceparent_alone() -> None:
    state = ("tracestate", "vendor=a")
    continued = TraceContext.of_call([state, ("traceparent", GOOD)])
    begun = TraceContext.of_call([state])
    assert continued is not None
    assert begun is not None
    assert ("vendor=a", "") == (continued.state, begun.state)


def test_no_two_calls_share_a_span() -> None:
    traces = [TraceContext.of_call([]) for _ in range(1000)]
    assert 1000 == len({(trace.trace_id, trace.span_id) for trace in traces if trace is not None})


@pytest.mark.parametrize("given_id", ["a", "x" * 128, "!~", "6f0d4b43-9b60"])
def test_a_request_id_of_visible_ascii_is_taken(given_id: str) -> None:
    assert given_id == request_id_of([("user-agent", "x"), ("x-request-id", given_id)])


@pytest.mark.parametrize("given_id", ["", "x" * 129, "a b", "a\tb", "ä", "a\x7f", b"bytes"])
def test_any_other_request_id_is_replaced(given_id: str | bytes) -> None:
    made = {request_id_of([("x-request-id", given_id)]) for _ in range(100)}
    assert 100 == len(made)
    assert given_id not in made
