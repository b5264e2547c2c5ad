"""The service under a systemd that has booted, installed with the commands of deploy/README.md alone."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from container_manager.validation import is_bot_id
from dev.python_base import OFFLINE_IMAGE
from tests.docs.documents import blocks
from tests.support.booted_machine import COPY, BootedMachine
from tests.support.pip_arguments import pip_arguments
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SOCKET = "/run/botmaker/container-manager.sock"
STATE = ("ActiveState", "SubState")
SETTINGS = "/etc/default/container-manager"


def documented(begins: str) -> str:
    """The block of deploy/README.md that begins with this text."""
    [block] = [block for block in blocks("deploy/README.md") if block.text.startswith(begins)]
    return block.text


@pytest.fixture(scope="module")
def machine(
    engine: docker.DockerClient, engine_url: str, test_labels: dict[str, str], session_dir: Path, all_bot_ids: list[str]
) -> Iterator[BootedMachine]:
    """A machine with systemd and Docker, and without the service."""
    if not engine_url.startswith("unix://"):
        pytest.skip("the engine's socket is not on this machine")
    lib = session_dir / "machine-lib"
    lib.mkdir()
    machine = BootedMachine(engine, engine_url, test_labels, lib)
    yield machine
    machine.remove()
    all_bot_ids += [path.name for path in (lib / "secrets").glob("*") if is_bot_id(path.name)]


@pytest.fixture(scope="module")
def installed(machine: BootedMachine, session_dir: Path, test_image: str) -> str:
    """What the README's installation prints; it must succeed as it stands, but for the settings of this test."""
    install = documented("install -D -m 0644 deploy/systemd/")
    settings = {
        # The engine runs elsewhere: it knows the roots by the paths of its own machine.
        "CONTAINER_MANAGER_HOST_SECRETS_ROOT": session_dir / "machine-lib" / "secrets",
        "CONTAINER_MANAGER_HOST_STATE_ROOT": session_dir / "machine-lib" / "state",
        "CONTAINER_MANAGER_DEFAULT_IMAGE": test_image,
        # The user of that image.
        "CONTAINER_MANAGER_BOT_USER": "0:0",
    }
    line = f"install -m 0644 deploy/systemd/container-manager.default {SETTINGS}\n"
    assert 1 == install.count(line)
    lines = "".join(f"{name}={value}\\n" for name, value in settings.items())
    install = install.replace(line, f"{line}printf '{lines}' >>{SETTINGS}\n")
    return machine.run(f"cd {COPY}\n{install}\nstat -c '%a %U:%G %F' {SOCKET}", **pip_arguments(OFFLINE_IMAGE))


@pytest.fixture
def running(machine: BootedMachine, installed: str) -> BootedMachine:
    """The machine, with the service as installed."""
    machine.run("systemctl reset-failed container-manager; systemctl restart container-manager")
    return machine


def test_the_socket_is_there_as_soon_as_systemctl_returns(machine: BootedMachine, installed: str) -> None:
    assert "660 container-manager:botmaker socket" == installed.splitlines()[-1]
    assert {"Type": "notify", "ActiveState": "active", "SubState": "running"} == machine.shown("Type", *STATE)
    # Also after a start by hand, and a restart; and none is left by a stop.
    for verb in ("stop", "start", "restart"):
        machine.run(f"systemctl {verb} container-manager; test {'! ' if verb == 'stop' else ''}-S {SOCKET}")


def test_every_directory_of_the_defaults_is_made_and_the_doctor_finds_nothing_wrong(running: BootedMachine) -> None:
    told = running.run(documented("runuser -u container-manager"))
    assert "a server answers" in told
    assert [] == [line for line in told.splitlines() if line.startswith("failed")]


def test_a_member_of_the_group_has_botctl_on_the_path_and_brings_up_a_bot(running: BootedMachine) -> None:
    """Without a right on any directory, and without a word of Docker."""
    running.run("useradd stranger; useradd api; usermod -aG botmaker api")
    running.run("botctl list", user="stranger", status=5)
    bot_id = str(uuid.uuid4())
    life = f"""
        {documented("botctl version")}
        echo 0123456789abcdef | botctl secrets put {bot_id} GATEWAY_TOKEN=@-
        botctl create {bot_id} -- sh -c 'cat /run/secrets/GATEWAY_TOKEN && exec sleep 100000'
        botctl start --wait {bot_id}
        botctl logs {bot_id}
        botctl remove --grace 0s {bot_id}
        botctl secrets rm --all {bot_id}
    """
    told = running.run(life, user="api").splitlines()
    running_alone = "running for 10 s; its image has neither a health check nor the action ready"
    shown = [*(f"{bot_id}  {word}" for word in ("written", "created", running_alone)), "0123456789abcdef"]
    assert [*shown, *[f"{bot_id}  removed"] * 2] == told[-6:]


def test_a_stuck_event_loop_is_restarted_and_bots_go_on(running: BootedMachine) -> None:
    running.run(
        "mkdir -p /run/systemd/system/container-manager.service.d\n"
        "printf '[Service]\\nWatchdogSec=3\\n' >/run/systemd/system/container-manager.service.d/patience.conf\n"
        "systemctl daemon-reload; systemctl restart container-manager"
    )
    before = running.shown("MainPID")
    running.run(f"kill -STOP {before['MainPID']}")
    wait_until(lambda: running.shown("MainPID") not in (before, {"MainPID": "0"}), "it is restarted", 60)
    wait_until(lambda: running.shown(*STATE) == {"ActiveState": "active", "SubState": "running"}, "it is back", 60)
    assert "Watchdog timeout" in running.journal()
    running.run(
        "rm -r /run/systemd/system/container-manager.service.d; systemctl daemon-reload; "
        "systemctl restart container-manager; botctl list"
    )


