"""What the large engine says of its containers: documents with every field of a real engine's, with places for ids.

``@ID@``, ``@BOT@``, ``@TIME@``, ``@STATE@`` are put in later; so are ``"@SECONDS@"``, ``"@PAUSED@"`` with their quotes.
"""

from __future__ import annotations

from typing import Any

from container_manager.backends.docker.spec import SECRETS_TARGET, STATE_TARGET, container_body
from container_manager.model import ContainerConfig, PortBinding

_IMAGE = "botmaker/openclaw:2026.9.6"
_IMAGE_ID = "sha256:" + "5c" * 32
_NETWORK_ID = "bd" * 32
_NOUGHT = (
    *("OomScoreAdj", "CpuShares", "Memory", "NanoCpus", "BlkioWeight", "CpuPeriod", "CpuQuota", "CpuRealtimePeriod"),
    *("CpuRealtimeRuntime", "KernelMemory", "KernelMemoryTCP", "MemoryReservation", "MemorySwap", "CpuCount"),
    *("CpuPercent", "IOMaximumIOps", "IOMaximumBandwidth"),
)
_NULL = (
    *("Binds", "VolumesFrom", "CapAdd", "Dns", "DnsOptions", "DnsSearch", "GroupAdd", "Links", "BlkioWeightDevice"),
    *("BlkioDeviceReadBps", "BlkioDeviceWriteBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteIOps", "Devices"),
    *("DeviceCgroupRules", "DeviceRequests", "MemorySwappiness", "PidsLimit", "Ulimits"),
)
_EMPTY = (
    *("ContainerIDFile", "VolumeDriver", "Cgroup", "PidMode", "UTSMode", "UsernsMode", "Isolation", "CgroupParent"),
    *("CpusetCpus", "CpusetMems"),
)
_FALSE = ("AutoRemove", "PublishAllPorts", "ReadonlyRootfs", "OomKillDisable")
_MASKED = ("asound", "acpi", "kcore", "keys", "latency_stats", "timer_list", "timer_stats", "sched_debug", "scsi")
_READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")
_SECRETS = "/var/lib/botmaker/secrets/@BOT@"
_STATE = "/var/lib/botmaker/state/@BOT@"
_MOUNTS = [
    {"Type": "bind", "Source": source, "Destination": target, "Mode": "", "RW": writable, "Propagation": "rprivate"}
    for source, target, writable in ((_SECRETS, SECRETS_TARGET, False), (_STATE, STATE_TARGET, True))
]
_PORTS = {"18789/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18789"}]}
_ENDPOINT = {
    "IPAMConfig": None,
    "Links": None,
    "Aliases": None,
    "NetworkID": _NETWORK_ID,
    "EndpointID": "@ID@",
    "Gateway": "172.17.0.1",
    "IPAddress": "172.17.0.2",
    "IPPrefixLen": 16,
    "IPv6Gateway": "",
    "GlobalIPv6Address": "",
    "GlobalIPv6PrefixLen": 0,
    "MacAddress": "02:42:ac:11:00:02",
    "DriverOpts": None,
}


def inspect_document() -> dict[str, Any]:
    """As ``GET /containers/{id}/json`` gives it of a running bot."""
    body = _body()
    return {
        "Id": "@ID@",
        "Created": "@TIME@",
        "Path": "docker-entrypoint.sh",
        "Args": ["node", "openclaw.mjs", "gateway"],
        "State": _state(),
        "Image": _IMAGE_ID,
        **{
            f"{name}Path": f"/var/lib/docker/containers/@ID@/{name.lower()}"
            for name in ("ResolvConf", "Hostname", "Hosts", "Log")
        },
        "Name": "/botmaker-@BOT@",
        "RestartCount": 0,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "docker-default",
        "ExecIDs": None,
        "HostConfig": _host_config(body["HostConfig"]),
        "GraphDriver": {"Name": "overlay2", "Data": _layers()},
        "Mounts": _MOUNTS,
        "Config": _config(body),
        "NetworkSettings": _network_settings(),
    }


