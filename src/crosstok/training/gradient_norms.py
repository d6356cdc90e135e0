"""The norm of every term's gradient in the last layer, by which GradMag weights the terms.

Measured over the whole global batch of an optimizer step, and used in the steps that follow; see
`crosstok.objectives.weighting`.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from torch import Tensor, nn

from crosstok.objectives.weighting import Weighting, gradient, last_layer_parameters

_FILE = "objective_norms.json"


class GradientNorms:
    """Measures norms where the weighting asks for them, and keeps them between measurements.

    Args:
        names: of the terms.
        weighting: how the terms are combined.

    Attributes:
        values: norm by term; 1 before any was measured.
        are_measured: whether the norms are those of a batch.
        is_measuring: whether the current step measures them.
    """

    def __init__(self, names: Iterable[str], weighting: Weighting) -> None:
        self._weighting = weighting
        self.values: dict[str, float] = dict.fromkeys(names, 1.0)
        self._gradients: dict[str, Tensor] = {}
        self.are_measured = False
        self.is_measuring = False

    @property
    def must_be_measured(self) -> bool:
        """Whether the weighting needs norms before the first step."""
        return self._weighting.measures_gradients and not self.are_measured

    def begin_step(self, step: int) -> None:
        """Decide whether this optimizer step measures the norms."""
        weighting = self._weighting
        self.is_measuring = weighting.measures_gradients and step % weighting.measure_every == 0

    def weights(self, progress: float = 0.0) -> dict[str, float]:
        """The weight of every term.

        Args:
            progress: share of the run that is done, in [0, 1].
        """
        return self._weighting(self.values, progress)

    def add(self, losses: Mapping[str, Tensor], model: nn.Module) -> None:
        """Add the gradients of a micro-batch's losses, whose graph is kept."""
        parameters = last_layer_parameters(model)
        for name, loss in losses.items():
            part = gradient(loss, parameters)
            known = self._gradients.get(name)
            self._gradients[name] = part if known is None else known + part

    def update(self, over_ranks: Callable[[Tensor], Tensor], num_ranks: int) -> None:
        """Take the norms of the gradients that were added, averaged over ranks."""
        for name, grad in self._gradients.items():
            norm = float((over_ranks(grad) / num_ranks).norm())
            # A batch in which an objective finds nothing to compare says nothing of its norm; 0
            # would give it all the weight, and the others none, until the next measurement.
            if norm > 0:
                self.values[name] = norm
        self._gradients = {}
        self.are_measured = True

    def save(self, folder: Path) -> None:
        """Write the norms into a checkpoint, if there are any."""
        if self.are_measured:
            (folder / _FILE).write_text(json.dumps(self.values))

    def load(self, folder: Path) -> None:
        """Read the norms of a checkpoint, if it has any."""
        if (folder / _FILE).is_file():
            self.values = json.loads((folder / _FILE).read_text())
            self.are_measured = True
