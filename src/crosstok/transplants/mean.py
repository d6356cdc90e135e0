"""The mean of all source rows for every token without a twin: the weakest sensible baseline.

It stands in no paper of its own; newcomers in a vocabulary start here by default in many libraries.
"""

from dataclasses import dataclass
from typing import ClassVar

from crosstok.transplants.base import MethodInputs, MethodNeeds, MethodRows, SourceRows


@dataclass(frozen=True)
class Mean:
    """Every missing token gets the mean row."""

    needs: ClassVar[MethodNeeds] = MethodNeeds()
    row_label: ClassVar[str] = "composed"  # none is

    def __call__(self, inputs: MethodInputs) -> MethodRows:
        """No token has rows of its own."""
        return MethodRows([SourceRows()] * len(inputs.tokens))
