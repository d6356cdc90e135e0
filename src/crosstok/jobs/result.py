"""What a job returns: a folder, figures, and a representation that a person can read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True, repr=False)
class JobResult:
    """What every job returns.

    Attributes:
        folder: where it wrote; None where nothing was written.
        metrics: figures by name.
    """

    folder: Path | None
    metrics: Mapping[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        where = "" if self.folder is None else f"folder {str(self.folder)!r}"
        width = max(map(len, self.metrics), default=0)
        lines = [f"{name:{width}}  {value:.6g}" for name, value in self.metrics.items()]
        return "\n  ".join([f"{type(self).__name__}: {where or 'nothing was written'}", *lines])


@dataclass(frozen=True, kw_only=True, repr=False)
class TrainedResult(JobResult):
    """What a job returns that leaves a model."""

    folder: Path
