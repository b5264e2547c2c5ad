"""What ``botctl`` shows of containers: tables in pipes and on terminals, and the same as JSON."""

from __future__ import annotations

import io
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

import container_manager_client
from botctl.exit_codes import ExitCode
from botctl.rendering.console import console
from botctl.rendering.tables import containers_table, details_table, print_table, sparkline, stats_table
from botctl.rendering.words import size_text, span_text, state_word
from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb
from tests.support.scripted_service import ScriptedService
from tests.unit.botctl_runs import VARIABLES, Run, complaint, document, run

BOT = "0b5f0c4e-6f0a-4c55-9c3e-2f1d9a7e8b11"
OTHER = "d2000000-6f0a-4c55-9c3e-2f1d9a7e8b11"
EXITED = pb.CONTAINER_STATE_EXITED


class Terminal(io.StringIO):
    """A terminal of this width."""

    def isatty(self) -> bool:
        return True


def rows(text: str) -> list[list[str]]:
    """The cells of a table that was written to a pipe."""
    return [[cell.strip() for cell in line.split("  ") if cell] for line in text.splitlines()]


def test_the_list_is_a_row_for_each_container_orphans_included(botctl_run: Run, scripted: ScriptedService) -> None:
    port = pb.PortBinding(host_ip="127.0.0.1", host_port=8080, container_port=80)
    scripted.add(BOT, health=pb.HEALTH_STATUS_HEALTHY, restart_count=2, ports=[port])
    scripted.add(OTHER, state=EXITED, exit_code=137, exit_reason=pb.EXIT_REASON_OOM_KILLED)
    scripted.add(orphan=True, name="[red]somebodys\x1b[2J")
    head, *table = rows(botctl_run("list").stdout)
    assert ["BOT", "STATE", "SINCE", "RESTARTS", "PORTS", "IMAGE"] == head
    assert [BOT, "running (healthy)", "2", "8080:80", "bot:1"] == [*table[0][:2], *table[0][3:]]
    assert [OTHER, "exited (137, oom killed)", "-", "-", "bot:1"] == [*table[1][:2], *table[1][3:]]
    # Markup and control characters in a name have no effect.
    assert r"([red]somebodys\x1b[2J)" == table[2][0]


def test_the_version_is_that_of_client_server_and_engine(botctl_run: Run, scripted: ScriptedService) -> None:
    scripted.info.services[:] = ["botmaker.container.v1.ContainerManager", "botmaker.container.v1.ContainerObserver"]
    client = container_manager_client.__version__
    assert [
        ["Client", client],
        ["Server", "9.8"],
        ["Backend", "docker 28.5.1"],
        ["Services", "ContainerManager, ContainerObserver"],
    ] == rows(botctl_run("version").stdout)
    assert {
        "client": client,
        "server": "9.8",
        "backend": "docker",
        "backend_version": "28.5.1",
        "services": list(scripted.info.services),
    } == document(botctl_run("version", "-o", "json"))


def test_the_version_says_when_the_engine_does_not_answer(botctl_run: Run, scripted: ScriptedService) -> None:
    scripted.info.backend_version = ""
    assert ["Backend", "docker (does not answer)"] == rows(botctl_run("version").stdout)[2]


def test_an_empty_list_is_an_empty_document_or_only_the_header(botctl_run: Run) -> None:
    assert "[]\n" == botctl_run("list", "-o", "json").stdout
    assert 1 == len(botctl_run("list").stdout.splitlines())


def test_status_shows_every_field_of_the_contract(botctl_run: Run, scripted: ScriptedService) -> None:
    scripted.add(BOT, exit_code=0, error="no such file", image_id="sha256:1")
    (shown,) = document(botctl_run("status", "0b", "-o", "json"))
    assert {field.name for field in pb.ContainerStatus.DESCRIPTOR.fields} == set(shown)
    assert ("running", 0, None, "2023-11-14T22:13:20.000000000Z", None) == (
        *(shown["state"], shown["exit_code"], shown["health"], shown["create_time"], shown["start_time"]),
    )
    table = dict(cells for cells in rows(botctl_run("status", BOT).stdout) if len(cells) == 2)
    assert ("running (0)", "no such file", "sha256:1") == (table["State"], table["Error"], table["Image id"])


def test_status_shows_how_the_run_before_the_present_one_ended(botctl_run: Run, scripted: ScriptedService) -> None:
    moment = Timestamp(seconds=1_700_000_060)
    last = pb.LastExit(exit_code=137, exit_reason=pb.EXIT_REASON_OOM_KILLED, finish_time=moment)
    scripted.add(BOT, last_exit=last)
    (shown,) = document(botctl_run("status", BOT, "-o", "json"))
    finished = "2023-11-14T22:14:20.000000000Z"
    assert {"exit_code": 137, "exit_reason": "oom_killed", "finish_time": finished} == shown["last_exit"]
    table = dict(cells for cells in rows(botctl_run("status", BOT).stdout) if len(cells) == 2)
    assert table["Last exit"].startswith(f"137, oom killed, {finished} (")
    assert "running" == table["State"]


def test_status_shows_the_name_and_labels_that_the_bot_was_created_with(
    botctl_run: Run, scripted: ScriptedService
) -> None:
    scripted.add(BOT, hostname="anna", labels={"team": "blue\x1b[2J", "app": "x"})
    (shown,) = document(botctl_run("status", BOT, "-o", "json"))
    assert ("anna", {"app": "x", "team": "blue\x1b[2J"}) == (shown["hostname"], shown["labels"])
    lines = botctl_run("status", BOT).stdout.splitlines()
    assert [["Hostname", "anna"]] == [line.split() for line in lines if "Hostname" in line]
    at = next(index for index, line in enumerate(lines) if line.startswith("Labels"))
    assert [["Labels", "app=x"], [r"team=blue\x1b[2J"]] == [line.split() for line in lines[at : at + 2]]


