"""``botctl completion``."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

_SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command(no_args_is_help=True)
@click.argument("shell", type=click.Choice(list(_SHELLS)))
def completion(shell: str) -> None:
    r"""Print the script that completes commands in a shell.

    \b
    bash: eval "$(botctl completion bash)"      in ~/.bashrc
    zsh:  eval "$(botctl completion zsh)"       in ~/.zshrc
    fish: botctl completion fish | source       in ~/.config/fish/completions/botctl.fish
    """
    click.echo(_SHELLS[shell](click.Command("botctl"), {}, "botctl", "_BOTCTL_COMPLETE").source(), nl=False)
