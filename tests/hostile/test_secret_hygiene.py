"""Secrets occur in their files, and nowhere else.

They are not in logs, errors, answers, metrics, spans, the engine, or the data of the process.
"""

from __future__ import annotations

import base64
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from botmaker.container.v1 import bot_provisioner_pb2 as provisioner_pb
from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb
from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager_client import connect
from tests.fuzz.attack import Attack, attack
from tests.fuzz.conversations import GOAWAY, Call, Frame, calls, conversation, encoded
from tests.hostile.secret_traces import forms, seeded_secrets, traces
from tests.support.bots import Bots
from tests.support.calls import FOREVER, Calls
from tests.support.faulty_registry import FaultyRegistry, Status
from tests.support.scraping import ended, scrape
from tests.support.span_receiver import SpanReceiver, attributes
from tests.support.waiting import wait_until

SEED = 1
METRICS_URL = re.compile(r"http://127\.0\.0\.1:[0-9]+/metrics")
TOKEN = "token-%s-{0}-" + "7f3a9c51d2e84b06"
REGISTRY_PASSWORD = "password-%s-{0}-" + "b04c6e17a92d5f83"


class Heard:
    """Collects everything that callers, the engine and the machine receive."""

    def __init__(self) -> None:
        self.text = bytearray()
        self.reasons: list[str] = []

    def of(self, call: Callable[[], Any]) -> Any:
        """Collect the call's answer, or its error with the metadata; return the answer."""
        try:
            answer = call()
        except grpc.RpcError as exc:
            self.reasons.append(exc.code().name)
            self.add(f"{exc!r} {exc.details()}")
            for _, value in exc.trailing_metadata():
                self.add(value)
            return None
        self.add(answer.SerializeToString() if hasattr(answer, "SerializeToString") else str(answer))
        return answer

    def add(self, text: str | bytes) -> None:
        self.text += text.encode() if isinstance(text, str) else text
        self.text += b"\n"


@pytest.fixture
def secrets() -> dict[str, bytes]:
    return seeded_secrets(SEED)


def put(bots: Bots, bot_id: str, secrets: dict[str, bytes]) -> None:
    for name, content in secrets.items():
        (bots.secrets_root / bot_id / name).write_bytes(content)


@pytest.fixture
def keeper(bots: Bots, secrets: dict[str, bytes]) -> str:
    """A bot with the seeded secrets."""
    bot_id = bots.new()
    put(bots, bot_id, secrets)
    return bot_id


@pytest.fixture
def receiver() -> Iterator[SpanReceiver]:
    """The collector of the service's spans."""
    with SpanReceiver() as receiver:
        yield receiver


@pytest.fixture
def denying_registry() -> Iterator[FaultyRegistry]:
    """A registry that denies every pull, whoever asks."""
    with FaultyRegistry() as registry:
        registry.fail("manifest", Status(403, "Forbidden", b"denied", "text/html"))
        yield registry


@pytest.fixture
def registry_config(tmp_path: Path, denying_registry: FaultyRegistry) -> Path:
    """A file with REGISTRY_PASSWORD for that registry, and with it in an entry that is not as it should be."""
    auth = base64.b64encode(f"user:{REGISTRY_PASSWORD}".encode()).decode()
    path = tmp_path / "registries.json"
    odd = {"auth": f"user:{REGISTRY_PASSWORD}"}
    path.write_text(json.dumps({"auths": {denying_registry.address: {"auth": auth}, "odd.invalid": odd}}))
    return path


@pytest.fixture(params=["text", "json"])
def options(
    request: pytest.FixtureRequest, test_image: str, receiver: SpanReceiver, registry_config: Path
) -> list[str]:
    """Options with which the service logs and exports as much as it can."""
    log = ["--log-level", "debug", "--log-format", request.param]
    observed = ["--metrics-listen", "127.0.0.1:0", "--otlp-endpoint", receiver.endpoint]
    services = ["--services", "tcp://127.0.0.1:0=manager,observer,provisioner"]
    pulls = ["--default-image", test_image, "--pull", "missing", "--registry-config", str(registry_config)]
    return [*log, *observed, *services, *pulls]


