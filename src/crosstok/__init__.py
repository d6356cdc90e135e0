"""Move language models, and what they know, across tokenizers.

The jobs, each of which takes its recipe or the recipe's options as keywords::

    transfer    give a model another tokenizer, or bytes, and train it to be what it was
    transplant  the same without training
    distil      teach a student from teachers that have other tokenizers (also: distill)
    evaluate    compare models in bits per byte, on exams and tasks
    generate    let a model, or several as one, continue texts and answer chats
    inspect_tokenizers, inspect_models
                what a change of tokenizer costs; what a teacher can teach a student

For loops and trainers of your own: `alm_loss`, `DistillationLoss`, `CrossTokenizerTrainer` and
`DistillationCollator`; the objectives (`ALM` and others); `align`, which finds the chunks of two
tokenizations; `load_language_model`, one model or several that answer as one.

Nothing is loaded until it is used: ``import crosstok`` does not import torch.
"""

from typing import TYPE_CHECKING

from crosstok.former_paths import keep_former_paths
from crosstok.lazy import import_on_demand

if TYPE_CHECKING:
    from crosstok import objectives, recipes
    from crosstok.alignment import align
    from crosstok.inference import load_language_model
    from crosstok.jobs.distil import distil
    from crosstok.jobs.distil import distil as distill
    from crosstok.jobs.evaluate import evaluate
    from crosstok.jobs.generate import generate
    from crosstok.jobs.inspect_models import inspect_models
    from crosstok.jobs.inspect_tokenizers import inspect_tokenizers
    from crosstok.jobs.transfer import transfer
    from crosstok.jobs.transplant import transplant
    from crosstok.objectives import ALM, DSKD, GOLD, ULD, CrossEntropy, HiddenStates, MinED, Strict
    from crosstok.recipes import (
        DistilRecipe,
        EvaluateRecipe,
        GenerateRecipe,
        InspectModelsRecipe,
        InspectTokenizersRecipe,
        TransferRecipe,
        TransplantRecipe,
    )
    from crosstok.training import (
        CrossTokenizerTrainer,
        DistillationCollator,
        DistillationLoss,
        alm_loss,
    )


__version__ = "0.1.0"

_HOMES = {
    "ALM": "objectives",
    "CrossEntropy": "objectives",
    "CrossTokenizerTrainer": "training",
    "DSKD": "objectives",
    "DistilRecipe": "recipes",
    "DistillationCollator": "training",
    "DistillationLoss": "training",
    "EvaluateRecipe": "recipes",
    "GOLD": "objectives",
    "GenerateRecipe": "recipes",
    "HiddenStates": "objectives",
    "InspectModelsRecipe": "recipes",
    "InspectTokenizersRecipe": "recipes",
    "MinED": "objectives",
    "Strict": "objectives",
    "TransferRecipe": "recipes",
    "TransplantRecipe": "recipes",
    "ULD": "objectives",
    "align": "alignment",
    "alm_loss": "training",
    "distil": "jobs.distil",
    "distill": "jobs.distil:distil",
    "evaluate": "jobs.evaluate",
    "generate": "jobs.generate",
    "inspect_models": "jobs.inspect_models",
    "inspect_tokenizers": "jobs.inspect_tokenizers",
    "load_language_model": "inference",
    "objectives": "objectives:",
    "recipes": "recipes:",
    "transfer": "jobs.transfer",
    "transplant": "jobs.transplant",
}
"""Where each public name lives; see `import_on_demand`."""

__all__ = [
    "ALM",
    "DSKD",
    "GOLD",
    "ULD",
    "CrossEntropy",
    "CrossTokenizerTrainer",
    "DistilRecipe",
    "DistillationCollator",
    "DistillationLoss",
    "EvaluateRecipe",
    "GenerateRecipe",
    "HiddenStates",
    "InspectModelsRecipe",
    "InspectTokenizersRecipe",
    "MinED",
    "Strict",
    "TransferRecipe",
    "TransplantRecipe",
    "__version__",
    "align",
    "alm_loss",
    "distil",
    "distill",
    "evaluate",
    "generate",
    "inspect_models",
    "inspect_tokenizers",
    "load_language_model",
    "objectives",
    "recipes",
    "transfer",
    "transplant",
]

__getattr__, __dir__ = import_on_demand(globals(), _HOMES)

keep_former_paths()
