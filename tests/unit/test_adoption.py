"""``container-manager adopt``: what it renames, what it refuses and why, and what it prints."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from container_manager.backends.docker import adoption
from container_manager.bot_locks import LOCK_FILE, BotLocks
from container_manager.cli import main
from tests.support.fake_engine import NO_CONTENT, Answer, Cut, FakeEngine, Json, Request, error
from tests.unit.documents import BOT, ID, IMAGE_ID, LABELS, NAME, OTHER_BOT, OTHER_ID, inspected, row, running, state

RENAME = ("POST", "/containers/*/rename")
Adopt = Callable[..., Result]


class Containers:
    """The engine's containers, which it lists by label and renames."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.documents: dict[str, dict[str, Any]] = {}
        engine.on("GET", "/containers/*/json", self._inspect)
        engine.on("GET", "/containers/json", self._list)
        engine.on("GET", f"/images/{IMAGE_ID}/json", Json({"Config": {"Labels": {"botmaker.managed": "true"}}}))
        engine.on(*RENAME, self._rename)

    def add(self, name: str, container_id: str = ID, **changes: Any) -> None:
        """A running container."""
        self.documents[container_id] = inspected(running(), container_id=container_id, name=name, **changes)

    @property
    def names(self) -> list[str]:
        """All names."""
        return [each["Name"].removeprefix("/") for each in self.documents.values()]

    def _inspect(self, request: Request) -> Answer:
        key = request.path.split("/")[2]
        for container_id, document in self.documents.items():
            if key in (container_id, document["Name"].removeprefix("/")):
                return Json(document)
        return error(404, "No such container")

    def _list(self, request: Request) -> Answer:
        (label,) = json.loads(request.query["filters"])["label"]
        key, _, value = label.partition("=")
        rows = []
        for number, (container_id, document) in enumerate(self.documents.items()):
            labels = document["Config"]["Labels"]
            if labels.get(key) == value:
                rows.append(row(container_id, Names=[document["Name"]], Labels=labels, Created=number + 1))
        return Json(rows)

    def _rename(self, request: Request) -> Answer:
        if request.query["name"] in self.names:
            return error(409, "the name is in use")
        self.documents[request.path.split("/")[2]]["Name"] = f"/{request.query['name']}"
        return NO_CONTENT


@pytest.fixture
def containers(engine: FakeEngine) -> Containers:
    return Containers(engine)


@pytest.fixture
def adopt(engine: FakeEngine, tmp_path: Path) -> Adopt:
    """Runs the command on the engine, with a secrets root."""

    def run(*options: str) -> Result:
        options = ("--docker-host", engine.url, "--secrets-root", str(tmp_path), *options)
        return CliRunner().invoke(main, ["adopt", *options], catch_exceptions=False)

    return run


def test_each_container_of_another_name_gets_its_bots_name_and_a_line(containers: Containers, adopt: Adopt) -> None:
    containers.add("botmaker-anna")
    containers.add("x", OTHER_ID, labels={**LABELS, "botmaker.bot-id": OTHER_BOT})
    containers.add("not-a-bots", "c" * 64, labels={"botmaker.managed": "true"})
    containers.add("unmanaged", "d" * 64, labels={"botmaker.bot-id": "b" * 8})
    result = adopt()
    assert [
        f"adopted  botmaker-anna  -> {NAME}",
        f"adopted  x              -> botmaker-{OTHER_BOT}",
    ] == result.stdout.splitlines()
    assert 0 == result.exit_code
    assert [NAME, f"botmaker-{OTHER_BOT}", "not-a-bots", "unmanaged"] == containers.names
    again = adopt()
    assert ("nothing to adopt: every bot's container has the bot's name\n", 0) == (again.stdout, again.exit_code)
    assert 2 == len(containers.engine.seen(*RENAME))


