"""``botctl``'s verbs: which bots they are for, a result for each, and the exit code for all."""

from __future__ import annotations

import signal
import threading
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from botctl.exit_codes import ExitCode, overall
from botmaker.container.v1 import container_maintainer_pb2 as maintainer_pb
from botmaker.container.v1 import container_manager_pb2 as pb
from container_manager.errors import (
    CommandNotFoundError,
    ContainerAlreadyExistsError,
    OperationInProgressError,
    ServiceNotAllowedError,
)
from tests.support.scripted_service import ScriptedService, entry
from tests.support.waiting import wait_until
from tests.unit.botctl_runs import Run, complaint, document

UNKNOWN = "11111111-1111-1111-1111-111111111111"
Event = maintainer_pb.RunActionResponse
RUNNING, EXITED = pb.CONTAINER_STATE_RUNNING, pb.CONTAINER_STATE_EXITED
VERBS = {"start": "started", "stop": "stopped", "restart": "restarted", "remove": "removed"}


@pytest.mark.parametrize(("verb", "done"), VERBS.items())
def test_a_verb_acts_on_the_bot_that_a_prefix_names(
    botctl_run: Run, scripted: ScriptedService, verb: str, done: str
) -> None:
    bot_id = scripted.add("0b5f0c4e-6f0a-4c55-9c3e-2f1d9a7e8b11")
    scripted.add("d2000000-6f0a-4c55-9c3e-2f1d9a7e8b11")
    result = botctl_run(verb, "0b5")
    assert (0, f"{bot_id}  {done}\n", "") == (result.exit_code, result.stdout, result.stderr)
    assert [bot_id] == [request.bot_id for request in scripted.seen(f"{verb.capitalize()}Container")]


@pytest.mark.parametrize("verb", ["stop", "restart", "remove"])
def test_the_grace_is_the_callers_or_the_services(botctl_run: Run, scripted: ScriptedService, verb: str) -> None:
    bot_id = scripted.add()
    botctl_run(verb, bot_id)
    scripted.add(bot_id)
    botctl_run(verb, bot_id, "--grace", "1.5s")
    first, second = scripted.seen(f"{verb.capitalize()}Container")
    assert not first.HasField("grace_period")
    assert (1, 500_000_000) == (second.grace_period.seconds, second.grace_period.nanos)


def test_several_bots_each_have_a_result_and_each_is_named_once(botctl_run: Run, scripted: ScriptedService) -> None:
    one, two = scripted.add(), scripted.add()
    scripted.fail("StartContainer", CommandNotFoundError("the command x is not in the image"), two)
    result = botctl_run("start", one, two, one)
    assert ExitCode.REFUSED == result.exit_code
    assert f"{one}  started\n" == result.stdout
    assert f"Error: {two}: the command x is not in the image\n" == result.stderr
    assert 2 == len(scripted.seen("StartContainer"))


def test_failures_of_different_kinds_exit_with_1(botctl_run: Run, scripted: ScriptedService) -> None:
    one, two = scripted.add(), scripted.add()
    scripted.fail("StopContainer", OperationInProgressError("another operation holds the bot"), one)
    scripted.fail("StopContainer", CommandNotFoundError("x"), two)
    assert ExitCode.FAILED == botctl_run("stop", one, two).exit_code
    assert ExitCode.NOT_NOW == overall([ExitCode.NOT_NOW, ExitCode.DONE, ExitCode.NOT_NOW])
    assert ExitCode.DONE == overall([])


def test_one_wrong_id_leaves_all_of_them_untouched(botctl_run: Run, scripted: ScriptedService) -> None:
    bot_id = scripted.add()
    assert "no bot id starts with" in complaint(botctl_run("remove", bot_id, "ffffffff-"), ExitCode.NOT_FOUND)
    assert [] == scripted.seen("RemoveContainer")


def test_selecting_by_state_takes_only_bots_in_that_state_and_no_orphan(
    botctl_run: Run, scripted: ScriptedService
) -> None:
    exited = {scripted.add(state=EXITED), scripted.add(state=EXITED)}
    scripted.add(state=RUNNING)
    scripted.add(state=EXITED, orphan=True, name="somebodys")
    result = botctl_run("start", "--all", "--state", "exited")
    assert 0 == result.exit_code
    assert exited == {request.bot_id for request in scripted.seen("StartContainer")}
    assert "somebodys has no bot id" in result.stderr


