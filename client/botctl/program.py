"""The program: its commands, and the exit codes of runs that end early."""

from __future__ import annotations

import os
import sys
from typing import Any

import click
import grpc

from botctl.commands.action import action
from botctl.commands.backup import backup
from botctl.commands.create import create
from botctl.commands.files import files
from botctl.commands.inspect import inspect
from botctl.commands.list import list_containers
from botctl.commands.logs import logs
from botctl.commands.remove import remove
from botctl.commands.restart import restart
from botctl.commands.secrets import secrets
from botctl.commands.start import start
from botctl.commands.stats import stats
from botctl.commands.status import status
from botctl.commands.stop import stop
from botctl.commands.version import version
from botctl.commands.watch import watch
from botctl.exit_codes import ExitCode, Failure, exit_codes_help
from botctl.options import shared_options
from botctl.session import session_of


class Program(click.Group):
    """The group of all commands. Turns an exception into an exit code and at most one line of output."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except grpc.RpcError as exc:
            problem = session_of(ctx).explain(exc)
            raise Failure(problem.message, problem.exit_code) from exc
        except KeyboardInterrupt:
            ctx.exit(ExitCode.INTERRUPTED)
        except BrokenPipeError:
            _discard_stdout()
            ctx.exit(ExitCode.PIPE_CLOSED)
        except OSError as exc:
            _discard_stdout()
            raise Failure(f"the output cannot be written: {exc.strerror or exc}") from exc
        return result


def _discard_stdout() -> None:
    # Otherwise the interpreter flushes the rest of its buffer at exit, and reports the error again.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


@click.group(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=exit_codes_help(),
)
@click.version_option(package_name="botmaker-container-manager")
@shared_options(environment=True)
def botctl() -> None:
    """Manage bots' containers through the container manager.

    BOT is a bot's id or a unique prefix of it. Options may come before or after the name of the command.
    """


for _command in (
    create,
    start,
    stop,
    restart,
    remove,
    status,
    list_containers,
    inspect,
    watch,
    logs,
    stats,
    secrets,
    files,
    backup,
    action,
    version,
):
    botctl.add_command(_command)
