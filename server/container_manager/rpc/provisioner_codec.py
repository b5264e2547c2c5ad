"""Between the messages of BotProvisioner and the domain's values."""

from __future__ import annotations

from collections.abc import Iterable

from botmaker.container.v1 import bot_provisioner_pb2 as pb
from container_manager.model import SecretInfo
from container_manager.rpc.manager_codec import timestamp


def secrets_to_proto(secrets: Iterable[SecretInfo]) -> pb.ListSecretsResponse:
    """The wire form of a list of secrets."""
    return pb.ListSecretsResponse(
        secrets=[
            pb.SecretInfo(name=secret.name, size_bytes=secret.size_bytes, time=timestamp(secret.time_ns))
            for secret in secrets
        ]
    )
