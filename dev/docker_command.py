"""The command `docker`, with the engine that was named."""

import os
import subprocess


class MissingDocker(RuntimeError):  # noqa: N818 - as MissingEngine
    """The command is not installed."""


def environment(docker_host: str) -> dict[str, str]:
    """The environment with this engine, whatever context the user's docker command is set to."""
    kept = {name: value for name, value in os.environ.items() if name != "DOCKER_CONTEXT"}
    return {**kept, "DOCKER_HOST": docker_host}


def run(
    docker_host: str, *arguments: str, stdin: bytes = b"", timeout: float | None = None
) -> subprocess.CompletedProcess[bytes]:
    """`docker ARGUMENTS`, whatever its status; `timeout` is in seconds. Raises MissingDocker, TimeoutExpired."""
    try:
        return subprocess.run(
            ["docker", *arguments],
            env=environment(docker_host),
            input=stdin,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise MissingDocker("the command `docker` is not installed") from error
