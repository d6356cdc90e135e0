"""Read a command line: `_` for `-` in flags, help by topic, and one line for what is wrong."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import typer.core

from crosstok.cli.spellings import COMMANDS, what_instead
from crosstok.plugins import nearest
from crosstok.recipes import RecipeError

HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_NAME_COLUMNS = 36


class JobCommand(typer.core.TyperCommand):
    """A command whose help shows its options under the headings of their groups."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the flags; a wrong one is an error that gives the right one.

        Raises:
            RecipeError: there is no such flag, a value is missing, or a word belongs to no flag.
        """
        takes_value = _takes_value(self.get_params(ctx))
        words = read_flags(args, takes_value, ctx.command_path)
        try:
            return super().parse_args(ctx, words)
        except Exception as error:
            raise _in_one_line(error, ctx.command_path) from error

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, group by group."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:  # hidden
                continue
            name, text = record
            if parameter.secondary_opts:
                name = f"--[no-]{parameter.opts[0].removeprefix('--')}"
            heading = getattr(parameter, "rich_help_panel", None) or "options"
            groups.setdefault(heading, []).append((name, text))
        for heading, records in groups.items():
            with formatter.section(heading[0].upper() + heading[1:]):
                formatter.write_dl(records, col_max=_NAME_COLUMNS)


class Commands(typer.core.TyperGroup):
    """All commands; a wrong name is an error that gives the right one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read what comes before the command.

        Raises:
            RecipeError: it is a flag of a command.
        """
        first = args[0] if args else ""
        if first.startswith("-") and first not in _takes_value(self.get_params(ctx)):
            commands = ", ".join(name for name in self.list_commands(ctx))
            raise RecipeError(
                f"No such option: {first}. Options follow a command: crosstok COMMAND {first} ... "
                f"Commands are {commands}."
            )
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command of a name.

        Raises:
            RecipeError: there is none.
        """
        name = args[0]
        known = [c for c in self.list_commands(ctx) if not self.get_command(ctx, c).hidden]  # type: ignore[union-attr]
        if self.get_command(ctx, name) is None:
            instead = COMMANDS.get(name.lower())
            hint = f". Use crosstok {instead}." if instead else nearest(name, known)
            raise RecipeError(f"No such command: {name}{hint} Commands are {', '.join(known)}.")
        return super().resolve_command(ctx, args)


def _takes_value(parameters: Sequence[Any]) -> dict[str, bool]:
    """Every flag of a command, and whether a value follows it."""
    return {
        flag: not (parameter.is_flag or getattr(parameter, "count", False))
        for parameter in parameters
        if parameter.param_type_name == "option"
        for flag in (*parameter.opts, *parameter.secondary_opts)
    }


def read_flags(args: Sequence[str], takes_value: dict[str, bool], command: str) -> list[str]:
    """Spell the flags of a command line as the command does.

    Args:
        args: words after the command.
        takes_value: the command's flags, and whether a value follows each.
        command: its name, for errors.

    Raises:
        RecipeError: there is no such flag; gives the one that other tools call so, or the nearest.
    """
    read: list[str] = []
    words = iter(args)
    for word in words:
        name, equals, value = word.partition("=")
        if word == "--" or not word.startswith("-") or _is_number(word):
            read.append(word)
            continue
        flag = f"--{name[2:].replace('_', '-')}" if name.startswith("--") else name
        if flag not in takes_value:
            raise RecipeError(_no_such_option(name, flag, takes_value, command))
        read.append(flag + equals + value)
        if takes_value[flag] and not equals:
            read += [_value_of(flag, following, takes_value) for following in islice(words, 1)]
    return read


def _value_of(flag: str, word: str, flags: dict[str, bool]) -> str:
    if word.partition("=")[0].replace("_", "-") in flags:
        raise RecipeError(
            f"Option {flag} needs a value, and {word} follows. Give it one; if {word} is the "
            f"value, write {flag}={word}."
        )
    return word


def _is_number(word: str) -> bool:
    return word[1:2].isdigit() or word[1:2] == "."


def _no_such_option(name: str, flag: str, flags: dict[str, bool], command: str) -> str:
    flag = flag if flag.startswith("--") else f"-{flag}"
    instead = what_instead(flag, flags)
    hint = f". {instead}" if instead else nearest(flag, flags)
    return f"No such option: {name}{hint} `{command} --help` lists all."


def _in_one_line(error: Exception, command: str) -> Exception:
    """The error of a wrong command line as one of ours; any other as it is."""
    format_message = getattr(error, "format_message", None)
    if format_message is None:
        return error
    message = " ".join(format_message().split()).rstrip(".")
    hint = f"`{command} --help` lists the options."
    if "extra argument" in message:
        hint = "Values follow a flag that starts with --; a value with spaces needs quotes."
    return RecipeError(f"{message}. {hint}")
