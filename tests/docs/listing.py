"""The blocks that are not executed as they stand, each with its reason and the tests that show what it says.

Every other block in a language of :data:`~tests.docs.documents.EXECUTED` is executed, by ``test_commands.py``: so a new
block needs an entry here only where it cannot be. ``test_listing.py`` refuses entries that match no block.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Listed:
    """Blocks of a document that start with this text."""

    document: str
    begins: str
    reason: str
    tests: tuple[str, ...]


_TARGETS = ("tests/docs/test_names.py::test_every_target_of_make_that_a_document_names_is_there",)
_WHEEL = ("tests/packaging/test_wheel.py::test_the_client_works_from_the_wheel_without_extras",)
_SYSTEMD = "tests/engine/test_systemd.py"
_PROMETHEUS = "tests/engine/test_prometheus.py"
_AS_BOTMAKER = "tests/engine/test_bot_image_botmaker.py"
_COMPOSE = ("tests/engine/test_compose.py::test_a_bots_life_over_http_with_its_secrets_and_state",)

_MIGRATION = ("tests/engine/test_adoption.py::test_the_page_on_migrating_does_what_it_says",)
_ADOPTS = "it could adopt bots of others; on an engine of its own, with BotMaker's containers, it is executed by"

LISTED = (
    Listed(
        "CONTRIBUTING.md", "make ", "the tests are within `make test`; that each target is there is shown by", _TARGETS
    ),
    Listed(
        "CONTRIBUTING.md",
        ".venv/bin/python -m pytest",
        "it would be a test within a test; it is within `make test`, too",
        (
            "tests/engine/test_lifecycle.py::test_conformance_01_status_list_and_the_engine_agree_on_a_created_container",
        ),
    ),
    Listed(
        "README.md",
        "make serve",
        "the tests are within `make test`, and `make serve` needs the port and the directory of a developer's demo",
        ("tests/engine/test_make_serve.py::test_the_printed_calls_create_start_and_show_a_real_bot",),
    ),
    Listed(
        "deploy/README.md",
        "install -D -m 0644 deploy/systemd/",
        "it changes users, services and files of the machine; on one of its own, it is executed by",
        (
            f"{_SYSTEMD}::test_the_socket_is_there_as_soon_as_systemctl_returns",
            "tests/packaging/test_systemd_unit.py::test_the_users_and_groups_that_the_unit_names_are_made",
        ),
    ),
    Listed(
        "deploy/README.md",
        "install -d -m 0700 -o container-manager",
        "it changes services and files of the machine; on one of its own, it is executed by",
        (
            f"{_SYSTEMD}::test_the_service_of_the_timer_makes_one_backup_of_each_bot",
            "tests/packaging/test_systemd_unit.py::test_systemd_finds_nothing_wrong_with_the_backups_of_every_night",
        ),
    ),
    Listed(
        "docs/operations.md",
        "botctl upgrade --all",
        "it acts on every bot of the engine",
        ("tests/rpc/test_botctl_backup.py::test_a_fleet_is_upgraded_one_after_another_until_one_fails",),
    ),
    Listed(
        "docs/backups.md",
        "botctl backup restore BOT",
        "it is a form, not a command",
        ("tests/rpc/test_botctl_backup.py::test_backups_are_made_listed_restored_and_removed",),
    ),
    Listed(
        "docs/backups.md",
        "age-keygen",
        "it needs the program age, and serves; that the service encrypts for such a key is shown by",
        (
            "tests/rpc/test_backups.py::test_secrets_are_in_no_archive_unless_the_operator_has_them_encrypted",
            "tests/unit/test_serve_options.py::test_an_option_is_an_environment_variable_too",
        ),
    ),
    Listed(
        "docs/backups.md",
        "tar -xzOf BACKUP.tar.gz secrets.tar.age",
        "it needs the program age; with a library in its place, the same is done by",
        (
            "tests/rpc/test_backups.py::test_secrets_are_in_no_archive_unless_the_operator_has_them_encrypted",
            "tests/unit/test_sealed_secrets.py::test_each_recipient_gets_the_same_bytes_and_nobody_else_any",
        ),
    ),
    Listed(
        "docs/backups.md",
        "scp /var/lib/botmaker/backups/",
        "it needs a second machine; with a copy of the file, the same is done by",
        ("tests/engine/test_backups.py::test_conformance_20_a_backup_brings_a_bot_back_on_another_machine",),
    ),
    Listed(
        "deploy/README.md",
        "botctl remove --all",
        "it removes what the installation before it has made; on a machine of its own, it is executed by",
        (f"{_SYSTEMD}::test_after_the_uninstallation_nothing_of_the_service_is_left_but_the_bots_data",),
    ),
    Listed(
        "deploy/README.md",
        "runuser -u container-manager",
        "it is for the user that the unit has; without it, and with another file of settings, it is executed by",
        (
            "tests/engine/test_doctor.py::test_the_readmes_doctor_has_the_settings_of_the_unit",
            f"{_SYSTEMD}::test_every_directory_of_the_defaults_is_made_and_the_doctor_finds_nothing_wrong",
        ),
    ),
    Listed("deploy/README.md", "cd deploy\ncp .env.example .env", "it builds images, which takes minutes", _COMPOSE),
    Listed(
        "deploy/README.md",
        "echo CONTAINER_MANAGER_METRICS_LISTEN",
        "it changes services and files of the machine; on one of its own, it is executed by",
        (f"{_SYSTEMD}::test_metrics_are_served_as_the_readme_says",),
    ),
    Listed(
        "deploy/README.md",
        "docker-compose --profile metrics",
        "it needs the service in a container",
        ("tests/engine/test_compose.py::test_with_its_profile_metrics_are_scraped_from_a_port_of_the_machine",),
    ),
    Listed(
        "deploy/README.md",
        "curl --fail --silent --show-error --unix-socket",
        "the relay needs a port, and does not end",
        (f"{_PROMETHEUS}::test_every_documented_query_has_a_result_and_the_first_crash_of_a_bot_fires_its_alert",),
    ),
    Listed(
        "deploy/README.md",
        "docker-compose exec",
        "it needs the service in a container",
        ("tests/engine/test_compose.py::test_the_commands_of_the_service_find_it_in_its_container",),
    ),
    Listed(
        "deploy/README.md",
        "docker-compose down",
        "it needs the service in a container",
        ("tests/engine/test_compose.py::test_down_ends_both_cleanly_and_leaves_nothing_behind",),
    ),
    Listed(
        "deploy/README.md",
        "docker build --file deploy/Dockerfile",
        "it builds an image, which takes minutes; with one that is there its docker run is executed",
        ("tests/engine/test_compose.py::test_the_readmes_docker_run_gives_a_service_that_is_healthy_and_ends_cleanly",),
    ),
    Listed(
        "docs/access-and-limits.md",
        'connect("tcp://192.0.2.7:50051"',
        "it needs another machine, with certificates",
        ("tests/rpc/test_tls.py::test_paths_are_as_good_as_bytes",),
    ),
    Listed("docs/botctl.md", "pip install", "it changes an environment; the wheel is installed by", _WHEEL),
    Listed(
        "docs/botctl.md",
        "botctl list --target tcp://bots.example.org",
        "it needs another machine, with certificates",
        (
            "tests/rpc/test_botctl_tls.py::test_with_the_three_options_and_the_token_the_service_is_reached",
            "tests/rpc/test_botctl_tls.py::test_the_variables_are_as_good_as_the_options_which_win",
        ),
    ),
    Listed(
        "docs/botctl.md",
        "botctl start --all",
        "the engine may have bots of others, and these would be started and removed",
        ("tests/unit/test_botctl_verbs.py::test_selecting_by_state_takes_only_bots_in_that_state_and_no_orphan",),
    ),
    Listed(
        "docs/botctl.md",
        'eval "$(botctl completion bash)',
        "it is for the files that interactive shells begin with",
        (
            "tests/engine/test_botctl.py::test_bash_completes_commands_and_bots",
            "tests/unit/test_botctl_completion.py::test_each_shell_has_its_completion",
        ),
    ),
    Listed(
        "docs/client.md",
        "pip install types-grpcio",
        "it changes an environment; types are checked by",
        ("tests/packaging/test_client_types.py::test_each_checker_accepts_the_program_and_finds_every_fault",),
    ),
    Listed("docs/migrating-from-botmaker.md", "$ botctl status", _ADOPTS, _MIGRATION),
    Listed("docs/migrating-from-botmaker.md", "$ container-manager adopt --dry-run", _ADOPTS, _MIGRATION),
    Listed("docs/migrating-from-botmaker.md", "bot=", _ADOPTS, _MIGRATION),
    Listed("docs/migrating-from-botmaker.md", "botctl stop", _ADOPTS, _MIGRATION),
    Listed("docs/operations.md", "pip install", "it changes an environment; the wheel is installed by", _WHEEL),
    Listed(
        "examples/api_tier/README.md", "pip install", "it changes an environment; the wheel is installed by", _WHEEL
    ),
    Listed(
        "examples/node_client/README.md",
        "cd examples/node_client",
        "it changes the directory that other tests use; its commands are executed by",
        ("tests/examples/test_node_client.py::test_the_clients_own_tests_pass",),
    ),
    Listed(
        "images/openclaw/README.md",
        "images/openclaw/build.sh",
        "it would take the tag from the image that is there; `make bot-image` runs it, and these use it",
        ("tests/engine/test_bot_image_gateway.py::test_gateway_accepts_its_token_and_nothing_else",),
    ),
    Listed(
        "docs/swarm.md",
        "docker node update --availability drain",
        "it needs a swarm; on a swarm of the tests' own, the same is asked of the manager by",
        ("tests/swarm/test_failures.py::test_a_bot_whose_machine_dies_runs_on_another_one",),
    ),
    Listed(
        "docs/swarm.md",
        "botctl --target unix:///run/one/s.sock backup create BOT --stop",
        "it needs a machine and a swarm; on a swarm of the tests' own, the same calls are made by",
        (
            "tests/swarm/test_states.py::test_conformance_20_a_bot_moves_from_one_machine_to_a_swarm_and_back_with_its_state",
        ),
    ),
    Listed(
        "images/openclaw/README.md",
        "bot_id=8b0f0d4e-5a0c-4d0e-9c55-4a1f5e3b7d21\nopenssl",
        "it needs a proxy and its token",
        (f"{_AS_BOTMAKER}::test_its_requests_go_through_the_proxy_with_its_token_in_place_of_a_key",),
    ),
    Listed(
        "images/openclaw/README.md",
        "# For a bot that runs: its plugin",
        "it downloads a plugin",
        (
            "tests/engine/test_bot_image_providers.py::test_openclaw_accepts_the_readmes_example_of_another_channel",
            "tests/engine/test_bot_image_state.py::test_the_owners_file_lies_below_the_environment_and_above_openclaws_own_writes",
        ),
    ),
    Listed(
        "images/openclaw/README.md",
        "openssl rand -hex 32     | botctl",
        "it needs an image that cannot be pulled everywhere; with one of its layout, a slow test does the same",
        (f"{_AS_BOTMAKER}::test_the_official_images_layout_runs_as_the_readme_says",),
    ),
    Listed(
        "images/openclaw/README.md",
        "sudo install -d -o 1000 -g 1000 -m 0700 secrets",
        "it needs the large image, and is executed by a slow test",
        ("tests/docs/test_bot_image.py::test_the_bot_image_does_what_its_readme_says_without_the_service",),
    ),
)

# Commands that do not end by themselves: Ctrl-C is pressed when their output contains this text.
UNTIL = {
    "botctl logs --follow": "gateway ready",
    "curl --no-buffer": "synced",
}
# Commands that later ones need: those start when the output contains this text.
BESIDE = {
    "container-manager serve": "serving on",
    "uvicorn --app-dir": "startup complete",
}