@pytest.fixture
def service(engine_url: str, secrets_root: Path, session_dir: Path, options: list[str]) -> Iterator[Attack]:
    """A service with these options, and with the token to search for."""
    directory = Path(tempfile.mkdtemp(prefix="h", dir=session_dir))
    with attack(engine_url, secrets_root, directory, SEED, token=TOKEN, further=options) as attacked:
        yield attacked


def provoke_pulls(heard: Heard, rpc: Calls, registry: FaultyRegistry, bot_id: str) -> None:
    """Have pulls fail that have the registry's password, and some for which it cannot be read."""
    for image in (f"{registry.address}/bots/any:1", "odd.invalid/bots/any:1"):
        heard.of(lambda image=image: rpc.create(bot_id, image=image))
    assert b"IMAGE_PULL_DENIED" in heard.text
    assert b"IMAGE_PULL_FAILED" in heard.text


def provoke(heard: Heard, rpc: Calls, observer: ContainerObserverStub, bots: Bots, bot_id: str) -> None:
    """Run through the life of a bot, with every failure that is easy to cause."""
    own = bots.secrets_root / bot_id
    with_config = (
        {"network": "no-such"},
        {"image": "UPPER"},
        {"image": "127.0.0.1:1/no/such:1"},
        {"extra_hosts": {"-": "x"}},
    )
    for config in (*with_config, {"resources": pb.ResourceLimits(memory_bytes=1)}, {"environment": {"A=B": "x"}}):
        heard.of(lambda config=config: rpc.create(bot_id, *FOREVER, **config))
    heard.of(lambda: rpc.create(bot_id, "no-such-command"))
    heard.of(lambda: rpc.start(bot_id))
    heard.of(lambda: rpc.create(bot_id, *FOREVER))
    heard.of(lambda: rpc.remove(bot_id, grace=0))
    heard.of(lambda: rpc.start(bot_id))
    heard.of(lambda: rpc.create(bot_id, "sh", "-c", "ls -l /run/secrets; exec sleep 100000"))
    own.rename(own.with_suffix(".away"))
    for spoil, undo in ((own.touch, own.unlink), (lambda: own.symlink_to(own.with_suffix(".away")), own.unlink)):
        spoil()
        heard.of(lambda: rpc.start(bot_id))
        undo()
    own.with_suffix(".away").rename(own)
    for verb in (rpc.start, rpc.status):
        heard.of(lambda verb=verb: verb(bot_id))
    heard.of(lambda: rpc.stop("not-a-bot"))
    heard.of(rpc.list)
    bots.wait_for_log(bot_id, b"GATEWAY_TOKEN")
    for message in observer.StreamLogs(observer_pb.StreamLogsRequest(bot_id=bot_id)):
        heard.add(message.SerializeToString())
    watch = observer.WatchContainers(observer_pb.WatchContainersRequest(bot_ids=[bot_id]))
    heard.of(lambda: next(watch))
    heard.of(lambda: rpc.restart(bot_id, grace=0))
    heard.of(lambda: next(watch))
    watch.cancel()
    heard.add(json.dumps(bots.inspect(bot_id)))
    heard.of(lambda: rpc.remove(bot_id, grace=0))


