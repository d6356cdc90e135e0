"""The mean of all source rows for every token that the source lacks: the weakest useful baseline.

It has no paper; many libraries initialise new tokens like this by default.
"""

from dataclasses import dataclass
from typing import ClassVar

from crosstok.transplants.base import MethodInputs, MethodNeeds, MethodRows, SourceRows


@dataclass(frozen=True)
class Mean:
    """Every missing token gets the mean of all source rows."""

    needs: ClassVar[MethodNeeds] = MethodNeeds()
    row_label: ClassVar[str] = "composed"  # no row is

    def __call__(self, inputs: MethodInputs) -> MethodRows:
        """Return the mean of all rows for every token."""
        return MethodRows([SourceRows()] * len(inputs.tokens))