def test_the_list_and_the_watch_can_be_narrowed_to_labels(botctl_run: Run, scripted: ScriptedService) -> None:
    botctl_run("list", "--label", "team=blue", "-l", "app=x", "-o", "json")
    scripted.watches.append([])
    botctl_run("watch", "--label", "team=blue")
    assert {"team": "blue", "app": "x"} == dict(scripted.seen("ListManagedContainers")[0].labels)
    assert {"team": "blue"} == dict(scripted.seen("WatchContainers")[0].labels)


def test_a_bot_without_a_container_is_shown_as_absent_beside_the_others(
    botctl_run: Run, scripted: ScriptedService
) -> None:
    scripted.add(BOT)
    result = botctl_run("status", OTHER, BOT, "-o", "json")
    assert f"{OTHER}: has no container; create one with: botctl create {OTHER}" == complaint(result, ExitCode.NOT_FOUND)
    absent, present = document(result)
    assert ("absent", "running") == (absent["state"], present["state"])
    assert set(absent) == set(present)


def test_several_statuses_have_a_blank_line_between_them(botctl_run: Run, scripted: ScriptedService) -> None:
    scripted.add(BOT)
    scripted.add(OTHER)
    assert 1 == botctl_run("status", BOT, OTHER).stdout.count("\n\n")


def terminal_text(table: Any, monkeypatch: pytest.MonkeyPatch, columns: int = 80, **environment: str) -> str:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", "COLUMNS": str(columns), **environment}.items():
        monkeypatch.setenv(name, value)
    stream = Terminal()
    shown = console(stream)
    print_table(shown, table(shown))
    return stream.getvalue()


def containers(shown: Any) -> Any:
    statuses = [
        pb.ContainerStatus(bot_id=bot_id, state=pb.CONTAINER_STATE_RUNNING, image="registry.example/a/long/name:1" * 4)
        for bot_id in (BOT, OTHER)
    ]
    return containers_table(statuses, shown, Timestamp())


def test_on_a_narrow_terminal_ids_are_short_and_rows_stay_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    text = terminal_text(containers, monkeypatch, NO_COLOR="1")
    lines = text.splitlines()
    assert 3 == len(lines)
    assert all(len(line) <= 80 for line in lines)
    assert ["0b5f0c4e", "d2000000"] == [line.split()[0] for line in lines[1:]]


def test_on_a_narrow_terminal_a_bots_port_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    port = pb.PortBinding(container_port=18_789, host_port=32_803, host_ip="127.0.0.1", protocol="PROTOCOL_TCP")

    def published(shown: Any) -> Any:
        status = pb.ContainerStatus(
            bot_id=BOT, state="CONTAINER_STATE_EXITED", exit_code=137, exit_reason="EXIT_REASON_OOM_KILLED"
        )
        status.ports.extend([port, port])
        status.image = "registry.example.org/botmaker/openclaw:2026.9.6"
        return containers_table([status], shown, Timestamp())

    head, row = terminal_text(published, monkeypatch, NO_COLOR="1").splitlines()
    assert "32803:18789," in row
    assert len(row) <= 80
    assert "IMAGE" in head


def test_on_a_wide_terminal_ids_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    text = terminal_text(containers, monkeypatch, columns=140, NO_COLOR="1")
    assert [BOT, OTHER] == [line.split()[0] for line in text.splitlines()[1:]]


@pytest.mark.parametrize(
    ("environment", "colours"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_a_terminal_gets_colours_unless_it_does_not_want_them(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], colours: bool
) -> None:
    assert colours is ("\x1b[" in terminal_text(containers, monkeypatch, **environment))


def test_a_pipe_gets_no_colours_even_when_the_environment_asks_for_them(scripted: ScriptedService) -> None:
    scripted.add(BOT)
    forced = run("list", BOTCTL_TARGET=scripted.target, FORCE_COLOR="1")
    assert "\x1b" not in forced.output
    assert run("list", BOTCTL_TARGET=scripted.target).output == forced.output


def test_the_tables_of_stats_and_of_one_container(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = [observer_pb.WatchStatsResponse(bot_id=BOT, cpu_percent=150, memory_usage_bytes=2048, pids=3)]
    text = terminal_text(lambda shown: stats_table(samples, shown), monkeypatch, NO_COLOR="1")
    assert ["0b5f0c4e", "150.0%", "2.0", "KiB", "0", "B"] == text.splitlines()[1].split()[:6]
    one = pb.ContainerStatus(bot_id=BOT, error="two\nlines", finish_time=Timestamp(seconds=10))
    text = terminal_text(lambda _: details_table(one, Timestamp(seconds=75)), monkeypatch, NO_COLOR="1")
    assert "two lines" in text
    assert "(1m 5s ago)" in text


def test_a_sparkline_has_a_bar_for_each_figure() -> None:
    assert "▁▁▂▄█" == sparkline([0, 12, 13, 40, 100])
    # More than a core: a full bar is the largest figure.
    assert "▁▄█" == sparkline([0, 150, 350])
    assert "" == sparkline([])


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0s"), (59, "59s"), (61, "1m 1s"), (7300, "2h 1m"), (90_000, "1d 1h")]
)
def test_a_span_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert text == span_text(seconds)


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (1 << 41, "2.0 TiB")])
def test_a_size_has_a_binary_unit(size: int, text: str) -> None:
    assert text == size_text(size)


def test_a_state_of_a_newer_server_is_shown_by_its_number() -> None:
    assert "99" == state_word(99)
