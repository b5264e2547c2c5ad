"""The command `docker`, with the engine that was named."""

import os
import subprocess


class DockerError(RuntimeError):
    """A docker command failed or is not installed, or an image cannot be made; the message says which and why."""


def environment(docker_host: str) -> dict[str, str]:
    """The environment with this engine, whatever context the user's docker command is set to."""
    kept = {name: value for name, value in os.environ.items() if name != "DOCKER_CONTEXT"}
    return {**kept, "DOCKER_HOST": docker_host}


def run(docker_host: str, *arguments: str, stdin: bytes = b"", timeout: float | None = None) -> bytes:
    """The output of `docker ARGUMENTS`; `timeout` is in seconds. Raises DockerError."""
    command = ["docker", *arguments]
    try:
        done = subprocess.run(
            command, env=environment(docker_host), input=stdin, capture_output=True, timeout=timeout, check=False
        )
    except FileNotFoundError as error:
        raise DockerError("the command `docker` is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise DockerError(f"{' '.join(command)}: no end within {timeout} s") from error
    if done.returncode:
        raise DockerError(f"{' '.join(command)}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def answers(docker_host: str, timeout: float = 5) -> bool:
    """Whether the engine answers within `timeout` seconds."""
    return succeeds(docker_host, "version", timeout=timeout)


def succeeds(docker_host: str, *arguments: str, timeout: float | None = None) -> bool:
    """Whether `docker ARGUMENTS` succeeds within `timeout` seconds. Raises nothing."""
    try:
        run(docker_host, *arguments, timeout=timeout)
    except DockerError:
        return False
    return True
