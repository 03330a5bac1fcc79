"""`corral completion`: the script that makes a shell complete `corral`."""

import click
from click.shell_completion import get_completion_class


@click.command("completion", short_help="Print a shell's completion script.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    bash:  corral completion bash > /etc/bash_completion.d/corral
    zsh:   corral completion zsh > "${fpath[1]}/_corral"
    fish:  corral completion fish > ~/.config/fish/completions/corral.fish
    """
    root = click.get_current_context().find_root().command
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(root, {}, "corral", "_CORRAL_COMPLETE").source())