def list_row() -> dict[str, Any]:
    """As an item of ``GET /containers/json``."""
    return {
        "Id": "@ID@",
        "Names": ["/botmaker-@BOT@"],
        "Image": _IMAGE,
        "ImageID": _IMAGE_ID,
        "Command": "docker-entrypoint.sh node openclaw.mjs gateway",
        "Created": "@SECONDS@",
        "Ports": [{"IP": "127.0.0.1", "PrivatePort": 18789, "PublicPort": 18789, "Type": "tcp"}],
        "Labels": _config(_body())["Labels"],
        "State": "@STATE@",
        "Status": "Up 2 hours",
        "HostConfig": {"NetworkMode": "bridge"},
        "NetworkSettings": {"Networks": {"bridge": _ENDPOINT}},
        "Mounts": _MOUNTS,
    }


def _body() -> dict[str, Any]:
    config = ContainerConfig(
        image=_IMAGE,
        ai_provider="anthropic",
        ai_model="some-model",
        channel_type="telegram",
        environment={"OPENCLAW_LOG_LEVEL": "info", "TZ": "Europe/Berlin", "NODE_OPTIONS": "--max-old-space-size=512"},
        ports=(PortBinding(container_port=18789, host_port=18789),),
        extra_hosts={"host.docker.internal": "host-gateway"},
    )
    return container_body(
        "@BOT@", config, image=_IMAGE, secrets_source=_SECRETS, state_source=_STATE, request_id="bench-@BOT@"
    )


def _state() -> dict[str, Any]:
    return {
        "Status": "@STATE@",
        "Running": True,
        "Paused": "@PAUSED@",
        "Restarting": False,
        "OOMKilled": False,
        "Dead": False,
        "Pid": 4711,
        "ExitCode": 0,
        "Error": "",
        "StartedAt": "@TIME@",
        "FinishedAt": "0001-01-01T00:00:00Z",
        "Health": {
            "Status": "healthy",
            "FailingStreak": 0,
            # The engine keeps the last five.
            "Log": [{"Start": "@TIME@", "End": "@TIME@", "ExitCode": 0, "Output": '{"status":"ok"}'}] * 5,
        },
    }


def _host_config(wanted: dict[str, Any]) -> dict[str, Any]:
    return (
        dict.fromkeys(_NOUGHT, 0)
        | dict.fromkeys(_NULL)
        | dict.fromkeys(_EMPTY, "")
        | dict.fromkeys(_FALSE, False)
        | {
            "CgroupnsMode": "host",
            "IpcMode": "private",
            "ShmSize": 67_108_864,
            "Runtime": "runc",
            "ConsoleSize": [0, 0],
            "MaskedPaths": [*(f"/proc/{name}" for name in _MASKED), "/sys/firmware"],
            "ReadonlyPaths": [f"/proc/{name}" for name in _READ_ONLY],
        }
        | wanted
    )


def _layers() -> dict[str, str]:
    layers = [f"/var/lib/docker/overlay2/{digit * 64}" for digit in "abcdefg"]
    return {
        "LowerDir": ":".join(f"{layer}/diff" for layer in layers),
        "MergedDir": "/var/lib/docker/overlay2/@ID@/merged",
        "UpperDir": "/var/lib/docker/overlay2/@ID@/diff",
        "WorkDir": "/var/lib/docker/overlay2/@ID@/work",
    }


def _config(body: dict[str, Any]) -> dict[str, Any]:
    image_environment = [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "NODE_VERSION=22.19.0",
        "NODE_ENV=production",
        "HOME=/home/node",
    ]
    image_labels = {
        f"org.opencontainers.image.{name}": f"of the image: {name}" for name in ("source", "title", "version")
    }
    return {
        "Hostname": "0123456789ab",
        "Domainname": "",
        "User": "node",
        **dict.fromkeys(("AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce"), False),
        "ExposedPorts": {"18789/tcp": {}},
        "Env": [*body["Env"], *image_environment],
        "Cmd": ["node", "openclaw.mjs", "gateway"],
        "Healthcheck": {"Test": ["CMD", "node", "health.mjs"], "Interval": 30_000_000_000},
        "Image": _IMAGE,
        "Volumes": None,
        "WorkingDir": "/app",
        "Entrypoint": ["docker-entrypoint.sh"],
        "OnBuild": None,
        "Labels": body["Labels"] | image_labels,
    }


def _network_settings() -> dict[str, Any]:
    addresses = {key: value for key, value in _ENDPOINT.items() if key not in ("IPAMConfig", "Links", "Aliases")}
    return {
        "Bridge": "",
        "SandboxID": "@ID@",
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "Ports": _PORTS,
        "SandboxKey": "/var/run/docker/netns/0123456789ab",
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        **addresses,
        "Networks": {"bridge": _ENDPOINT},
    }