def test_an_empty_selection_does_nothing_and_says_so(botctl_run: Run, scripted: ScriptedService) -> None:
    scripted.add(state=RUNNING)
    result = botctl_run("remove", "--all", "--state", "dead")
    assert (0, "", "botctl: no bot matches: nothing to do\n") == (result.exit_code, result.stdout, result.stderr)
    assert [] == document(botctl_run("remove", "--all", "--state", "dead", "-o", "json"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["stop"], "name at least one bot"),
        (["stop", "--all", UNKNOWN], "not both"),
        (["stop", UNKNOWN, "--state", "exited"], "--state goes with --all"),
        (["stop", "--all", "--state", "asleep"], "'asleep' is not one of"),
        (["stop", ""], "'' is neither a bot id"),
        (["start", UNKNOWN, "--wait-timeout", "soon"], "'soon' is not a duration"),
        (["status"], "name at least one bot"),
    ],
)
def test_an_unclear_selection_is_refused_before_anything_is_done(
    botctl_run: Run, scripted: ScriptedService, arguments: list[str], said: str
) -> None:
    scripted.add()
    assert said in complaint(botctl_run(*arguments), ExitCode.USAGE)
    assert {"ListManagedContainers"} >= {name for name, _ in scripted.requests}


def test_bots_are_served_side_by_side_and_no_more_at_once_than_asked_for(
    botctl_run: Run, scripted: ScriptedService
) -> None:
    for _ in range(9):
        scripted.add(state=EXITED)
    # Three starts must be in progress at once for any of them to continue.
    scripted.gate = threading.Barrier(3)
    assert 0 == botctl_run("start", "--all", "--parallel", "3").exit_code
    assert 3 == scripted.most_at_once


@pytest.mark.parametrize("verb", ["stop", "remove"])
def test_a_bot_without_a_container_is_no_error_for_verbs_that_need_none(botctl_run: Run, verb: str) -> None:
    result = botctl_run(verb, UNKNOWN)
    assert (0, f"{UNKNOWN}  no container\n") == (result.exit_code, result.stdout)


@pytest.mark.parametrize("verb", ["start", "restart"])
def test_a_bot_without_a_container_is_an_error_for_verbs_that_need_one(botctl_run: Run, verb: str) -> None:
    said = complaint(botctl_run(verb, UNKNOWN), ExitCode.NOT_FOUND)
    assert f"{UNKNOWN}: the bot has no container; create one first: botctl create {UNKNOWN}" == said


def test_as_json_the_results_are_one_document_in_the_bots_order(botctl_run: Run, scripted: ScriptedService) -> None:
    one, two = scripted.add(), scripted.add()
    scripted.fail("StopContainer", OperationInProgressError("another operation holds the bot"), one)
    result = botctl_run("stop", one, two, "--output", "json")
    assert ExitCode.NOT_NOW == result.exit_code
    message = "another operation holds the bot; try again when it has finished"
    error = {"message": message, "exit_code": 7, "code": "ABORTED", "reason": "OPERATION_IN_PROGRESS"}
    assert [
        {"bot_id": one, "result": "failed", "error": error},
        {"bot_id": two, "result": "stopped", "error": None},
    ] == document(result)


