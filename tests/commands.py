"""The commands of the command line, and their flags."""

from typing import Any

import typer.main


def commands_with_flags(app: Any) -> dict[str, set[str]]:
    """The flags of every command that the help shows."""
    group: Any = typer.main.get_command(app)
    return {
        name: {
            flag
            for parameter in command.params
            for flag in (*parameter.opts, *parameter.secondary_opts)
            if not getattr(parameter, "hidden", False)
        }
        for name, command in group.commands.items()
        if not command.hidden
    }
