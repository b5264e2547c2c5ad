"""Between the messages of BotProvisioner and the domain's values."""

from __future__ import annotations

from collections.abc import Iterable

from botmaker.container.v1 import bot_provisioner_pb2 as pb
from container_manager.errors import FieldViolation, InvalidConfigError
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


def may_restart_from_proto(message: pb.ReloadSecretsRequest) -> bool:
    """Whether a bot that cannot reload is to be restarted. Raises :class:`InvalidConfigError` for an unknown mode."""
    if message.mode not in pb.ReloadSecretsRequest.Mode.values():
        raise InvalidConfigError(FieldViolation("mode", f"{message.mode} is not a mode"))
    return message.mode == pb.ReloadSecretsRequest.MODE_RELOAD_OR_RESTART


def reload_to_proto(outcome: str, confirmed: Iterable[str] = ()) -> pb.ReloadSecretsResponse:
    """The response with the outcome of this name, without its prefix."""
    return pb.ReloadSecretsResponse(outcome=f"OUTCOME_{outcome}", confirmed=confirmed)