def provision(heard: Heard, stub: BotProvisionerStub, rpc: Calls, bots: Bots, secrets: dict[str, bytes]) -> None:
    """Put the secrets, and cause every failure of BotProvisioner that is easy to cause, with them in the request."""
    bot_id = bots.bare()
    own = bots.secrets_root / bot_id
    texts = [value.decode("latin-1") for value in secrets.values()]

    def put(secrets: dict[str, bytes], of: str = bot_id) -> None:
        heard.of(lambda: stub.PutSecrets(provisioner_pb.PutSecretsRequest(bot_id=of, secrets=secrets), timeout=60))

    def put_files(files: dict[str, bytes]) -> None:
        heard.of(lambda: stub.PutFiles(provisioner_pb.PutFilesRequest(bot_id=bot_id, files=files), timeout=60))

    put(secrets)
    assert all((own / name).read_bytes() == content for name, content in secrets.items())
    heard.of(lambda: stub.ListSecrets(provisioner_pb.ListSecretsRequest(bot_id=bot_id), timeout=60))
    heard.of(lambda: rpc.run(bot_id, *FOREVER))
    put({"GATEWAY_TOKEN": b"another"})
    # The token before goes into the container; the image has no program for it.
    heard.of(lambda: stub.ReloadSecrets(provisioner_pb.ReloadSecretsRequest(bot_id=bot_id), timeout=60))
    heard.add(json.dumps(bots.inspect(bot_id)))
    heard.of(lambda: rpc.remove(bot_id, grace=0))
    put(secrets, of="not-a-bot")
    put({"A": b"".join(secrets.values()) * 1000})
    put({f"N{number}": content for number in range(70) for content in secrets.values()})
    # Names and values mistaken for one another.
    put(dict.fromkeys(texts, b""))
    heard.of(lambda: stub.DeleteSecrets(provisioner_pb.DeleteSecretsRequest(bot_id=bot_id, names=texts), timeout=60))
    # This service keeps no state.
    put_files(secrets)
    put_files({"..": b"".join(secrets.values())})
    own.rename(own.with_suffix(".away"))
    own.symlink_to(own.with_suffix(".away"))
    put(secrets)
    own.unlink()
    own.with_suffix(".away").rename(own)
    next(iter(own.iterdir())).unlink()
    (own / next(iter(secrets))).unlink(missing_ok=True)
    (own / next(iter(secrets))).mkdir()
    put(secrets)
    (own / next(iter(secrets))).rmdir()
    mode = bots.secrets_root.stat().st_mode
    bots.secrets_root.chmod(0o777)
    put(secrets)
    bots.secrets_root.chmod(mode)
    with pytest.raises(grpc.RpcError):
        stub.PutSecrets(provisioner_pb.PutSecretsRequest(bot_id=bot_id, secrets=secrets), timeout=0.0001)


def misuse(service: Attack, secrets: dict[str, bytes], stub: ContainerManagerStub) -> None:
    """Send secrets as careless callers do: the answer may repeat what they sent, the log must not."""
    token = TOKEN.encode()
    for value in (*secrets.values(), token):
        text = value.decode("latin-1")
        for message in (
            pb.CreateContainerRequest(bot_id=text),
            pb.CreateContainerRequest(bot_id=text, request_id=text, config=pb.ContainerConfig(image=text)),
        ):
            with suppress(grpc.RpcError):
                stub.CreateContainer(message, timeout=60)
    status = calls()[5]
    # Bytes that are no messages, headers that are almost right, and input that gRPC's core repeats in its errors.
    hostile = [conversation([Call(status.path, value)]) for value in secrets.values()]
    hostile += [
        conversation([Call(status.path, status.message, ((b"authorization", value),))])
        for value in (b"Bearer " + token + b"\xff", b"Bearer " + token + b"x", b"Basic " + base64.b64encode(token))
    ]
    hostile += [(*conversation([status]), Frame(GOAWAY, 0, 0, bytes(7) + b"\2Bearer " + token))]
    hostile += [conversation([Call(path + token, b"")]) for path in (b"/no.Such/", status.path + b"\r\n")]
    for unix in (True, False):
        for frames in hostile:
            with service.connected(unix=unix) as connection, suppress(OSError):
                connection.sendall(encoded(frames))
                while connection.recv(1 << 16):
                    connection.settimeout(0.1)


def metrics_of(service: Attack) -> str:
    """All metrics that the service exposes."""
    found = wait_until(lambda: METRICS_URL.search(service.process.log_text()), "the metrics' URL is logged", 60)
    return scrape(found[0])


