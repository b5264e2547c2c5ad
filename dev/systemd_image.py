"""An image of Debian with systemd as process 1, for the tests of the unit: a machine with systemd, in a container."""

from dev import docker_command
from dev.python_base import make_debian_image

SYSTEMD_IMAGE = "botmaker-test/systemd:bookworm"
_PACKAGES = ("ca-certificates", "dbus", "python3", "python3-venv", "systemd", "systemd-sysv")


def ensure_systemd_image(docker_host: str) -> str:
    """Make the image unless the engine has it; return its tag. Raises DockerError."""
    if not docker_command.succeeds(docker_host, "image", "inspect", SYSTEMD_IMAGE):
        make_debian_image(docker_host, SYSTEMD_IMAGE, _PACKAGES, 'CMD ["/sbin/init"]')
    return SYSTEMD_IMAGE
