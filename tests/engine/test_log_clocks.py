"""StreamLogs on a real engine while the host's clock is set, the engine drops entries, or its file is damaged."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from botmaker.container.v1 import container_observer_pb2 as pb
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from tests.support.bots import Bots
from tests.support.calls import Calls, fails_with
from tests.support.log_file import LogFile
from tests.support.log_forms import FORMS, Batched, OneByOne
from tests.support.observing import reading

HOUR = timedelta(hours=1)
NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(params=FORMS, ids=FORMS)
def form(request: pytest.FixtureRequest) -> OneByOne:
    """How entries are sent; everything else is the same."""
    return FORMS[request.param]


@pytest.fixture
def stopped(calls: Calls, bots: Bots) -> Callable[..., tuple[str, LogFile]]:
    """Creates a bot that has not started yet: its id and its log file."""

    def create(*command: str) -> tuple[str, LogFile]:
        bot_id = bots.new()
        calls.create(bot_id, *(command or ("true",)))
        # The engine makes the file at the first start.
        calls.start(bot_id)
        calls.stop(bot_id, grace=0)
        path = Path(bots.engine.api.inspect_container(f"botmaker-{bot_id}")["LogPath"])
        path.write_bytes(b"")
        return bot_id, LogFile(path)

    return create


def times(*hours: float) -> list[tuple[datetime, str]]:
    """Entries of these hours from now."""
    return [(NOW + hour * HOUR, f"{number}\n") for number, hour in enumerate(hours)]


CLOCKS = {
    "ahead": times(5, 5.1, 5.2, 0, 0.1, 0.2),
    "set back": times(-1, 0, -5, -4, -3, -1, 0),
    "back and forth": times(-1, 3, -2, 3, -2, 3, -1),
    "the same": times(*[-1] * 300),
    "pieces": [(NOW, "x" * 16_384)] * 5 + [(NOW, "x\n"), (NOW + HOUR, "y" * 16_384), (NOW + HOUR, "y\n"), (NOW, "z\n")],
}


@pytest.mark.parametrize("clock", CLOCKS)
def test_after_each_cursor_exactly_the_rest_with_any_clock(
    observer: ContainerObserverStub, stopped: Any, clock: str, form: OneByOne
) -> None:
    bot_id, file = stopped()
    file.write(*CLOCKS[clock])
    entries = form.read(observer, bot_id)
    assert [text.removesuffix("\n").encode() for _, text in CLOCKS[clock]] == [entry.line for entry in entries]
    for number in range(0, len(entries), 1 + len(entries) // 10):
        rest = form.read(observer, bot_id, after_cursor=entries[number].cursor)
        assert entries[number + 1 :] == rest


@pytest.mark.parametrize("clock", CLOCKS)
def test_a_follower_gets_every_entry_once_with_any_clock(
    calls: Calls, observer: ContainerObserverStub, stopped: Any, clock: str, form: OneByOne
) -> None:
    bot_id, file = stopped("sh", "-c", "for i in 1 2 3; do echo new $i; sleep 0.1; done; exec sleep 1000")
    file.write(*CLOCKS[clock])
    expected = [text.removesuffix("\n").encode() for _, text in CLOCKS[clock]]
    with reading(observer.StreamLogs(form.request(bot_id, follow=True))) as read:

        def wait_for(what: str) -> None:
            read.wait_for(lambda messages: len(form.lines(messages)) >= len(expected), what)

        wait_for("what there is")
        for number in range(3):
            # While it was down, the clock was set.
            file.write((NOW + 9 * HOUR, "ahead\n"), (NOW - 9 * HOUR, "back\n"), nanoseconds=number)
            calls.start(bot_id)
            expected += [b"ahead", b"back", b"new 1", b"new 2", b"new 3"]
            wait_for("what is written")
            calls.stop(bot_id, grace=0)
        calls.remove(bot_id)
        assert read.wait_end() is None
        assert expected == form.lines(read.messages)
        assert not any(entry.gap for message in read.messages for entry in form.entries_of(message))


def test_a_client_that_cuts_times_to_milliseconds_resumes_exactly(
    observer: ContainerObserverStub, stopped: Any, form: OneByOne
) -> None:
    bot_id, file = stopped()
    for number in range(20):
        file.write((NOW, f"{number}\n"), nanoseconds=number)
    received: list[bytes] = []
    cursor = ""
    for _ in range(20):
        # All that it keeps of an entry is text.
        batch = next(iter(form.batches(observer, bot_id, after_cursor=cursor, limit_bytes=2)))
        received += [entry.line for entry in batch]
        cursor = batch[-1].cursor
        if len(received) == 20:
            break
    assert [str(number).encode() for number in range(20)] == received


def test_after_an_entry_that_the_engine_has_dropped_the_oldest_one_with_a_gap(
    observer: ContainerObserverStub, stopped: Any, form: OneByOne
) -> None:
    bot_id, file = stopped()
    file.write(*times(*[-1] * 5, *range(5)))
    entries = form.read(observer, bot_id)
    file.drop(4)
    for number in range(4):
        rest = form.read(observer, bot_id, after_cursor=entries[number].cursor)
        assert [entry.line for entry in entries[4:]] == [entry.line for entry in rest]
        assert [True] + [False] * 5 == [entry.gap for entry in rest]
    for number in range(4, 10):
        assert entries[number + 1 :] == form.read(observer, bot_id, after_cursor=entries[number].cursor)


def test_a_line_of_several_pieces_that_the_engine_has_cut_is_continued_exactly(
    observer: ContainerObserverStub, stopped: Any, form: OneByOne
) -> None:
    bot_id, file = stopped()
    file.write((NOW - HOUR, "before\n"), *((NOW, letter * 16_384) for letter in "abcde"), (NOW, "end\n"))
    entries = form.read(observer, bot_id)
    for dropped in range(1, 6):
        file.drop(1)
        for number in range(dropped, 7):
            assert entries[number + 1 :] == form.read(observer, bot_id, after_cursor=entries[number].cursor)
        rest = form.read(observer, bot_id, after_cursor=entries[dropped - 1].cursor)
        assert (True, [entry.line for entry in entries[dropped:]]) == (rest[0].gap, [entry.line for entry in rest])


def test_after_an_entry_of_a_former_container_all_of_the_new_one_with_a_gap(
    calls: Calls, observer: ContainerObserverStub, bots: Bots, form: OneByOne
) -> None:
    bot_id = bots.new()
    cursors = []
    for _ in range(2):
        calls.run(bot_id, "sh", "-c", "echo one; echo two; exec sleep 1000")
        bots.wait_for_log(bot_id, b"two")
        cursors.append(form.read(observer, bot_id)[0].cursor)
        if len(cursors) == 1:
            calls.remove(bot_id, grace=0)
    former = form.read(observer, bot_id, after_cursor=cursors[0])
    assert [(b"one", True), (b"two", False)] == [(entry.line, entry.gap) for entry in former]
    assert [b"two"] == [entry.line for entry in form.read(observer, bot_id, after_cursor=cursors[1])]


def test_what_is_not_a_cursor_is_refused_by_its_field(
    observer: ContainerObserverStub, stopped: Any, form: OneByOne
) -> None:
    bot_id, file = stopped()
    file.write(*times(1))
    (entry,) = form.read(observer, bot_id)
    for fields in (
        {"after_cursor": "?"},
        {"after_cursor": entry.cursor[:-1]},
        {"after_cursor": entry.cursor.replace("1", "x", 1)},
        {"after_cursor": entry.cursor, "after": entry.time},
    ):
        with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG") as caught:
            form.read(observer, bot_id, **fields)
        assert "after_cursor" in str(caught[0])


# Damage


DAMAGE = {
    "zeros": b"\0" * 4096 + b"\n",
    "a torn line": b'{"log":"torn","stre',
    "no json": b"}{ what is this\n",
    "another file": b"<html>\n<body>\n</body>\n</html>\n",
    "another shape": b'{"log":5}\n',
    "an impossible time": b'{"log":"odd\\n","stream":"stdout","time":"0000-01-01T00:00:00Z"}\n',
}


def received_of(call: Any, form: OneByOne) -> tuple[list[pb.LogEntry], str]:
    """The entries of a stream, and the details of the error that it ends with."""
    with reading(call) as read:
        error = read.wait_end()
        entries = [entry for message in read.messages for entry in form.entries_of(message)]
    return entries, "" if error is None else str(error.details())


@pytest.mark.parametrize("damage", DAMAGE)
def test_entries_after_a_damaged_stretch_come_with_a_gap_and_an_error(
    observer: ContainerObserverStub, stopped: Any, damage: str, form: OneByOne
) -> None:
    bot_id, file = stopped()
    before = [(NOW - number * HOUR, f"before {number}\n") for number in range(3)]
    after = [(NOW + number * HOUR, f"after {number}\n") for number in range(4)]
    file.write(*before)
    file.damage(DAMAGE[damage])
    file.write(*after)
    # The engine appends the next entry to a torn line.
    lost = 1 if damage == "a torn line" else 0
    entries, error = received_of(observer.StreamLogs(form.request(bot_id)), form)
    expected = [text.strip().encode() for _, text in [*before, *after[lost:]]]
    assert expected == [entry.line for entry in entries]
    assert [3] == [number for number, entry in enumerate(entries) if entry.gap]
    assert "damaged" in error or "can't read" in error
    # Behind the damage, everything is as usual.
    intact = [entry.line for entry in entries[3:]]
    assert intact == [entry.line for entry in form.read(observer, bot_id, tail_lines=len(intact))]
    for number in range(3, len(entries)):
        rest = form.read(observer, bot_id, after_cursor=entries[number].cursor)
        assert intact[number - 2 :] == [entry.line for entry in rest]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_follower_gets_what_is_behind_a_damaged_stretch_and_what_is_written(
    calls: Calls, observer: ContainerObserverStub, stopped: Any, damage: str
) -> None:
    form = Batched(1000)
    bot_id, file = stopped("sh", "-c", "echo lost; for i in 1 2 3; do echo new $i; sleep 0.1; done; exec sleep 1000")
    file.write((NOW, "before\n"))
    file.damage(DAMAGE[damage])
    expected = [b"before", *([] if damage == "a torn line" else [b"lost"]), b"new 1", b"new 2", b"new 3"]
    calls.start(bot_id)
    with reading(observer.StreamLogs(form.request(bot_id, follow=True))) as read:
        read.wait_for(lambda messages: len(form.lines(messages)) >= len(expected), "all")
        entries: Sequence[pb.LogEntry] = [entry for message in read.messages for entry in form.entries_of(message)]
        assert expected == [entry.line for entry in entries]
        assert [1] == [number for number, entry in enumerate(entries) if entry.gap]


# Fewer and more than an engine passes over behind damage.
SIZES = {"few": (2, 4, 3), "many": (3, 400, 400), "many, then few": (200, 200, 2)}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("damage", DAMAGE)
def test_entries_between_two_damaged_stretches_and_behind_them_come_once_each_with_a_gap(
    observer: ContainerObserverStub, stopped: Any, damage: str, size: str
) -> None:
    form = Batched(1000)
    bot_id, file = stopped()
    lost = 1 if damage == "a torn line" else 0
    parts: list[list[bytes]] = []
    for part, count in enumerate(SIZES[size]):
        lines = [(NOW + part * HOUR, f"{part}.{number}\n") for number in range(count)]
        file.write(*lines)
        parts.append([text.strip().encode() for _, text in lines[lost if part else 0 :]])
        if part < 2:
            file.damage(DAMAGE[damage])
    entries, error = received_of(observer.StreamLogs(form.request(bot_id)), form)
    expected = [line for part in parts for line in part]
    assert expected == [entry.line for entry in entries]
    assert [len(parts[0]), len(parts[0]) + len(parts[1])] == [at for at, entry in enumerate(entries) if entry.gap]
    assert "damaged" in error or "can't read" in error
    for number in {0, len(parts[0]) - 1, len(parts[0]), len(expected) - len(parts[2]) - 1, len(expected) - 2}:
        rest, error = received_of(observer.StreamLogs(form.request(bot_id, after_cursor=entries[number].cursor)), form)
        assert (number, expected[number + 1 :]) == (number, [entry.line for entry in rest]), error
        assert bool(error) == (number < len(expected) - len(parts[2])), error
    for count in (1, len(parts[2]), len(parts[2]) + 1, len(expected)):
        tail, error = received_of(observer.StreamLogs(form.request(bot_id, tail_lines=count)), form)
        assert (count, expected[-count:]) == (count, [entry.line for entry in tail]), error
        assert bool(error) == (count > len(parts[2])), error


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("where", ["at the start", "at the end", "in a rotated file"])
def test_every_entry_that_is_not_damaged_itself_comes_wherever_the_damage_is(
    observer: ContainerObserverStub, bots: Bots, stopped: Any, damage: str, where: str
) -> None:
    form = Batched(1000)
    bot_id, file = stopped()
    first, second, third = ([(NOW, f"{part}.{number}\n") for number in range(100)] for part in range(3))
    lost = 1 if damage == "a torn line" else 0
    if where == "at the start":
        file.damage(DAMAGE[damage])
        file.write(*first, *second, *third)
        expected = [*first[lost:], *second, *third]
    elif where == "at the end":
        file.write(*first, *second, *third)
        file.damage(DAMAGE[damage])
        expected = [*first, *second, *third]
    else:
        file.write(*first)
        file.damage(DAMAGE[damage])
        file.write(*second)
        file.rotate()
        file.write(*third)
        expected = [*first, *second[lost:], *third]
    entries, error = received_of(observer.StreamLogs(form.request(bot_id)), form)
    assert [text.strip().encode() for _, text in expected] == [entry.line for entry in entries]
    gaps = [number for number, entry in enumerate(entries) if entry.gap]
    if where == "at the start" and not (gaps or error):
        # Whether there was anything before the first entry, nobody can say if the engine passes over it exactly.
        assert len(expected) == len(bots.engine.api.logs(f"botmaker-{bot_id}").splitlines())
        return
    assert "damaged" in error or "can't read" in error
    assert {"at the start": [0], "at the end": [], "in a rotated file": [100]}[where] == gaps


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_follower_of_a_silent_bot_waits_at_a_damaged_end_for_what_is_written(
    calls: Calls, bots: Bots, observer: ContainerObserverStub, stopped: Any, damage: str
) -> None:
    form = Batched(1000)
    bot_id, file = stopped("sh", "-c", "trap 'echo lost; echo heard' USR1; while :; do sleep 0.1; done")
    file.write((NOW, "before\n"))
    file.damage(DAMAGE[damage])
    calls.start(bot_id)
    expected = [b"before", *([] if damage == "a torn line" else [b"lost"]), b"heard"]
    with reading(observer.StreamLogs(form.request(bot_id, follow=True))) as read:
        read.wait_for(lambda messages: len(form.lines(messages)) >= 1, "what is before")
        assert not read.ended.wait(5)
        bots.engine.api.kill(f"botmaker-{bot_id}", "USR1")
        read.wait_for(lambda messages: len(form.lines(messages)) >= len(expected), "what is written")
        assert expected == form.lines(read.messages)
        entries = [entry for message in read.messages for entry in form.entries_of(message)]
        assert [1] == [number for number, entry in enumerate(entries) if entry.gap]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_follower_goes_on_behind_damage_that_appears_while_it_follows(
    observer: ContainerObserverStub, calls: Calls, stopped: Any, damage: str
) -> None:
    form = Batched(1000)
    bot_id, file = stopped("sh", "-c", "i=0; while :; do echo $((i+=1)); sleep 0.05; done")
    calls.start(bot_id)
    with reading(observer.StreamLogs(form.request(bot_id, follow=True))) as read:
        for _ in range(3):
            seen = len(form.lines(read.messages))
            read.wait_for(lambda messages, seen=seen: len(form.lines(messages)) >= seen + 20, "what is written")
            file.damage(DAMAGE[damage])
        seen = len(form.lines(read.messages))
        read.wait_for(lambda messages: len(form.lines(messages)) >= seen + 20, "what is written")
        # Without a pause, nobody can say whether any are missing; see the next test.
        numbers = list(map(int, form.lines(read.messages)))
        assert sorted(set(numbers)) == numbers
        assert not read.ended.is_set()


@pytest.mark.parametrize("damage", DAMAGE)
def test_entries_that_are_lost_at_damage_while_it_follows_are_a_gap(
    observer: ContainerObserverStub, calls: Calls, stopped: Any, damage: str
) -> None:
    form = Batched(1000)
    # Behind a pause of this length, a follower knows whether anything is missing.
    script = "i=0; while :; do echo $((i+=1)); sleep 0.05; [ $((i % 60)) != 0 ] || sleep 3; done"
    bot_id, file = stopped("sh", "-c", script)
    calls.start(bot_id)
    with reading(observer.StreamLogs(form.request(bot_id, follow=True))) as read:
        read.wait_for(lambda messages: len(form.lines(messages)) >= 20, "what is written")
        file.damage(DAMAGE[damage])
        before = file.entries_before(DAMAGE[damage])
        behind_pause = before // 60 * 60 + 61
        read.wait_for(lambda messages: int(form.lines(messages)[-1]) >= behind_pause, "what is written behind a pause")
        entries = [entry for message in read.messages for entry in form.entries_of(message)]
        numbers = [int(entry.line) for entry in entries]
        # It ends at the damage and reads what exists, or reads on through it until a pause,
        # which a busy machine may make.
        (gap,) = [int(entry.line) for entry in entries if entry.gap]
        assert before < gap <= behind_pause
        kept = [number for number in numbers if number <= before or number >= gap]
        assert [*range(1, before + 1), *range(gap, numbers[-1] + 1)] == kept
        assert sorted(set(numbers)) == numbers
        assert not read.ended.is_set()


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_tail_within_a_damaged_end_has_the_last_entries_and_an_error(
    observer: ContainerObserverStub, stopped: Any, damage: str, count: int
) -> None:
    form = Batched(1000)
    bot_id, file = stopped()
    file.write(*times(*range(6)))
    for _ in range(3):
        file.damage(DAMAGE[damage])
    tail, error = received_of(observer.StreamLogs(form.request(bot_id, tail_lines=count)), form)
    assert [b"%d" % number for number in range(6 - count, 6)] == [entry.line for entry in tail]
    assert not any(entry.gap for entry in tail)
    # A line without its end is not in an engine's tail, and looks like one that is being written.
    assert "damaged" in error or "can't read" in error or (damage, error) == ("a torn line", "")
