"""A program with the client's types, sync and async, which mypy and pyright check in their strict modes.

python tests/support/typed_client.py TARGET BOT
"""

# ruff: noqa: T201

from __future__ import annotations

import asyncio
import sys
from typing import assert_type

import grpc

from botmaker.container.v1 import bot_provisioner_pb2 as provisioner_pb
from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb
from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerAsyncStub, BotProvisionerStub
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerAsyncStub, ContainerManagerStub
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverAsyncStub, ContainerObserverStub
from container_manager_client import ErrorInfo, connect, connect_aio, error_info


class Fleet:
    """Keeps stubs, as an API tier does."""

    manager: ContainerManagerAsyncStub
    observer: ContainerObserverAsyncStub
    provisioner: BotProvisionerAsyncStub

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.manager = ContainerManagerStub(channel)
        self.observer = ContainerObserverStub(channel)
        self.provisioner = BotProvisionerStub(channel)

    async def states(self) -> dict[str, str]:
        """Unary."""
        answer = await self.manager.ListManagedContainers(pb.ListManagedContainersRequest())
        assert_type(answer, pb.ListManagedContainersResponse)
        return {each.bot_id: pb.ContainerState.Name(each.state) for each in answer.containers}

    async def snapshots(self) -> list[pb.ContainerStatus]:
        """A stream."""
        found: list[pb.ContainerStatus] = []
        async for message in self.observer.WatchContainers(observer_pb.WatchContainersRequest()):
            assert_type(message, observer_pb.WatchContainersResponse)
            if message.HasField("synced"):
                break
            found.append(message.snapshot)
        return found

    async def secrets(self, bot_id: str) -> list[str]:
        """Fields of nested messages."""
        answer = await self.provisioner.ListSecrets(provisioner_pb.ListSecretsRequest(bot_id=bot_id))
        return [secret.name for secret in answer.secrets]

    async def start(self, bot_id: str) -> ErrorInfo | None:
        """An error."""
        try:
            await self.manager.StartContainer(pb.StartContainerRequest(bot_id=bot_id), timeout=10)
        except grpc.RpcError as exc:
            return error_info(exc)
        return None


async def asynchronous(target: str, bot_id: str) -> None:
    """The async stubs."""
    async with connect_aio(target) as channel:
        fleet = Fleet(channel)
        print(await fleet.states(), len(await fleet.snapshots()), await fleet.secrets(bot_id))
        problem = await fleet.start(bot_id)
        print("started" if problem is None else problem.reason)


def synchronous(target: str) -> None:
    """The sync stubs."""
    with connect(target) as channel:
        stub = ContainerManagerStub(channel)
        assert_type(stub, ContainerManagerStub)
        print(len(stub.ListManagedContainers(pb.ListManagedContainersRequest()).containers))
        for message in ContainerObserverStub(channel).WatchContainers(observer_pb.WatchContainersRequest()):
            assert_type(message, observer_pb.WatchContainersResponse)
            break


if __name__ == "__main__":
    synchronous(sys.argv[1])
    asyncio.run(asynchronous(sys.argv[1], sys.argv[2]))
