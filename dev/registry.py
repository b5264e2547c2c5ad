"""The program of an image registry: Debian's `docker-registry`, only unpacked, as its package would start a service."""

import shutil
from pathlib import Path

from dev.debian import add_system_paths, unpacked

CHECKOUT = Path(__file__).resolve().parent.parent


def registry_program() -> str:
    """The path of the program. Raises LookupError where it cannot be had."""
    add_system_paths()
    found = shutil.which("docker-registry")
    return found or str(unpacked("docker-registry", "docker-registry", CHECKOUT / ".dev" / "packages"))


def registry_listens(pid: int, port: int) -> bool:
    """Whether something listens on the port in the network of this process."""
    return f":{port:04X} 00000000:0000 0A" in Path(f"/proc/{pid}/net/tcp").read_text("ascii")


def registry_settings(address: str, data: Path) -> str:
    """The content of its configuration file; a YAML document to which more may be added."""
    return "\n".join(
        [
            "version: 0.1",
            "log: {level: warn, accesslog: {disabled: true}}",
            f"storage: {{filesystem: {{rootdirectory: {data}}}, delete: {{enabled: true}}}}",
            f"http: {{addr: '{address}', secret: tests}}",
            "",
        ]
    )
