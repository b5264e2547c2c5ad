"""The program: its commands, and the exit codes of runs that end early."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

from botctl.exit_codes import ExitCode, Failure, exit_codes_help
from botctl.options import shared_options
from botctl.suggestion import suggestion

COMMANDS = {
    "create": "Create a bot's container without starting it.",
    "start": "Start bots.",
    "stop": "Stop bots.",
    "restart": "Stop bots and start them again.",
    "remove": "Remove bots' containers, even running ones.",
    "wait": "Wait until bots are ready, or with --for exited until they have ended.",
    "status": "Show all details of bots' containers.",
    "list": "List the containers of all bots, and orphans: managed containers without a bot.",
    "inspect": "Show a bot's configuration and status, in JSON or YAML.",
    "watch": "Show bots' states as they change until Ctrl-C.",
    "logs": "Show a bot's log, standard output and standard error in order.",
    "stats": "Show the resource use of running bots until Ctrl-C, or once with --no-stream.",
    "secrets": "Write, reload, list and remove bots' secret files.",
    "files": "Write files into bots' state directories.",
    "backup": "Back up bots' states and configurations into the server's backup directory, and restore them.",
    "upgrade": "Replace bots' containers by ones of another image, with the same configuration and state.",
    "action": "Run a declared program in a bot, such as pairing-list or pairing-approve CODE.",
    "version": "Show the versions of botctl, of the server and of what runs the containers.",
    "completion": "Print the script that completes commands in a shell.",
}
"""Each command, a module of :mod:`botctl.commands`, and the first sentence of its help.

A run imports the module of its own command alone: gRPC, the generated messages and rich take most of a start.
"""
# The names of functions that Python would not let have the command's.
_FUNCTIONS = {"list": "list_containers"}
# The names that users of docker type.
_ALIASES = {"ls": "list", "ps": "list", "rm": "remove"}


class Program(click.Group):
    """The group of all commands. Turns an exception into an exit code and at most one line of output."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's own signature
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - the same
        name = _ALIASES.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            return None
        module = import_module(f"botctl.commands.{name}")
        command: click.Command = getattr(module, _FUNCTIONS.get(name, name))
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and not ctx.resilient_parsing and self.get_command(ctx, name) is None:
            raise click.UsageError(f"No such command {name!r}{suggestion(name, [*COMMANDS, *_ALIASES])}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = [CompletionItem(name, help=COMMANDS[name]) for name in sorted(COMMANDS) if name.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except KeyboardInterrupt:
            ctx.exit(ExitCode.INTERRUPTED)
        except BrokenPipeError:
            _discard_stdout()
            ctx.exit(ExitCode.PIPE_CLOSED)
        except OSError as exc:
            _discard_stdout()
            raise Failure(f"the output cannot be written: {exc.strerror or exc}") from exc
        except Exception as exc:
            if (failure := _failure(ctx, exc)) is None:
                raise
            raise failure from exc
        return result


def _failure(ctx: click.Context, exc: Exception) -> Failure | None:
    """What an error of gRPC means; ``None`` for any other exception."""
    grpc = sys.modules.get("grpc")
    if grpc is None or not isinstance(exc, grpc.RpcError):
        return None
    from botctl.session import session_of

    problem = session_of(ctx).explain(exc)
    return Failure(problem.message, problem.exit_code)


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

    BOT is a bot's id, a unique prefix of it, or the bot's host name if no other bot has it. Options may come before or
    after the name of the command. ls and ps are short for list, and rm for remove.
    """
