"""The contract of every backend for provisioning: secrets, files and states of bots."""

from __future__ import annotations

import time

import pytest

from botmaker.container.v1 import bot_provisioner_pb2 as provisioner_pb
from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub
from tests.support.calls import FOREVER, Calls, fails_with
from tests.support.lifecycle_contract import SomeBots
from tests.support.provisioning_calls import delete_secrets, delete_state, listed_secrets, put_secrets


class ProvisioningContract:
    """BotProvisioner."""

    def test_a_bots_secrets_are_written_listed_replaced_and_deleted(
        self, provisioner: BotProvisionerStub, bots: SomeBots
    ) -> None:
        bot_id = bots.bare()
        begun = time.time_ns()
        assert {} == listed_secrets(provisioner, bot_id)
        put_secrets(provisioner, bot_id, B=b"two", A=b"")
        put_secrets(provisioner, bot_id, C=b"\0\xff")
        assert {"A": 0, "B": 3, "C": 2} == listed_secrets(provisioner, bot_id)
        secrets = provisioner.ListSecrets(provisioner_pb.ListSecretsRequest(bot_id=bot_id)).secrets
        assert ["A", "B", "C"] == [secret.name for secret in secrets]
        # File systems may round times down to a clock tick.
        assert all(begun - 1_000_000_000 < secret.time.ToNanoseconds() <= time.time_ns() for secret in secrets)
        put_secrets(provisioner, bot_id, replace_all=True, D=b"four")
        assert {"D": 4} == listed_secrets(provisioner, bot_id)
        for _ in range(2):
            provisioner.DeleteSecrets(provisioner_pb.DeleteSecretsRequest(bot_id=bot_id, names=["D", "missing"]))
            assert {} == listed_secrets(provisioner, bot_id)

    def test_a_bot_is_provisioned_created_started_removed_and_deleted(
        self, calls: Calls, provisioner: BotProvisionerStub, bots: SomeBots
    ) -> None:
        bot_id = bots.bare()
        with fails_with("FAILED_PRECONDITION", "SECRETS_UNAVAILABLE"):
            calls.create(bot_id, *FOREVER)
        put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"token")
        provisioner.PutFiles(provisioner_pb.PutFilesRequest(bot_id=bot_id, files={"workspace/a.md": b"a"}))
        calls.run(bot_id, *FOREVER)
        for delete in (delete_secrets, delete_state):
            with fails_with("FAILED_PRECONDITION", "INVALID_STATE") as caught:
                delete(provisioner, bot_id)
            assert bot_id == caught[0].metadata["bot_id"]
        assert {"GATEWAY_TOKEN": 5} == listed_secrets(provisioner, bot_id)
        put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"a new token")
        provisioner.DeleteSecrets(provisioner_pb.DeleteSecretsRequest(bot_id=bot_id, names=["missing"]))
        calls.remove(bot_id, grace=0)
        for delete in (delete_secrets, delete_state) * 2:
            delete(provisioner, bot_id)
        assert {} == listed_secrets(provisioner, bot_id)
        with fails_with("FAILED_PRECONDITION", "SECRETS_UNAVAILABLE"):
            calls.create(bot_id, *FOREVER)

    def test_calls_without_work_for_a_bot_without_anything_are_ok(
        self, provisioner: BotProvisionerStub, bots: SomeBots
    ) -> None:
        bot_id = bots.bare()
        delete_secrets(provisioner, bot_id)
        delete_state(provisioner, bot_id)
        provisioner.DeleteSecrets(provisioner_pb.DeleteSecretsRequest(bot_id=bot_id, names=["A"]))
        assert {} == listed_secrets(provisioner, bot_id)

    def test_an_invalid_provisioning_request_is_refused_with_its_field_and_changes_nothing(
        self, provisioner: BotProvisionerStub, bots: SomeBots
    ) -> None:
        bot_id = bots.bare()
        put_secrets(provisioner, bot_id, A=b"kept")
        for field, call in {
            "secrets": lambda: put_secrets(provisioner, bot_id, **{"../A": b"x", "B": b"x"}),
            "names": lambda: provisioner.DeleteSecrets(
                provisioner_pb.DeleteSecretsRequest(bot_id=bot_id, names=["A", ".."])
            ),
            "files['../A']": lambda: provisioner.PutFiles(
                provisioner_pb.PutFilesRequest(bot_id=bot_id, files={"../A": b"x", "b": b""})
            ),
        }.items():
            with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG") as caught:
                call()
            assert [field] == [name for name, _ in caught[0].field_violations]
        assert {"A": 4} == listed_secrets(provisioner, bot_id)

    @pytest.mark.parametrize("bot_id", ["", "..", "../x", "x" * 36, "0B5F0C4E-6F0A-4C55-9C3E-2F1D9A7E8B11"])
    def test_a_bad_bot_id_is_refused_by_every_provisioning_call(
        self, provisioner: BotProvisionerStub, bot_id: str
    ) -> None:
        for call in (
            lambda: put_secrets(provisioner, bot_id, A=b"x"),
            lambda: listed_secrets(provisioner, bot_id),
            lambda: delete_secrets(provisioner, bot_id),
            lambda: provisioner.PutFiles(provisioner_pb.PutFilesRequest(bot_id=bot_id, files={"a": b""})),
            lambda: delete_state(provisioner, bot_id),
        ):
            with fails_with("INVALID_ARGUMENT", "INVALID_BOT_ID"):
                call()
