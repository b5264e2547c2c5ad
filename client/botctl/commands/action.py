"""``botctl action``."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Sequence
from io import TextIOWrapper

import click

from botctl.actions import run_action
from botctl.exit_codes import Failure
from botctl.options import bot_id_argument, with_session
from botctl.rendering.json_documents import write_document
from botctl.rendering.terminal import is_terminal
from botctl.rendering.unsafe_text import printable
from botctl.session import Session
from botmaker.container.v1 import container_maintainer_pb2 as pb


@click.command()
@bot_id_argument
@click.argument("name", metavar="ACTION")
@click.argument("arguments", metavar="[ARGUMENT]...", nargs=-1)
@with_session
def action(session: Session, bot_id: str, name: str, arguments: Sequence[str]) -> None:
    """Run a declared program in a bot, such as pairing-list or pairing-approve CODE.

    An exit code of the program other than 0 is exit code 1 here.
    """
    whole_id = session.whole_id(bot_id)
    kept = _Kept() if session.as_json else None
    end = run_action(session.maintainer, whole_id, name, arguments, on_output=kept or _Shown())
    if kept is not None:
        document = {"bot_id": whole_id, "action": name, "exit_code": end.exit_code, "timed_out": end.timed_out}
        write_document([{**document, "omitted_bytes": end.omitted_bytes, **kept.texts}])
    elif end.omitted_bytes:
        session.notice(f"{end.omitted_bytes} more bytes of output are left out")
    if end.timed_out:
        raise Failure(f"{whole_id}: the action {name} took too long and was ended")
    if end.exit_code:
        raise Failure(f"{whole_id}: the action {name} ended with exit code {end.exit_code}")


class _Kept:
    """Collects the output for the JSON document."""

    def __init__(self) -> None:
        self._outputs = {"stdout": bytearray(), "stderr": bytearray()}

    @property
    def texts(self) -> dict[str, str]:
        """Each output by its name."""
        return {name: output.decode("utf-8", "replace") for name, output in self._outputs.items()}

    def __call__(self, event: pb.RunActionResponse) -> None:
        self._outputs["stdout"] += event.stdout
        self._outputs["stderr"] += event.stderr


class _Shown:
    """Writes the output as it comes: as it is, but what a terminal would interpret."""

    def __init__(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {"stdout": decoder("replace"), "stderr": decoder("replace")}

    def __call__(self, event: pb.RunActionResponse) -> None:
        name = event.WhichOneof("event")
        stream: TextIOWrapper = getattr(sys, name)
        data: bytes = getattr(event, name)
        if is_terminal(stream):
            lines = self._decoders[name].decode(data).split("\n")
            stream.write("\n".join(map(printable, lines)))
            stream.flush()
        else:
            stream.buffer.write(data)
            stream.buffer.flush()
