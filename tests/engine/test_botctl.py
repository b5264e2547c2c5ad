"""``botctl`` as a process, against the real service on a real engine: a bot's life, mistakes included."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.botctl_process import botctl, environment, on_terminal, piped
from tests.support.bots import Bots
from tests.support.calls import FOREVER, STUBBORN, Calls
from tests.support.waiting import wait_until

SAYING_WHY = ("sh", "-c", "echo starting; echo no configuration >&2; exit 3")


def told(done: subprocess.CompletedProcess[str], status: int = 0) -> Any:
    """The JSON document of a run with this exit code."""
    assert status == done.returncode, done.stderr
    return json.loads(done.stdout)


def test_a_bots_life(target: str, bots: Bots) -> None:
    bot_id = bots.new()
    short = bot_id[:13]
    (created,) = told(
        botctl(
            target,
            *("create", bot_id, "--output", "json", "--provider", "ollama", "--env", "GREETING=hello there"),
            *("--port", "127.0.0.1::8080", "--memory", "64m", "--cpus", "0.5", "--pids-limit", "32"),
            *("--add-host", "db:10.0.0.5", "--", "sh", "-c", 'echo "$AI_PROVIDER: $GREETING"; exec sleep 100000'),
        )
    )
    inspected = bots.inspect(bot_id)
    assert inspected["Id"] == created["container_id"]
    limits = inspected["HostConfig"]
    assert (64 << 20, 500_000_000, 32) == (limits["Memory"], limits["NanoCpus"], limits["PidsLimit"])
    done = botctl(target, "start", "--wait", short)
    waited = "running for 10 s; its image has neither a health check nor the action ready"
    assert (0, f"{bot_id}  {waited}\n", "") == (done.returncode, done.stdout, done.stderr)
    (status,) = told(botctl(target, "status", short, "-o", "json"))
    assert ("running", created["container_id"], 8080) == (
        *(status["state"], status["container_id"], status["ports"][0]["container_port"]),
    )
    listed = botctl(target, "list", "--state", "running")
    assert [bot_id, "running"] == next(line for line in listed.stdout.splitlines() if bot_id in line).split()[:2]
    assert "ollama: hello there\n" == botctl(target, "logs", short).stdout
    assert f"{bot_id}  stopped\n" == botctl(target, "stop", "--grace", "0", short).stdout
    (status,) = told(botctl(target, "status", short, "-o", "json"))
    assert ("exited", "killed") == (status["state"], status["exit_reason"])
    assert f"{bot_id}  restarted\n" == botctl(target, "restart", short).stdout
    assert f"{bot_id}  removed\n" == botctl(target, "remove", "--grace", "0", short).stdout
    assert f"{bot_id}  no container\n" == botctl(target, "remove", bot_id).stdout
    assert [] == bots.containers()


def test_mistakes_with_a_bot_are_one_line_and_leave_all_as_it_was(target: str, bots: Bots) -> None:
    bot_id, unknown = bots.new(), str(uuid.uuid4())
    mistakes = [
        (("start", bot_id), 3, f"botctl create {bot_id}"),
        (("logs", bot_id), 3, f"botctl create {bot_id}"),
        (("create", unknown), 6, "the secrets directory"),
        (("create", bot_id, "--image", "Upper"), 2, "config.image"),
    ]
    for arguments, code, said in mistakes:
        done = botctl(target, *arguments)
        assert (code, "") == (done.returncode, done.stdout), arguments
        assert said in done.stderr
        assert 1 == len(done.stderr.splitlines()), done.stderr
    assert [] == bots.containers()
    assert 0 == botctl(target, "create", bot_id, "--", "no-such-command").returncode
    done = botctl(target, "create", bot_id)
    assert (6, True) == (done.returncode, f"botctl remove {bot_id}" in done.stderr)
    done = botctl(target, "start", "--wait", bot_id)
    assert (6, True) == (done.returncode, "no-such-command" in done.stderr)


def test_the_engines_own_socket_is_told_to_be_another_services(engine_url: str) -> None:
    done = botctl(engine_url, "list")
    assert (4, "") == (done.returncode, done.stdout), done.stderr
    assert f"Error: the server at {engine_url} is not a container manager" in done.stderr
    assert 1 == len(done.stderr.splitlines())


def test_several_bots_have_a_result_each(target: str, bots: Bots, calls: Calls) -> None:
    good, bad = [bots.new(), bots.new()], bots.new()
    for bot_id in good:
        calls.create(bot_id, *FOREVER)
    calls.create(bad, "no-such-command")
    results = told(botctl(target, "start", *good, bad, "-o", "json"), 6)
    assert [*good, bad] == [result["bot_id"] for result in results]
    assert ["started", "started", "failed"] == [result["result"] for result in results]
    assert "COMMAND_NOT_FOUND" == results[2]["error"]["reason"]
    results = told(botctl(target, "remove", "--grace", "0", *good, bad, "-o", "json"))
    assert ["removed"] * 3 == [result["result"] for result in results]


def test_on_a_terminal_a_start_that_fails_shows_a_spinner_and_then_the_last_lines(
    target: str, bots: Bots, calls: Calls
) -> None:
    bot_id = bots.new()
    calls.create(bot_id, *SAYING_WHY)
    with on_terminal(target, "start", "--wait", bot_id) as terminal:
        assert 8 == terminal.wait()
    assert "⠋ starting " + bot_id in terminal.text
    assert f"Error: {bot_id}: started, and its process ended" in terminal.text.replace("\r\n", "")
    assert "  no configuration" in terminal.text
    # There are colours, and the cursor that the spinner hid is visible again.
    assert b"\x1b[31m\x1b[1mError:" in terminal.shown or b"\x1b[1;31mError:" in terminal.shown
    assert terminal.shown.rfind(b"\x1b[?25h") > terminal.shown.rfind(b"\x1b[?25l")
    calls.stop(bot_id)
    piped_run = botctl(target, "start", "--wait", bot_id)
    assert (8, "") == (piped_run.returncode, piped_run.stdout)
    assert "\x1b" not in piped_run.stderr
    assert "⠋" not in piped_run.stderr


def test_a_bot_with_a_health_check_is_waited_for_until_it_is_healthy(
    target: str, bots: Bots, calls: Calls, build_image: Callable[[str], str]
) -> None:
    image = build_image("HEALTHCHECK --interval=1s --timeout=5s --retries=1 CMD test -e /tmp/ready")
    well, ill = bots.new(), bots.new()
    calls.create(well, "sh", "-c", "touch /tmp/ready; exec sleep 100000", image=image)
    calls.create(ill, *FOREVER, image=image)
    done = botctl(target, "start", "--wait", well, ill)
    assert (8, f"{well}  healthy\n") == (done.returncode, done.stdout)
    assert f"{ill}: started, and its health check fails" in done.stderr


def test_on_a_terminal_a_start_shows_what_it_waits_for(
    target: str, bots: Bots, calls: Calls, build_image: Callable[[str], str]
) -> None:
    bot_id = bots.new()
    image = build_image("HEALTHCHECK --interval=1s --retries=1000 CMD test -e /tmp/ready")
    container_id = calls.create(bot_id, *FOREVER, image=image)
    with on_terminal(target, "start", "--wait", bot_id, columns=160) as terminal:
        terminal.wait_for(rf"starting {bot_id}; {bot_id}: its health check has not passed yet")
        bots.engine.containers.get(container_id).exec_run(["touch", "/tmp/ready"])
        assert 0 == terminal.wait()
    assert f"{bot_id}  healthy" in terminal.text
    calls.remove(bot_id, grace=0)


def test_watch_is_a_table_that_is_kept_up_to_date_until_ctrl_c(target: str, bots: Bots, calls: Calls) -> None:
    bot_id = bots.new()
    calls.create(bot_id, *FOREVER)
    with on_terminal(target, "watch", bot_id) as terminal:
        terminal.wait_for(rf"{bot_id[:8]} +created")
        calls.start(bot_id)
        terminal.wait_for(rf"{bot_id[:8]} +running .*\s+1 containers, 1 running")
        calls.stop(bot_id, grace=0)
        terminal.wait_for(rf"{bot_id[:8]} +exited \(1\d\d, killed\)")
        shown = len(terminal.text)
        calls.remove(bot_id)
        terminal.wait_for("0 containers, 0 running", since=shown)
        terminal.press_ctrl_c()
        assert 130 == terminal.wait()
    assert "Traceback" not in terminal.text
    assert b"\x1b[32mrunning" in terminal.shown
    assert terminal.shown.rfind(b"\x1b[?25h") > terminal.shown.rfind(b"\x1b[?25l")


def test_without_colours_the_table_still_moves_and_sigterm_leaves_the_cursor(
    target: str, bots: Bots, calls: Calls
) -> None:
    bot_id = bots.new()
    calls.run(bot_id, *FOREVER)
    with on_terminal(target, "watch", bot_id, NO_COLOR="1") as terminal:
        terminal.wait_for(rf"{bot_id[:8]} +running")
        wait_until(lambda: b"\x1b[1A" in terminal.shown, "the table is written anew")
        terminal.process.terminate()
        assert 143 == terminal.wait()
    assert terminal.shown.rfind(b"\x1b[?25h") > terminal.shown.rfind(b"\x1b[?25l")
    assert re.search(rb"\x1b\[[0-9;]*m", terminal.shown) is None


def test_stats_are_a_table_on_a_terminal_and_json_lines_for_scripts(target: str, bots: Bots, calls: Calls) -> None:
    bot_id = bots.new()
    calls.run(bot_id, *FOREVER)
    with on_terminal(target, "stats", bot_id, "--interval", "500ms") as terminal:
        terminal.wait_for(rf"{bot_id[:8]} +[0-9.]+% +[0-9.]+ [KM]iB")
        terminal.press_ctrl_c()
        assert 130 == terminal.wait()
    with piped(target, "stats", bot_id, "-o", "json") as process:
        assert process.stdout is not None
        sample = json.loads(process.stdout.readline())
    assert bot_id == sample["bot_id"]
    assert sample["memory_usage_bytes"] > 0


def test_a_closed_pipe_ends_it_without_a_message(target: str, bots: Bots, calls: Calls) -> None:
    bot_id = bots.new()
    calls.run(bot_id, "sh", "-c", "while :; do echo line; sleep 0.01; done")
    with piped(target, "logs", "-f", bot_id) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert 141 == process.wait(60)
        assert b"" == process.stderr.read()
        process.stdout = None


def test_ctrl_c_amid_a_stop_ends_it_and_the_bot_is_stopped_all_the_same(target: str, bots: Bots, calls: Calls) -> None:
    bot_id = bots.new()
    calls.run(bot_id, *STUBBORN)
    bots.wait_for_log(bot_id, b"ready")
    with on_terminal(target, "stop", "--grace", "2s", bot_id) as terminal:
        bots.wait_for_log(bot_id, b"asked")
        terminal.press_ctrl_c()
        assert 130 == terminal.wait()
    # The stop alone would have exited with 0.
    assert "stopped" not in terminal.text
    assert "Traceback" not in terminal.text
    wait_until(lambda: bots.inspect(bot_id)["State"]["Status"] == "exited", "it is stopped")


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_bash_completes_commands_and_bots(target: str, bots: Bots, calls: Calls) -> None:
    programs = Path(sys.executable).parent
    if not (programs / "botctl").exists():
        pytest.skip("the distribution is not installed")
    bot_id = bots.new()
    calls.create(bot_id, *FOREVER)
    script = """
        eval "$(botctl completion bash)"
        complete -p botctl >/dev/null || exit 1
        try() {
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
            _botctl_completion botctl
            echo "${COMPREPLY[@]}"
        }
        try botctl sta
        try botctl start "$1"
        BOTCTL_TARGET=unix:///nowhere/s.sock try botctl start "$1"
    """
    env = {**environment(target), "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script, "bash", bot_id[:13]], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert (["start stats status", bot_id, ""], "") == (done.stdout.splitlines(), done.stderr)
