"""The ContainerObserver service: changes, logs and resource use."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import aclosing
from copy import copy
from typing import Any

from botmaker.container.v1 import container_observer_pb2 as pb
from botmaker.container.v1 import container_observer_pb2_grpc as pb_grpc
from container_manager.backend import Backend, Feature
from container_manager.deadline import Deadline
from container_manager.errors import EngineTimeoutError, EngineUnavailableError
from container_manager.logs.reader import LogReader
from container_manager.rpc import observer_codec as codec
from container_manager.rpc.call_deadline import caller_deadline
from container_manager.rpc.features import require
from container_manager.rpc.log_messages import LogMessageEncoder
from container_manager.rpc.manager_codec import bot_ids_from_proto, labels_from_proto
from container_manager.rpc.running_containers import RunningContainers
from container_manager.rpc.server_info import ServerInfo
from container_manager.rpc.taking import taken_in_time
from container_manager.scheduling.allowance import Allowance
from container_manager.scheduling.bot_operations import BotOperations
from container_manager.stats.current import CurrentStats
from container_manager.stats.disk import DiskUses
from container_manager.stats.feed import StatsFeed
from container_manager.stats.sampler import StatsSampler
from container_manager.validation import check_bot_id
from container_manager.view.container_versions import ContainerVersions
from container_manager.view.keeper import ViewKeeper
from container_manager.view.subscription import ChangeLog, Subscription

# A grpc.aio.ServicerContext; at run time that class takes no parameters.
Context = Any

_LOOKUP_SECONDS = 10.0


class ContainerObserverServicer(pb_grpc.ContainerObserverServicer):
    """Serves the live view, logs and stats. Raises domain errors, also in the middle of a stream.

    It prepares a message only after the previous one has been written, so a reader that stops reading holds up only its
    own stream. :mod:`container_manager.rpc.stream_kinds` limits the number of streams.
    """

    def __init__(
        self,
        backend: Backend,
        operations: BotOperations,
        keeper: ViewKeeper,
        disk: DiskUses,
        *,
        kept_ids: Allowance,
        info: ServerInfo,
    ) -> None:
        self._backend = backend
        self._info = info
        self.services: tuple[str, ...] = ()
        """Those of the listener, by full name."""
        self._operations = operations
        self._keeper = keeper
        self._disk = disk
        self._versions = ContainerVersions(keeper.view)
        self._changes = ChangeLog(keeper.view)
        self._events = codec.WatchEventEncoder()
        self._kept_ids = kept_ids
        self._sampler = StatsSampler(backend.sample)
        self._stats = StatsFeed(self._sampler, codec.encoded_stats)
        self._current = CurrentStats(self._sampler, self._stats, codec.encoded_stats)
        self._stats_responses = codec.StatsResponseEncoder()
        keeper.view.add_listener(RunningContainers(self._stats, keeper.view))

    def on_listener(self, services: Iterable[str]) -> ContainerObserverServicer:
        """The same servicer for a listener with these services."""
        observer = copy(self)
        observer.services = tuple(services)
        return observer

    async def close(self) -> None:
        """Cancel work that ended streams have left running."""
        await self._current.close()
        await self._stats.close()
        await self._sampler.close()

    # These methods are coroutines that write, not generators: a generator is closed only when it is garbage-collected.

    async def WatchContainers(  # type: ignore[override]
        self, request: pb.WatchContainersRequest, context: Context
    ) -> None:
        bot_ids, labels = bot_ids_from_proto(request.bot_ids), labels_from_proto(request.labels)
        # The message takes more memory than what has been read from it, here and below.
        del request
        with self._kept_ids.keep(len(bot_ids) + len(labels)):
            await self._keeper.in_sync()
            with Subscription(self._changes, bot_ids, labels) as subscription:
                while True:
                    await context.write(self._events.encode(await subscription.next()))

    async def StreamLogs(  # type: ignore[override]
        self, request: pb.StreamLogsRequest, context: Context
    ) -> None:
        check_bot_id(request.bot_id)
        options = codec.log_options_from_proto(request)
        require(self._backend, Feature.LOGS)
        await self._keeper.in_sync()
        container_id = await self._container_id(request.bot_id)
        reader = LogReader(self._backend.log(container_id), container_id, options, self._versions)
        encoder = LogMessageEncoder(request.max_batch_entries)
        del request
        async with aclosing(reader.batches()) as batches:
            async for batch in batches:
                async with taken_in_time("an entry was not taken in time; continue after the last cursor") as ready:
                    for message in encoder.encode(batch):
                        # A follower stays for as long as it likes anyway.
                        if not options.follow:
                            ready()
                        await context.write(message)

    async def WatchStats(  # type: ignore[override]
        self, request: pb.WatchStatsRequest, context: Context
    ) -> None:
        bot_ids = bot_ids_from_proto(request.bot_ids)
        interval_seconds = codec.interval_seconds_from_proto(request)
        require(self._backend, Feature.STATS)
        del request
        with self._kept_ids.keep(len(bot_ids)):
            await self._keeper.in_sync()
            async with self._stats.watch(bot_ids, interval_seconds) as watcher:
                while True:
                    await context.write(await watcher.next())

    async def GetStats(self, request: pb.GetStatsRequest, context: Context) -> Any:
        bot_ids = bot_ids_from_proto(request.bot_ids)
        max_age_seconds = codec.max_age_seconds_from_proto(request)
        require(self._backend, Feature.STATS)
        try:
            async with asyncio.timeout(caller_deadline(context).remaining()):
                await self._keeper.in_sync()
                figures, disk = await asyncio.gather(
                    self._current.figures(bot_ids, max_age_seconds), self._disk.first()
                )
                return await self._stats_responses.encode(figures, disk)
        except TimeoutError:
            raise EngineTimeoutError("the call's deadline passed before all containers were sampled") from None

    async def GetContainerConfig(
        self, request: pb.GetContainerConfigRequest, context: Context
    ) -> pb.GetContainerConfigResponse:
        check_bot_id(request.bot_id)
        definition = await self._operations.read(
            request.bot_id,
            lambda deadline: self._backend.lifecycle.get_container_config(request.bot_id, deadline=deadline),
            caller_deadline(context),
        )
        return codec.definition_to_proto(definition)

    async def GetServerInfo(self, _request: pb.GetServerInfoRequest, _context: Context) -> pb.GetServerInfoResponse:
        return await self._info.answer(self.services)

    async def _container_id(self, bot_id: str) -> str:
        view = self._keeper.view
        entry = view.of_bot(bot_id)
        if entry is not None and view.answers_for(bot_id):
            return entry.status.container_id
        # Only the engine knows whether the bot has no container or a foreign container has its name.
        status = await self._operations.read(
            bot_id,
            lambda deadline: self._backend.lifecycle.require_container(bot_id, deadline=deadline),
            Deadline(_LOOKUP_SECONDS),
        )
        # The view does not know this container yet.
        await self._keeper.look_at(bot_id)
        if status.container_id not in view and not view.answers_for(bot_id):
            # The reader would consider the container removed.
            raise EngineUnavailableError(f"the container of bot {bot_id} cannot be followed at the moment; try again")
        return status.container_id
