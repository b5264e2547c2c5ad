"""Options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from botctl.completion import complete_bot_ids
from botctl.connection import DEFAULT_TARGET, TARGET_VARIABLE, TOKEN_FILE_VARIABLE
from botctl.param_types import DURATION
from botctl.rendering.words import states
from botctl.session import Session, session_of
from botctl.tls_files import TLS_OPTIONS, TLS_VARIABLES

F = TypeVar("F", bound=Callable[..., Any])

# For the shell's completion; what is wrong with a file is told by whoever reads it.
_FILE = click.Path()
_TLS_HELP = {
    "ca": "Of a TCP service with TLS: who signed its certificate.",
    "cert": "This client's certificate, with its intermediate ones.",
    "key": "Its private key. All three, or none.",
}


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    # A command's own option comes after the program's, and wins.
    if value is not None:
        ctx.meta[f"botctl.{param.name}"] = value


def _kept(*names: str, **kwargs: Any) -> Callable[[F], F]:
    return click.option(*names, expose_value=False, callback=_keep, **kwargs)


def shared_options(*, environment: bool) -> Callable[[F], F]:
    """``--target``, ``--token-file``, ``--tls-…`` and ``--output``, taken before a command's name and after it.

    ``environment``: the program's own are variables, too; a command's would hide the program's option.
    """

    def add(function: F) -> F:
        target = TARGET_VARIABLE if environment else None
        token_file = TOKEN_FILE_VARIABLE if environment else None
        for option in (
            # The last to be added is the first in help.
            _kept(
                "--output",
                "-o",
                type=click.Choice(["table", "json"]),
                help="For people, or one JSON document (JSON lines from watch, logs and stats).  [default: table]",
            ),
            *(
                _kept(
                    TLS_OPTIONS[part],
                    type=_FILE,
                    metavar="FILE",
                    envvar=TLS_VARIABLES[part] if environment else None,
                    help=f"{text}  [env var: {TLS_VARIABLES[part]}]",
                )
                for part, text in reversed(_TLS_HELP.items())
            ),
            _kept(
                "--token-file",
                type=_FILE,
                metavar="FILE",
                envvar=token_file,
                help=f"The token of a TCP service.  [env var: {TOKEN_FILE_VARIABLE}]",
            ),
            _kept(
                "--target",
                metavar="TARGET",
                envvar=target,
                help=f"unix:///path or tcp://host:port.  [env var: {TARGET_VARIABLE}; default: {DEFAULT_TARGET}]",
            ),
        ):
            function = option(function)
        return function

    return add


def with_session(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the shared options to a command, and give it the :class:`Session` as its first argument."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        ctx = click.get_current_context()
        session: Session = session_of(ctx)
        ctx.call_on_close(session.close)
        return function(session, *args, **kwargs)

    return shared_options(environment=False)(run)


def bot_id_arguments(function: F) -> F:
    """Any number of ids, or beginnings of ids."""
    return click.argument("bot_ids", metavar="[BOT]...", nargs=-1, shell_complete=complete_bot_ids)(function)


def bot_id_argument(function: F) -> F:
    """One id, or the beginning of one."""
    return click.argument("bot_id", metavar="BOT", shell_complete=complete_bot_ids)(function)


def state_option(text: str) -> Callable[[F], F]:
    """``--state``, repeatable."""
    choice = click.Choice(states(), case_sensitive=False)
    return click.option("--state", "only_states", type=choice, multiple=True, help=text)


def selection_options(function: F) -> F:
    """``BOT...``, or ``--all`` and ``--state``; how many at once."""
    for option in (
        click.option(
            "--parallel",
            type=click.IntRange(1, 64),
            metavar="N",
            default=8,
            show_default=True,
            help="How many bots at once.",
        ),
        state_option("With --all: only those in this state. Repeatable."),
        click.option("--all", "all_bots", is_flag=True, help="Every bot that has a container."),
        bot_id_arguments,
    ):
        function = option(function)
    return function


def grace_option(function: F) -> F:
    """``--grace``."""
    text = "Time between the stop signal and SIGKILL, as in 30s; 0 kills at once.  [default: the service's]"
    return click.option("--grace", type=DURATION, metavar="DURATION", help=text)(function)
