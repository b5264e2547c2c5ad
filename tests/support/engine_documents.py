"""What Docker Engine 20.10 shows of a container that it made: its own merging, for tests without an engine.

``tests/engine/test_container_config.py`` compares this with a real engine.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]

CONTAINER_ID = "3f4e9c" + "0" * 58
IMAGE_ID = "sha256:" + "ab" * 32

# Of a container whose create sets none of them. What the service always sets is not here.
_CONFIG = {
    "AttachStderr": False,
    "AttachStdin": False,
    "AttachStdout": False,
    "Cmd": None,
    "Domainname": "",
    "Entrypoint": None,
    "OnBuild": None,
    "OpenStdin": False,
    "StdinOnce": False,
    "Tty": False,
    "User": "",
    "Volumes": None,
    "WorkingDir": "",
}
_HOST_CONFIG = {
    "AutoRemove": False,
    "Binds": None,
    "BlkioWeight": 0,
    "BlkioWeightDevice": None,
    "CapAdd": None,
    "Cgroup": "",
    "CgroupParent": "",
    "ConsoleSize": [0, 0],
    "ContainerIDFile": "",
    "CpuPeriod": 0,
    "CpuQuota": 0,
    "CpuShares": 0,
    "CpusetCpus": "",
    "DeviceRequests": None,
    "Devices": None,
    "Dns": None,
    "GroupAdd": None,
    "Links": None,
    "MaskedPaths": ["/proc/asound", "/proc/kcore"],
    "Memory": 0,
    "MemoryReservation": 0,
    "MemorySwap": 0,
    "MemorySwappiness": None,
    "NanoCpus": 0,
    "OomKillDisable": False,
    "OomScoreAdj": 0,
    "PidMode": "",
    "PidsLimit": None,
    "PublishAllPorts": False,
    "ReadonlyPaths": ["/proc/bus", "/proc/fs"],
    "ReadonlyRootfs": False,
    "Runtime": "runc",
    "ShmSize": 67_108_864,
    "UTSMode": "",
    "Ulimits": None,
    "UsernsMode": "",
    "VolumeDriver": "",
    "VolumesFrom": None,
}


def created(name: str, body: Mapping[str, Any], image: Mapping[str, Any]) -> Json:
    """``GET /containers/{id}/json`` after ``POST /containers/create``. ``image``: ``Config`` of the image."""
    given = copy.deepcopy(dict(body))
    host = {**_HOST_CONFIG, **given.pop("HostConfig")}
    for mount in host["Mounts"]:
        if not mount["ReadOnly"]:
            del mount["ReadOnly"]
    return {
        "Id": CONTAINER_ID,
        "Name": f"/{name}",
        "Image": IMAGE_ID,
        "Config": {key: value for key, value in {**_CONFIG, **_merged(given, image)}.items() if key != "HostConfig"},
        "HostConfig": host,
        "NetworkSettings": {"Networks": {host["NetworkMode"]: {"Aliases": None, "IPAMConfig": None, "Links": None}}},
    }


def _merged(given: Json, image: Mapping[str, Any]) -> Json:
    """The request with the image's settings, as ``merge`` does it in moby's ``daemon/commit.go``."""
    given["ExposedPorts"] = {**given.get("ExposedPorts", {}), **(image.get("ExposedPorts") or {})}
    names = [item.split("=")[0] for item in given.get("Env", ())]
    given["Env"] = given.get("Env", []) + [item for item in image.get("Env") or () if item.split("=")[0] not in names]
    for key, value in (image.get("Labels") or {}).items():
        given["Labels"].setdefault(key, value)
    for key in ("User", "WorkingDir", "StopSignal", "Volumes", "Entrypoint"):
        if not given.get(key) and key in image:
            given[key] = image[key]
    if not given.get("Cmd"):
        given["Cmd"] = image.get("Cmd")
    check = image.get("Healthcheck")
    if check:
        own = given.get("Healthcheck") or {}
        given["Healthcheck"] = {key: own.get(key) or check.get(key) for key in {*own, *check}}
    if given.get("Healthcheck"):
        # The engine leaves out what is 0.
        given["Healthcheck"] = {key: value for key, value in given["Healthcheck"].items() if value}
    else:
        given.pop("Healthcheck", None)
    return given
