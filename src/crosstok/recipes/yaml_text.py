"""Read YAML that people wrote: each key once, and errors of one line that say where."""

from collections.abc import Hashable
from typing import Any

import yaml

_DEEPEST = 20


class _EachKeyOnce(yaml.SafeLoader):
    """Refuses a key that occurs twice in a mapping, of which YAML would keep the last."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Read a value, unless it refers to another one or lies too deep."""
        events: Any = self
        mark = events.peek_event().start_mark
        if self.check_event(yaml.AliasEvent):
            problem = "an alias (*NAME), which recipes do not take; write the value itself"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
        self.depth += 1
        if self.depth > _DEEPEST:
            problem = f"values nested more than {_DEEPEST} deep"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        """Make a mapping whose keys all differ."""
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue  # the base class explains it
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key!r} occurs twice; leave one out",
                    problem_mark=key_node.start_mark,
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def read_yaml(text: str) -> Any:
    """Read a value in YAML.

    Raises:
        ValueError: the text is not YAML, a key occurs twice, it refers to an alias, or its values
            are nested too deeply; in one line, with the place.
    """
    try:
        return yaml.load(text, _EachKeyOnce)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        raise ValueError(f"{where}{error.problem or error.context}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from error


class _WithoutAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """Write a value again where it occurs again."""
        return True


def write_yaml(values: Any) -> str:
    """Write values as `read_yaml` reads them, in their order."""
    text: str = yaml.dump(values, Dumper=_WithoutAliases, sort_keys=False, allow_unicode=True)
    return text