def spans_of(service: Attack, receiver: SpanReceiver) -> bytes:
    """All spans that the service has sent, up to those of a last call."""
    metadata = (("x-request-id", "the-last-call"), ("traceparent", f"00-{'a' * 32}-{'b' * 16}-01"))
    service.stub.ListManagedContainers(pb.ListManagedContainersRequest(), timeout=60, metadata=metadata)
    receiver.await_spans(lambda span: attributes(span).get("botmaker.request_id") == "the-last-call")
    return b"\n".join(request.SerializeToString() for request in receiver.requests)


def test_secrets_are_in_no_log_error_answer_metric_span_or_inspect_output(
    service: Attack, receiver: SpanReceiver, secrets: dict[str, bytes], denying_registry: FaultyRegistry, bots: Bots
) -> None:
    heard = Heard()
    begun = int(time.time())
    keeper = bots.new()
    put(bots, keeper, secrets)
    with connect(f"tcp://127.0.0.1:{service.tcp[1]}", token=TOKEN) as channel:
        stub = ContainerManagerStub(channel)
        provoke(heard, Calls(stub), ContainerObserverStub(channel), bots, keeper)
        provoke_pulls(heard, Calls(stub), denying_registry, keeper)
        provision(heard, BotProvisionerStub(channel), Calls(stub), bots, secrets)
        names = [
            f"botmaker.container.v1.{name}" for name in ("ContainerManager", "ContainerObserver", "BotProvisioner")
        ]
        asked = [reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in names]
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        metadata = (("authorization", f"Bearer {TOKEN}"),)
        for message in reflection.ServerReflectionInfo(iter(asked), metadata=metadata):
            heard.add(message.SerializeToString())
        misuse(service, secrets, stub)
    for token in (TOKEN + "x", TOKEN[:-1], TOKEN.upper(), ""):
        with connect(f"tcp://127.0.0.1:{service.tcp[1]}", token=token) as channel:
            heard.of(Calls(ContainerManagerStub(channel)).list)
    expected = {"INVALID_ARGUMENT", "FAILED_PRECONDITION", "ALREADY_EXISTS", "NOT_FOUND", "UNAUTHENTICATED"}
    assert expected <= set(heard.reasons)
    for event in bots.engine.api.events(since=begun, until=int(time.time()) + 1, decode=False):
        heard.add(event)
    process = Path(f"/proc/{service.process.process.pid}")
    heard.add((process / "cmdline").read_bytes())
    heard.add((process / "environ").read_bytes())
    password = REGISTRY_PASSWORD.encode()
    sought = {**secrets, "the TCP token": TOKEN.encode(), "the password": password, "its entry": b"user:" + password}
    assert [] == traces(sought, bytes(heard.text))
    metrics, spans = metrics_of(service), spans_of(service, receiver)
    assert ended(metrics, "CreateContainer", "INVALID_ARGUMENT") > 8, "all of it is counted"
    assert [] == traces(sought, metrics.encode())
    assert spans.count(b"CreateContainer") > 8, "all of it is traced"
    assert keeper.encode() in spans
    assert [] == traces(sought, spans)
    log = service.process.log.read_bytes()
    assert log.count(b"PutSecrets") > 5
    assert b"ReloadSecrets" in log
    assert log.count(b"CreateContainer") > 8, "all of it is logged"
    assert [] == traces(sought, log)


def test_the_secrets_are_readable_where_they_belong(
    service: Attack, secrets: dict[str, bytes], keeper: str, bots: Bots
) -> None:
    rpc = Calls(service.stub)
    rpc.run(keeper, *FOREVER)
    container = bots.engine.containers.get(f"botmaker-{keeper}")
    for name, content in secrets.items():
        assert content == container.exec_run(["cat", f"/run/secrets/{name}"]).output
    assert wait_until(lambda: rpc.status(keeper), "it is there")


def test_every_form_of_a_secret_is_found_where_it_is(secrets: dict[str, bytes]) -> None:
    for name, secret in secrets.items():
        assert [name] == traces({name: secret}, b"before " + secret + b" after")
        for form in forms(secret):
            assert [name] == traces({name: secret}, b"x" + form + b"y")
    assert [] == traces(secrets, b"nothing of them")
