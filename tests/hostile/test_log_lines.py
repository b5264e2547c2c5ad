"""Whatever is in a request, and whatever the engine says of it, each line of the log is one record, in both formats."""

from __future__ import annotations

import itertools
import json
import re
import string
import unicodedata
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from container_manager.rpc.services import SERVICES
from container_manager_client import connect
from tests.hostile.wild_values import KNOWN_IDS, keys, requests
from tests.support.fake_engine import FakeEngine, Raw, error
from tests.support.serving import ServerProcess, server_process
from tests.support.waiting import wait_until

METHODS = [method for service in SERVICES.values() for method in service.methods]
STATUS = next(method for method in METHODS if method.name == "GetContainerStatus")
EXAMPLES = 50
CALL_SECONDS = 0.5
# A line separator and the half of a surrogate pair, in as many bytes: no client sends the half, which is not UTF-8.
SEPARATOR, HALF = b"\xe2\x80\xa8", b"\xed\xa0\x80"
BEGINNING = re.compile(r"\d{4}(-\d\d){2}T(\d\d:){2}\d\d\.\d{6}Z \[(debug|info|warning|error) *\] \S")


class Call(NamedTuple):
    """A call to make."""

    method: MethodDescriptor
    request: bytes
    request_id: str

    def __repr__(self) -> str:
        return self.method.name


class Subject:
    """A service and its log; the engine refuses everything with an error that has the request in its text."""

    def __init__(self, process: ServerProcess, channel: grpc.Channel, engine: FakeEngine, log_format: str) -> None:
        self._channel = channel
        self._log = process.log
        self._engine = engine
        self._check = assert_json if log_format == "json" else assert_text
        self._numbers = itertools.count()
        self._checked = 0

    def call(self, calls: Sequence[Call], status: int) -> None:
        """Make the calls at once, and check what the log has since the ones before."""
        for verb in ("GET", "POST", "PUT", "DELETE"):
            self._engine.on(verb, "*", lambda each: error(status, f"{each.path} {each.query} {each.body}"))
        self._engine.on("GET", "/_ping", Raw(b"OK"))
        with ThreadPoolExecutor(len(calls)) as pool:
            list(pool.map(partial(self._call, CALL_SECONDS), calls))
        # Under load, a call may end before the service knows of it. The service knows of this one.
        last = f"last-{next(self._numbers)}-"
        self._call(60, Call(STATUS, b"", last))
        new = wait_until(lambda: self._since(last), "the last call's line")
        self._checked += len(new)
        for line in new.decode().removesuffix("\n").split("\n"):
            assert not {each for each in line if unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp")}, line
            assert "forged" not in line
            self._check(line)

    def _call(self, seconds: float, call: Call) -> None:
        method = call.method
        prepare = self._channel.unary_stream if method.server_streaming else self._channel.unary_unary
        send = prepare(f"/{method.containing_service.full_name}/{method.name}")
        with suppress(grpc.RpcError):
            answer: Any = send(call.request, timeout=seconds, metadata=(("x-request-id", call.request_id),))
            if method.server_streaming:
                list(answer)

    def _since(self, request_id: str) -> bytes:
        """The complete lines since the calls before, if they have that of a call with this id among them."""
        with self._log.open("rb") as log:
            log.seek(self._checked)
            new = log.read()
        new = new[: new.rfind(b"\n") + 1]
        return new if request_id.encode() in new else b""

    def methods(self) -> set[str]:
        """The RPCs that the log has."""
        return set(re.findall(r"/botmaker\.container\.v1\.\w+/(\w+)", self._log.read_text()))


def assert_text(line: str) -> None:
    """A record for people. No error of the service is expected, so there is no traceback either."""
    assert BEGINNING.match(line), line


def assert_json(line: str) -> None:
    """A record for programs, in the JSON that all parsers know."""

    def refuse(name: str) -> NoReturn:
        raise AssertionError(name)

    record = json.loads(line, parse_constant=refuse)
    assert {"event", "level", "logger", "timestamp"} <= set(record)


@pytest.fixture(scope="module", params=["text", "json"])
def subject(
    request: pytest.FixtureRequest, session_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Subject]:
    directory = tmp_path_factory.mktemp("lines")
    KNOWN_IDS[:] = [str(uuid.uuid4()) for _ in range(3)]
    with FakeEngine() as engine:
        arguments = ["--listen", f"unix://{session_dir}/lines/s.sock", "--docker-host", engine.url]
        for root, mode in (("secrets", 0o711), ("state", 0o711), ("backup", 0o700)):
            (directory / root).mkdir(mode=mode)
            arguments += [f"--{root}-root", str(directory / root)]
        for bot_id in KNOWN_IDS:
            (directory / "secrets" / bot_id).mkdir(mode=0o711)
        arguments += ["--log-format", request.param, "--log-level", "debug", "--drain-seconds", "1"]
        with (
            server_process(arguments, directory / "log") as process,
            connect(process.line.split()[-1]) as channel,
        ):
            yield Subject(process, channel, engine, request.param)


@st.composite
def calls(draw: Any) -> list[Call]:
    """A call of every RPC."""
    made = []
    for method in METHODS:
        make = GetMessageClass(method.input_type)
        every = keys(make)
        wild = {draw(st.sampled_from(every))} if every and draw(st.booleans()) else set(every)
        data = draw(requests(make, wild)).SerializeToString()
        data = data.replace(SEPARATOR, HALF) if draw(st.booleans()) else data
        # The service takes no other characters in these.
        own_id = draw(st.text(string.ascii_letters + string.digits + string.punctuation, max_size=60))
        made.append(Call(method, data, own_id))
    return made


# Requests have the largest texts that are allowed.
@pytest.mark.filterwarnings("ignore:Generating overly large repr")
def test_any_text_in_any_field_of_any_request_leaves_each_line_of_the_log_one_record(subject: Subject) -> None:
    # The line that is wrong says all; to make its request smaller would take minutes.
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(calls(), st.sampled_from((400, 404, 409, 500)))
    def each(made: list[Call], status: int) -> None:
        subject.call(made, status)

    each()
    assert {method.name for method in METHODS} == subject.methods()