def test_a_name_from_the_engine_commands_no_terminal(containers: Containers, adopt: Adopt) -> None:
    containers.add("x\x1b[2J\x9b2J")
    assert rf"would adopt  x\x1b[2J\x9b2J  -> {NAME}" == adopt("--dry-run").stdout.rstrip("\n")


def test_a_dry_run_says_so_and_neither_renames_nor_locks(containers: Containers, adopt: Adopt, tmp_path: Path) -> None:
    containers.add("botmaker-anna")
    containers.add("x", OTHER_ID, labels={**LABELS, "botmaker.bot-id": OTHER_BOT}, config={"Tty": True})
    result = adopt("--dry-run")
    assert f"would adopt  botmaker-anna  -> {NAME}" == result.stdout.splitlines()[0]
    assert result.stdout.splitlines()[1].startswith("refused      x              it has a terminal")
    assert 1 == result.exit_code
    assert {"GET"} == {request.method for request in containers.engine.requests}
    assert [] == list(tmp_path.iterdir())


def crash(containers: Containers) -> Callable[[Request], Answer]:
    """A rename at the moment when the process ends."""

    def rename(_: Request) -> Answer:
        containers.documents[ID]["State"] = state("restarting")
        return error(404, "sandbox 2aed not found")

    return rename


REFUSALS: dict[str, tuple[Callable[[Containers], None], str]] = {
    "two of other names": (lambda all_: all_.add("botmaker-zoe", OTHER_ID), "other containers too: botmaker-zoe;"),
    "one of the bot's name": (lambda all_: all_.add(NAME, OTHER_ID), f"other containers too: {NAME};"),
    "one with the bot's id alone": (
        lambda all_: all_.add("botmaker-zoe", OTHER_ID, labels={"botmaker.bot-id": BOT}),
        "other containers too: botmaker-zoe;",
    ),
    "a foreign one has the name": (lambda all_: all_.add(NAME, OTHER_ID, labels={}), f"has the name {NAME};"),
    "another bot's has the name": (
        lambda all_: all_.add(NAME, OTHER_ID, labels={**LABELS, "botmaker.bot-id": OTHER_BOT}),
        f"has the name {NAME};",
    ),
    "an image with the labels": (
        lambda all_: all_.engine.on("GET", "/images/*/json", Json({"Config": {"Labels": LABELS}})),
        "its labels are its image's, as after docker commit",
    ),
    "no image": (lambda all_: all_.engine.on("GET", "/images/*/json", error(404, "none")), "its image is gone"),
    "a swarm's": (
        lambda all_: all_.add("botmaker-anna", labels={**LABELS, "com.docker.swarm.service.id": "s"}),
        "a swarm made it",
    ),
    "a terminal": (lambda all_: all_.add("botmaker-anna", config={"Tty": True}), "it has a terminal"),
    "a crash loop": (
        lambda all_: all_.documents[ID].update(State=state("restarting")),
        "first: docker stop botmaker-anna",
    ),
    "its process ends a moment later": (
        lambda all_: all_.engine.on("POST", f"/containers/{ID}/rename", crash(all_)),
        "first: docker stop botmaker-anna",
    ),
    "the name was taken a moment ago": (
        lambda all_: all_.engine.on(*RENAME, error(409, "Conflict. It is in use")),
        f"the engine refused the name {NAME}: Conflict. It is in use",
    ),
    "it was removed": (
        lambda all_: all_.engine.on("GET", f"/containers/{ID}/json", error(404, "none")),
        "it was removed meanwhile",
    ),
    "it was renamed": (
        lambda all_: all_.engine.on("GET", f"/containers/{ID}/json", Json(inspected(name="z\x9b2J"))),
        r"it was renamed to z\x9b2J meanwhile",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_not_certain_is_refused_with_the_reason_and_keeps_its_name(
    containers: Containers, adopt: Adopt, case: str
) -> None:
    """Every refused container has a line; the others go on."""
    containers.add("botmaker-anna")
    containers.add("fine", "f" * 64, labels={**LABELS, "botmaker.bot-id": "0" * 8 + BOT[8:]})
    containers.documents["f" * 64]["Image"] = "sha256:fine"
    arrange, reason = REFUSALS[case]
    arrange(containers)
    containers.engine.on("GET", "/images/sha256:fine/json", Json({"Config": {"Labels": None}}))
    result = adopt()
    lines = [line for line in result.stdout.splitlines() if re.match(r"refused +botmaker-anna ", line)]
    assert 1 == len(lines), result.stdout
    assert reason in lines[0]
    assert 1 == result.exit_code
    assert "botmaker-anna" == containers.names[0]
    assert (case == "the name was taken a moment ago") == ("fine" in containers.names)


def test_an_image_with_other_labels_than_the_containers_is_no_reason(containers: Containers, adopt: Adopt) -> None:
    """BotMaker may run an image that was made from another bot's container."""
    containers.add("botmaker-anna")
    labels = {**LABELS, "botmaker.bot-id": OTHER_BOT}
    containers.engine.on("GET", "/images/*/json", Json({"Config": {"Labels": labels}}))
    assert (0, [NAME]) == (adopt().exit_code, containers.names)


@pytest.mark.parametrize(
    "answer", [Cut(), error(500, "boom\x9b2J"), error(403, "no\x9b2J")], ids=["lost", "failed", "refused"]
)
def test_an_engine_that_does_not_answer_is_one_line(engine: FakeEngine, adopt: Adopt, answer: Answer) -> None:
    engine.on("GET", "/containers/json", answer)
    result = adopt()
    assert (1, 1) == (result.exit_code, len(result.stderr.splitlines()))
    assert "\x9b" not in result.stderr
    assert result.stderr.startswith("Error: the ")


@pytest.mark.parametrize("root", ["missing", "a-file"])
def test_a_root_in_which_no_lock_can_be_had_is_told_and_nothing_renamed(
    containers: Containers, adopt: Adopt, tmp_path: Path, root: str
) -> None:
    (tmp_path / "a-file").touch()
    containers.add("botmaker-anna")
    result = adopt("--secrets-root", str(tmp_path / root))
    assert (2, ["botmaker-anna"]) == (result.exit_code, containers.names)
    assert LOCK_FILE in result.stderr


def test_a_bot_that_a_service_is_changing_waits_and_is_refused_in_the_end(
    containers: Containers, adopt: Adopt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adoption, "LOCK_SECONDS", 0.2)
    containers.add("botmaker-anna")
    containers.add("x", OTHER_ID, labels={**LABELS, "botmaker.bot-id": OTHER_BOT})
    locks = BotLocks(tmp_path)
    assert locks.share(BOT)
    result = adopt()
    assert "a service is changing the bot" in result.stdout.splitlines()[0]
    assert (1, ["botmaker-anna", f"botmaker-{OTHER_BOT}"]) == (result.exit_code, containers.names)
    monkeypatch.setattr(adoption, "LOCK_SECONDS", 60)
    timer = threading.Timer(0.2, locks.release, [BOT])
    timer.start()
    assert (0, NAME) == (adopt().exit_code, containers.names[0])
    timer.join()
    locks.close()


def test_the_bots_lock_is_held_from_the_look_to_the_rename_and_not_afterwards(
    containers: Containers, adopt: Adopt, tmp_path: Path
) -> None:
    containers.add("botmaker-anna")
    locks, shared = BotLocks(tmp_path), []

    def look(request: Request) -> Answer:
        shared.append(locks.share(BOT))
        return containers._rename(request) if request.method == "POST" else containers._inspect(request)

    containers.engine.on("GET", f"/containers/{ID}/json", look)
    containers.engine.on(*RENAME, look)
    assert 0 == adopt().exit_code
    assert [False, False] == shared
    assert locks.share(BOT)
    locks.close()
