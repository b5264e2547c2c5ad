"""The calls of BotProvisioner over gRPC, by bot id."""

from __future__ import annotations

from botmaker.container.v1 import bot_provisioner_pb2 as provisioner_pb
from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub


def put_secrets(provisioner: BotProvisionerStub, bot_id: str, *, replace_all: bool = False, **secrets: bytes) -> None:
    """PutSecrets."""
    provisioner.PutSecrets(
        provisioner_pb.PutSecretsRequest(bot_id=bot_id, secrets=secrets, replace_all=replace_all), timeout=60
    )


def listed_secrets(provisioner: BotProvisionerStub, bot_id: str) -> dict[str, int]:
    """ListSecrets; sizes by name."""
    response = provisioner.ListSecrets(provisioner_pb.ListSecretsRequest(bot_id=bot_id), timeout=60)
    return {secret.name: secret.size_bytes for secret in response.secrets}


def delete_secrets(provisioner: BotProvisionerStub, bot_id: str) -> None:
    """DeleteSecrets of the whole directory."""
    provisioner.DeleteSecrets(provisioner_pb.DeleteSecretsRequest(bot_id=bot_id), timeout=60)


def delete_state(provisioner: BotProvisionerStub, bot_id: str) -> None:
    """DeleteState."""
    provisioner.DeleteState(provisioner_pb.DeleteStateRequest(bot_id=bot_id), timeout=60)
