"""Options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from botctl.completion import complete_bot_ids
from botctl.connection import DEFAULT_TARGET, TARGET_VARIABLE, TOKEN_FILE_VARIABLE
from botctl.exit_codes import ExitCode, Failure
from botctl.param_types import DURATION, LABEL
from botctl.rendering.yaml_text import DOCUMENT_FORMATS
from botctl.tls_files import TLS_OPTIONS, TLS_VARIABLES

F = TypeVar("F", bound=Callable[..., Any])

# For the shell's completion. Errors are reported when the file is read.
_FILE = click.Path()
_TLS_HELP = {
    "ca": "The CA of the service's certificate, for a TCP service with TLS.",
    "cert": "This client's certificate, with its intermediate certificates.",
    "key": "The private key of the certificate. All three options go together.",
}


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    # click handles the command's option after the program's, so it takes precedence.
    if value is not None:
        ctx.meta[f"botctl.{param.name}"] = value


def _kept(*names: str, **kwargs: Any) -> Callable[[F], F]:
    return click.option(*names, expose_value=False, callback=_keep, **kwargs)


def shared_options(*, environment: bool) -> Callable[[F], F]:
    """``--target``, ``--token-file``, ``--tls-…`` and ``--output``, accepted before and after the command's name.

    ``environment``: also read the environment variables. Only the program's options do: a variable of a command's
    option would override the program's option.
    """

    def add(function: F) -> F:
        target = TARGET_VARIABLE if environment else None
        token_file = TOKEN_FILE_VARIABLE if environment else None
        for option in (
            # The help lists the option that is added last first.
            _kept(
                "--output",
                "-o",
                type=click.Choice(["table", *DOCUMENT_FORMATS]),
                help="Output format; json and yaml are one document (one for each message of watch, logs and stats).  "
                "[default: table]",
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
                help=f"The file with the token, for a TCP service.  [env var: {TOKEN_FILE_VARIABLE}]",
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
    """Adds the shared options to a command, whose first argument becomes the :class:`~botctl.session.Session`."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        from botctl.session import session_of

        ctx = click.get_current_context()
        session = session_of(ctx)
        ctx.call_on_close(session.close)
        return function(session, *args, **kwargs)

    return shared_options(environment=False)(run)


def bot_id_arguments(function: F) -> F:
    """Any number of ids, or prefixes of ids."""
    return click.argument("bot_ids", metavar="[BOT]...", nargs=-1, shell_complete=complete_bot_ids)(function)


def bot_id_argument(function: F) -> F:
    """One id, or a prefix of one."""
    return click.argument("bot_id", metavar="BOT", shell_complete=complete_bot_ids)(function)


def state_option(text: str) -> Callable[[F], F]:
    """``--state``, repeatable."""
    from botctl.rendering.words import states

    choice = click.Choice(states(), case_sensitive=False)
    return click.option("--state", "only_states", type=choice, multiple=True, help=text)


def label_option(text: str) -> Callable[[F], F]:
    """``--label``, repeatable."""
    return click.option("--label", "-l", "labels", type=LABEL, multiple=True, metavar="KEY=VALUE", help=text)


def once(option: str, pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The pairs of a repeatable option. Raises :class:`Failure` for a name that is given twice."""
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise Failure(f"{option} is given twice for {name!r}", ExitCode.USAGE)
        found[name] = value
    return found


def selection_options(function: F) -> F:
    """``BOT...``, or ``--all`` and ``--state``, and ``--parallel``."""
    for option in (
        click.option(
            "--parallel",
            type=click.IntRange(1, 64),
            metavar="N",
            default=8,
            show_default=True,
            help="How many bots to work on at the same time.",
        ),
        state_option("With --all: only bots in this state. Repeatable."),
        click.option("--all", "all_bots", is_flag=True, help="Every bot that has a container."),
        bot_id_arguments,
    ):
        function = option(function)
    return function


def grace_option(function: F) -> F:
    """``--grace``."""
    text = "Time between the stop signal and SIGKILL, such as 30s; 0 kills at once.  [default: the service's]"
    return click.option("--grace", type=DURATION, metavar="DURATION", help=text)(function)