def test_waiting_tells_when_it_runs(
    botctl_run: Run, scripted: ScriptedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botctl.waiting.RUNNING_SECONDS", 0)
    monkeypatch.setattr("botctl.waiting.HELD_SECONDS", 0)
    bot_id = scripted.add(state=EXITED)
    neither = "its image has neither a health check nor the action ready"
    assert f"{bot_id}  running for 0 s; {neither}\n" == botctl_run("start", "--wait", bot_id).stdout
    assert ["running"] == [each["result"] for each in document(botctl_run("start", "--wait", bot_id, "-o", "json"))]
    scripted.fail("RunAction", ServiceNotAllowedError("this listener does not serve ContainerMaintainer"))
    unknown = "the service runs no actions for this address, so that nothing more is known"
    assert f"{bot_id}  running for 0 s; {unknown}\n" == botctl_run("start", "--wait", bot_id).stdout
    scripted.fail("RunAction", grpc.StatusCode.UNIMPLEMENTED)
    assert f"{bot_id}  running for 0 s; {unknown}\n" == botctl_run("start", "--wait", bot_id).stdout
    scripted.forgive("RunAction")
    scripted.actions = [[Event(stdout=b'{"ready":true}\n'), Event(end=maintainer_pb.ActionEnd(exit_code=0))]]
    assert f"{bot_id}  ready\n" == botctl_run("start", "--wait", bot_id).stdout
    assert "ready" == scripted.seen("RunAction")[-1].action
    scripted.statuses = [pb.ContainerStatus(state=RUNNING, health=pb.HEALTH_STATUS_HEALTHY)]
    assert f"{bot_id}  healthy\n" == botctl_run("restart", "--wait", bot_id).stdout


def test_waiting_for_a_bot_that_fails_shows_its_last_lines(botctl_run: Run, scripted: ScriptedService) -> None:
    bot_id = scripted.add(state=EXITED)
    scripted.statuses = [pb.ContainerStatus(state=EXITED, exit_code=3, exit_reason=pb.EXIT_REASON_ERROR)]
    log = [entry(1, b"first \x1b[2J"), entry(2, b"a long ", partial=True), entry(3, b"line")]
    scripted.logs = [log, log]
    result = botctl_run("start", "--wait", bot_id)
    assert ExitCode.NOT_UP == result.exit_code
    expected = [
        f"Error: {bot_id}: started, and its process ended with exit code 3 (error)",
        "Its last log lines:",
        r"  first \x1b[2J",
        "  a long line",
    ]
    assert expected == result.stderr.splitlines()
    assert 10 == scripted.seen("StreamLogs")[0].tail_lines
    (told,) = document(botctl_run("start", "--wait", bot_id, "-o", "json"))
    assert ["first \x1b[2J", "a long line"] == told["log"]
    assert 8 == told["error"]["exit_code"]


def test_waiting_for_a_bot_that_ran_already_does_not_count_what_was_before(
    botctl_run: Run, scripted: ScriptedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botctl.waiting.RUNNING_SECONDS", 0)
    assert 0 == botctl_run("start", "--wait", scripted.add(state=RUNNING, restart_count=7)).exit_code


def test_a_wait_that_is_too_long_ends(botctl_run: Run, scripted: ScriptedService) -> None:
    bot_id = scripted.add(state=EXITED, health=pb.HEALTH_STATUS_STARTING)
    scripted.logs = [[]]
    said = botctl_run("start", "--wait", "--wait-timeout", "100ms", bot_id)
    assert ExitCode.NOT_UP == said.exit_code
    assert "it was not ready within 0.1 s: its health check has not passed yet" in said.stderr
    scripted.containers.clear()
    scripted.actions = [[Event(stderr=b"a\nnot yet\n"), Event(end=maintainer_pb.ActionEnd(exit_code=1))]]
    bot_id = scripted.add(state=EXITED)
    said = botctl_run("start", "--wait", "--wait-timeout", "100ms", bot_id)
    assert f"Error: {bot_id}: started, and it was not ready within 0.1 s: its action ready says: not yet" in said.stderr


def test_an_interrupted_run_gives_up_its_calls_and_ends_with_130(botctl_run: Run, scripted: ScriptedService) -> None:
    bots = [scripted.add() for _ in range(3)]
    # The barrier never opens: each start waits.
    scripted.gate = threading.Barrier(4)
    main = threading.get_ident()

    def interrupt() -> None:
        wait_until(lambda: scripted.at_once == 2, "two starts wait")
        # Sent to this thread, as a terminal's Ctrl-C goes to the main thread.
        signal.pthread_kill(main, signal.SIGINT)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    result = botctl_run("start", "--parallel", "2", *bots)
    interrupter.join()
    scripted.gate.abort()
    assert ExitCode.INTERRUPTED == result.exit_code
    assert "Traceback" not in result.output


CREATE = {
    "--image": ("bot:2", {"image": "bot:2"}),
    "--provider": ("ollama", {"ai_provider": "ollama"}),
    "--model": ("llama3.3", {"ai_model": "llama3.3"}),
    "--channel": ("telegram", {"channel_type": "telegram"}),
    "--env": ("A=b=c", {"environment": {"A": "b=c"}}),
    "--port": (
        "8080:80/udp",
        {"ports": [pb.PortBinding(host_port=8080, container_port=80, protocol=pb.PROTOCOL_UDP)]},
    ),
    "--network": ("none", {"network": "none"}),
    "--add-host": ("db:10.0.0.5", {"extra_hosts": {"db": "10.0.0.5"}}),
    "--memory": ("512m", {"resources": pb.ResourceLimits(memory_bytes=512 << 20)}),
    "--cpus": ("1.5", {"resources": pb.ResourceLimits(nano_cpus=1_500_000_000)}),
    "--hostname": ("anna", {"hostname": "anna"}),
    "--label": ("team=blue", {"labels": {"team": "blue"}}),
    "--health-cmd": ("node 'a b.js' x", {"health_check": pb.HealthCheck(command=["node", "a b.js", "x"])}),
    "--pids-limit": ("64", {"resources": pb.ResourceLimits(pids_limit=64)}),
}


@pytest.mark.parametrize(("option", "text", "fields"), [(key, *value) for key, value in CREATE.items()])
def test_each_option_of_create_is_its_field(
    botctl_run: Run, scripted: ScriptedService, option: str, text: str, fields: dict[str, Any]
) -> None:
    assert 0 == botctl_run("create", UNKNOWN, option, text).exit_code
    (request,) = scripted.seen("CreateContainer")
    assert pb.ContainerConfig(**fields) == request.config
    assert UNKNOWN == request.bot_id


def test_create_has_an_option_for_every_field_of_the_request() -> None:
    given = {name for _, fields in CREATE.values() for name in fields}
    assert given | {"command"} == {field.name for field in pb.ContainerConfig.DESCRIPTOR.fields}
    limits = {field for _, fields in CREATE.values() if "resources" in fields for field, _ in _set(fields["resources"])}
    assert limits == {field.name for field in pb.ResourceLimits.DESCRIPTOR.fields}


def _set(message: Any) -> list[tuple[str, Any]]:
    return [(field.name, value) for field, value in message.ListFields()]


def test_the_health_check_has_its_times_and_retries(botctl_run: Run, scripted: ScriptedService) -> None:
    times = ("--health-interval", "1m", "--health-timeout", "250ms", "--health-start-period", "2s")
    assert 0 == botctl_run("create", UNKNOWN, "--health-cmd", "true", *times, "--health-retries", "5").exit_code
    (request,) = scripted.seen("CreateContainer")
    wanted = pb.HealthCheck(
        command=["true"],
        interval=Duration(seconds=60),
        timeout=Duration(nanos=250_000_000),
        start_period=Duration(seconds=2),
        retries=5,
    )
    assert wanted == request.config.health_check


def test_the_command_stands_behind_two_dashes_and_is_taken_as_it_is(botctl_run: Run, scripted: ScriptedService) -> None:
    botctl_run("create", UNKNOWN, "--request-id", "mine", "--", "sh", "-c", "echo --help")
    (request,) = scripted.seen("CreateContainer")
    assert (["sh", "-c", "echo --help"], "mine") == (list(request.config.command), request.request_id)
    assert not request.config.HasField("resources")


def test_create_tells_the_containers_id_to_scripts(botctl_run: Run, scripted: ScriptedService) -> None:
    result = botctl_run("create", UNKNOWN, "-o", "json")
    (container,) = scripted.containers
    assert [{"bot_id": UNKNOWN, "result": "created", "error": None, "container_id": container}] == document(result)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["1234"], "a new bot needs a whole UUID"),
        ([UNKNOWN, "--env", "A"], "NAME=VALUE"),
        ([UNKNOWN, "--env", "A=1", "--env", "A=2"], "--env is given twice for 'A'"),
        ([UNKNOWN, "--label", "team"], "KEY=VALUE"),
        ([UNKNOWN, "--label", "a=1", "-l", "a=2"], "--label is given twice for 'a'"),
        ([UNKNOWN, "--health-retries", "2"], "the other --health options go with --health-cmd"),
        ([UNKNOWN, "--health-cmd", "true", "--health-retries", "4294967296"], "is not a whole number"),
        ([UNKNOWN, "--health-cmd", "node 'x"], "--health-cmd cannot be split into a program and its arguments"),
        ([UNKNOWN, "--memory", "lots"], "is not a size such as"),
        ([UNKNOWN, "--port", "http"], "is not a port such as"),
    ],
)
def test_a_wrong_create_is_refused_here(
    botctl_run: Run, scripted: ScriptedService, arguments: list[str], said: str
) -> None:
    assert said in complaint(botctl_run("create", *arguments), ExitCode.USAGE)
    assert [] == scripted.requests


def test_creating_what_exists_says_how_to_make_room(botctl_run: Run, scripted: ScriptedService) -> None:
    error = ContainerAlreadyExistsError("the bot has the container already; remove that one first", bot_id=UNKNOWN)
    scripted.fail("CreateContainer", error)
    said = complaint(botctl_run("create", UNKNOWN), ExitCode.REFUSED)
    assert said.endswith(f"remove that one first: botctl remove {UNKNOWN}")