def test_metrics_are_served_as_the_readme_says(running: BootedMachine) -> None:
    running.run(f"cp {SETTINGS} /root/settings")
    try:
        running.run(documented("echo CONTAINER_MANAGER_METRICS_LISTEN"))
        told = running.run(
            "python3 -c 'import urllib.request as r; print(r.urlopen(\"http://127.0.0.1:9464/metrics\").read().decode())'"
        )
    finally:
        running.run(f"cp /root/settings {SETTINGS}")
    assert "\ncontainer_manager_view_in_sync " in told


def test_a_configuration_that_cannot_be_used_is_not_tried_again(running: BootedMachine) -> None:
    """And systemctl says at once that the start has failed."""
    running.run(f"cp {SETTINGS} /root/settings; echo CONTAINER_MANAGER_SECRETS_ROOT=/nowhere >>{SETTINGS}")
    try:
        told = running.run("systemctl restart container-manager", status=1)
        found = running.shown("Result", "ExecMainStatus", "NRestarts", *STATE)
    finally:
        running.run(f"cp /root/settings {SETTINGS}")
    assert {
        "Result": "exit-code",
        "ExecMainStatus": "2",
        "NRestarts": "0",
        # Not "auto-restart": no other try is planned.
        "ActiveState": "failed",
        "SubState": "failed",
    } == found, told
    assert "the secrets root /nowhere does not exist" in running.run(
        "journalctl --no-pager -u container-manager -o cat"
    )


def test_an_address_in_use_is_tried_again_until_it_is_free(running: BootedMachine) -> None:
    running.run("systemctl stop container-manager; systemd-run --unit holder python3 -m http.server -b 127.0.0.1 9464")
    wait_until(
        lambda: (
            not running.run(
                "python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 9464))' && echo -n || echo no"
            )
        ),
        "it is in use",
    )
    running.run(f"cp {SETTINGS} /root/settings; echo CONTAINER_MANAGER_METRICS_LISTEN=127.0.0.1:9464 >>{SETTINGS}")
    try:
        running.run("systemctl start container-manager", status=1)
        assert {"ActiveState": "activating"} == running.shown("ActiveState")
        running.run("systemctl stop holder")
        wait_until(lambda: running.shown("ActiveState") == {"ActiveState": "active"}, "it serves", 60)
    finally:
        running.run(f"cp /root/settings {SETTINGS}")


def test_the_service_of_the_timer_makes_one_backup_of_each_bot(running: BootedMachine) -> None:
    bot_id, backups = str(uuid.uuid4()), "/var/lib/botmaker/backups"
    running.run(
        f"cp {SETTINGS} /root/settings; cd {COPY}\n{documented('install -d -m 0700 -o container-manager')}\n"
        f"echo 0123456789abcdef | botctl secrets put {bot_id} GATEWAY_TOKEN=@-\n"
        f"botctl create {bot_id} -- sleep 100000"
    )
    try:
        assert ["active"] == running.run("systemctl is-active container-manager-backup.timer").split()
        assert [] == running.run(f"ls {backups}").split()
        running.run("systemctl start container-manager-backup")
        (archive,) = running.run(f"ls {backups}/{bot_id}-*.tar.gz").split()
        assert f"600 container-manager {archive}" == running.run(f"stat -c '%a %U %n' {archive}").strip()
    finally:
        running.run(
            "systemctl disable --now container-manager-backup.timer\n"
            f"rm -r /etc/systemd/system/container-manager-backup.* {backups}; cp /root/settings {SETTINGS}\n"
            "systemctl daemon-reload; systemctl restart container-manager\n"
            f"botctl remove --grace 0s {bot_id}; botctl secrets rm --all {bot_id}"
        )


def test_systemd_hears_that_the_service_stops_while_it_drains(running: BootedMachine) -> None:
    """Of a stop that it has not ordered, too."""
    bot_id = str(uuid.uuid4())
    running.run(
        f"echo 0123456789abcdef | botctl secrets put {bot_id} GATEWAY_TOKEN=@-\n"
        f"botctl create {bot_id} -- sh -c 'trap \"echo asked\" TERM; while :; do sleep 1; done'\n"
        f"botctl start --wait {bot_id}\n"
        f"systemd-run --unit stopping /usr/local/bin/botctl stop --grace 15s {bot_id}"
    )
    try:
        wait_until(lambda: "asked" in running.run(f"botctl logs {bot_id}"), "the stop is under way")
        running.run("kill -TERM $(systemctl show container-manager -p MainPID --value)")
        wait_until(lambda: running.shown("SubState") == {"SubState": "stop-sigterm"}, "systemd knows", 10)
        wait_until(lambda: running.shown("ActiveState") == {"ActiveState": "inactive"}, "it has ended", 60)
    finally:
        running.run(
            f"systemctl start container-manager; botctl remove --grace 0s {bot_id}; botctl secrets rm --all {bot_id}"
        )


def test_after_the_uninstallation_nothing_of_the_service_is_left_but_the_bots_data(running: BootedMachine) -> None:
    running.run(documented("botctl remove --all"))
    files = (
        "/opt/container-manager /usr/local/bin/* /etc/default/container-manager /etc/sysusers.d/* "
        f"/etc/systemd/system/container-manager* /etc/systemd/system/*.wants/container-manager* {SOCKET}"
    )
    users = "{ getent passwd container-manager; getent group botmaker container-manager; } || true"
    left = running.run(f"{users}; ls -d {files} 2>/dev/null || true; ls /var/lib/botmaker")
    assert ["secrets", "state"] == left.split()
