"""``botctl list`` for scripts and by filters, aliases, and host names in place of ids."""

from __future__ import annotations

import io

import pytest

from botctl.bot_ids import whole_ids
from botctl.exit_codes import ExitCode, Failure
from botctl.rendering.console import console
from botctl.rendering.tables import containers_table, print_table
from botctl.rendering.words import now
from botmaker.container.v1 import container_manager_pb2 as pb
from tests.support.scripted_service import ScriptedService
from tests.unit.botctl_runs import Run, complaint, document

BOT = "0b5f0c4e-6f0a-4c55-9c3e-2f1d9a7e8b11"
OTHER = "d2000000-6f0a-4c55-9c3e-2f1d9a7e8b11"
THIRD = "e3000000-6f0a-4c55-9c3e-2f1d9a7e8b11"
EXITED = pb.CONTAINER_STATE_EXITED


@pytest.fixture
def fleet(scripted: ScriptedService) -> ScriptedService:
    """Three bots and an orphan."""
    scripted.add(BOT, hostname="anna", labels={"team": "blue", "app": "x=y"})
    scripted.add(OTHER, hostname="Berta-7", state=EXITED, exit_code=0, labels={"team": "red"})
    scripted.add(THIRD)
    scripted.add(orphan=True, name="somebodys")
    return scripted


@pytest.mark.usefixtures("fleet")
def test_quiet_prints_the_ids_alone(botctl_run: Run) -> None:
    assert f"{BOT}\n{OTHER}\n{THIRD}\n" == botctl_run("list", "-q").stdout
    assert f"{OTHER}\n" == botctl_run("list", "--quiet", "--state", "exited").stdout


@pytest.mark.usefixtures("fleet")
@pytest.mark.parametrize("alias", ["ls", "ps"])
def test_ls_and_ps_are_list(botctl_run: Run, alias: str) -> None:
    assert botctl_run("list", "-q").stdout == botctl_run(alias, "-q").stdout


def test_rm_is_remove(botctl_run: Run, fleet: ScriptedService) -> None:
    assert f"{BOT}  removed\n" == botctl_run("rm", BOT).stdout
    assert fleet.of_bot(BOT) is None


@pytest.mark.usefixtures("fleet")
@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (["state=running"], [BOT, THIRD]),
        (["state=running", "state=EXITED"], [BOT, OTHER, THIRD]),
        (["state=exited"], [OTHER]),
        (["hostname=anna"], [BOT]),
        (["hostname=ANNA", "hostname=berta-*"], [BOT, OTHER]),
        (["hostname=anna", "state=exited"], []),
        (["hostname=*"], [BOT, OTHER, THIRD]),
        (["label=team"], [BOT, OTHER]),
        (["label=team", "label=app"], [BOT]),
        (["label=none"], []),
    ],
)
def test_the_list_can_be_filtered(botctl_run: Run, filters: list[str], found: list[str]) -> None:
    options = [part for each in filters for part in ("--filter", each)]
    assert found == botctl_run("list", "-q", *options).stdout.split()


def test_the_server_filters_by_labels_with_values_and_by_states(botctl_run: Run, fleet: ScriptedService) -> None:
    botctl_run("list", "-f", "label=app=x=y", "-f", "state=exited", "--label", "team=blue", "--state", "dead")
    (request,) = fleet.seen("ListManagedContainers")
    assert {"app": "x=y", "team": "blue"} == dict(request.labels)
    assert {EXITED, pb.CONTAINER_STATE_DEAD} == set(request.states)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--filter", "stat=running"], "no such filter: 'stat'; did you mean state?"),
        (["--filter", "x=running"], "no such filter: 'x'; use label, state, hostname"),
        (["--filter", "state=runing"], "no such state: 'runing'; did you mean running?"),
        (["--filter", "state"], "'state' is not a filter such as state=running"),
        (["--format", "{botid}"], "no such field: {botid}; did you mean bot_id?"),
        (["--format", "{image.x}"], "no such field: {image.x}"),
        (["-q", "-o", "json"], "give only one of --quiet, --format, --wide and --output"),
        (["-q", "--format", "x"], "give only one of --quiet, --format, --wide and --output"),
    ],
)
def test_a_wrong_word_is_refused_with_the_right_one_before_any_call(
    botctl_run: Run, scripted: ScriptedService, arguments: list[str], expected: str
) -> None:
    assert expected in complaint(botctl_run("list", *arguments), ExitCode.USAGE)
    assert [] == scripted.requests


def test_a_line_for_each_container_is_written_by_a_template(botctl_run: Run, fleet: ScriptedService) -> None:
    port = pb.PortBinding(host_ip="127.0.0.1", host_port=8080, container_port=80)
    fleet.containers[f"{1:064x}"].ports.append(port)
    fleet.containers[f"{1:064x}"].image = "bot\x1b[2J"
    template = r"{bot_id}\t{state} {exit_code} {labels.team} {ports} {labels} {image}"
    assert [
        rf"{BOT}	running  blue 8080:80 app=x=y,team=blue bot\x1b[2J",
        f"{OTHER}\texited 0 red  team=red bot:1",
    ] == botctl_run("list", "-f", "label=team", "--format", template).stdout.splitlines()
    assert "anna\nBerta-7\n\n\n" == botctl_run("list", "--format", "{hostname}").stdout
    assert "x\n" * 4 == botctl_run("list", "--format", "x").stdout


