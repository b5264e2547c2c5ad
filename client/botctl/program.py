"""The program: its commands, and how its ends look from outside."""

from __future__ import annotations

import os
import sys
from typing import Any

import click
import grpc

from botctl.commands.change import remove, restart, start, stop
from botctl.commands.create import create
from botctl.commands.logs import logs
from botctl.commands.look import list_bots, status
from botctl.commands.stats import stats
from botctl.commands.watch import watch
from botctl.options import shared_options
from botctl.outcomes import ExitCode, Failure, exit_codes_help
from botctl.session import session_of


class Program(click.Group):
    """The group of all commands. What ends one of them early becomes an exit code, and at most one line."""

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
            _let_go_of_stdout()
            ctx.exit(ExitCode.PIPE_CLOSED)
        except OSError as exc:
            _let_go_of_stdout()
            raise Failure(f"the output cannot be written: {exc.strerror or exc}") from exc
        return result


def _let_go_of_stdout() -> None:
    # The interpreter would flush what is left of it once more, and complain.
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
    """Bots' containers, through the container manager.

    BOT is a bot's id, or as much of its beginning as no other id begins with. Options may stand before or after the
    command's name.
    """


for _command in (create, start, stop, restart, remove, status, list_bots, watch, logs, stats):
    botctl.add_command(_command)