def test_the_list_shows_host_names_beside_the_ids(botctl_run: Run, fleet: ScriptedService) -> None:
    head, first, *_, third, _orphan = botctl_run("list").stdout.splitlines()
    assert ["BOT", "HOSTNAME", "STATE"] == head.split()[:3]
    assert [BOT, "anna", "running"] == first.split()[:3]
    assert [THIRD, "-", "running"] == third.split()[:3]
    fleet.containers.clear()
    fleet.add(THIRD)
    assert ["BOT", "STATE"] == botctl_run("list").stdout.split()[:2]


@pytest.mark.parametrize("name", ["anna", "ANNA"])
def test_a_host_name_is_taken_in_place_of_an_id(botctl_run: Run, fleet: ScriptedService, name: str) -> None:
    assert f"{BOT}  stopped\n" == botctl_run("stop", name).stdout
    assert BOT == document(botctl_run("inspect", name))["bot_id"]
    assert [BOT] == [each["bot_id"] for each in document(botctl_run("status", name, BOT, "-o", "json"))]
    assert BOT in botctl_run("secrets", "rm", name, "A").stdout
    assert {BOT} == {request.bot_id for request in fleet.seen("DeleteSecrets")}


def test_a_host_name_of_two_bots_is_ambiguous_and_changes_nothing(botctl_run: Run, fleet: ScriptedService) -> None:
    fleet.add("f4000000-6f0a-4c55-9c3e-2f1d9a7e8b11", hostname="anna")
    assert "'anna' could be" in complaint(botctl_run("remove", "anna"), ExitCode.USAGE)
    assert [] == fleet.seen("RemoveContainer")


def test_a_name_that_is_a_prefix_of_another_bots_id_is_ambiguous() -> None:
    hostnames = {BOT: "d2", OTHER: ""}
    with pytest.raises(Failure, match=f"'d2' could be {BOT}, {OTHER}"):
        whole_ids(["d2"], [BOT, OTHER], hostnames)
    assert [BOT] == whole_ids(["d2"], [BOT], hostnames)


@pytest.mark.parametrize("text", ["", " ", "ann", "anna.example", "*"])
def test_nothing_but_the_whole_host_name_is_taken_and_never_an_empty_one(text: str) -> None:
    with pytest.raises(Failure, match="is neither a bot id nor a prefix of one") as caught:
        whole_ids([text], [BOT, OTHER], {BOT: "anna", OTHER: ""})
    assert ExitCode.USAGE == caught.value.exit_code


@pytest.mark.usefixtures("fleet")
def test_a_host_name_or_a_command_that_is_nearly_right_is_suggested(botctl_run: Run) -> None:
    assert complaint(botctl_run("status", "ana"), ExitCode.USAGE).endswith("; did you mean anna?")
    assert "did you mean" not in complaint(botctl_run("status", "somebody"), ExitCode.USAGE)
    assert "No such command 'strat'; did you mean stats or start?" == complaint(
        botctl_run("strat", "anna"), ExitCode.USAGE
    )


def test_wide_shows_what_running_bots_occupy_on_the_disk(botctl_run: Run, fleet: ScriptedService) -> None:
    running = fleet.of_bot(BOT)
    assert running is not None
    fleet.stats.containers.add(
        bot_id=BOT, container_id=running.container_id, state_bytes=5 * 1024 * 1024, layer_bytes=0
    )
    head, *rows = botctl_run("list", "--wide").stdout.splitlines()
    assert ["STATE SIZE", "LAYER SIZE"] == [title for title in ("STATE SIZE", "LAYER SIZE") if title in head]
    (wide,) = (row for row in rows if row.startswith(BOT))
    assert "5.0 MiB" in wide
    assert [BOT, THIRD] == list(fleet.seen("GetStats")[0].bot_ids)
    assert "STATE SIZE" not in botctl_run("list").stdout
    assert 1 == len(fleet.seen("GetStats"))


def test_wide_asks_for_no_sizes_where_nothing_runs(botctl_run: Run, fleet: ScriptedService) -> None:
    assert 0 == botctl_run("list", "--wide", "--state", "exited").exit_code
    assert [] == fleet.seen("GetStats")


def test_the_table_of_a_pipe_is_made_as_rich_would_make_it(botctl_run: Run, fleet: ScriptedService) -> None:
    """Without loading rich, since scripts start `botctl list` often."""
    fleet.add("f4000000-6f0a-4c55-9c3e-2f1d9a7e8b11", node="two", node_unreachable=True, restart_count=3)
    printed = io.StringIO()
    containers = list(fleet.containers.values())
    pipe = console(printed)
    print_table(pipe, containers_table(containers, pipe, now()))
    assert printed.getvalue() == botctl_run("list").stdout
