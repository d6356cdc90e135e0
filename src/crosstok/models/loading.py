"""Load causal language models from the hub or a folder, with errors that give the next step."""

import copy
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from crosstok.loaded import Loaded
from crosstok.local_files import why_not_fetched, why_not_there
from crosstok.models.files import check_finite, check_model_exists
from crosstok.models.head_probe import output_matrix_module, unwrap_model
from crosstok.models.in_memory import check_in_memory, take_model
from crosstok.models.modeling_byte_expanded import ByteExpandedConfig
from crosstok.models.saved_dtypes import SavedDtypes, dtypes_of, read_dtypes
from crosstok.models.ties import settle_ties

_OTHER_TASKS = (
    "ForMaskedLM",
    "ForPreTraining",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMultipleChoice",
)


def load_model(
    name: str,
    *,
    dtype: torch.dtype | str = "auto",
    device: torch.device | str | None = None,
    trust_remote_code: bool = False,
    options: Mapping[str, Any] | None = None,
    shared: bool = False,
) -> PreTrainedModel:
    """Load a causal language model; an incomplete one is an error.

    Args:
        name: folder, or repository on the Hugging Face hub; or a `Loaded` model, which is copied.
        dtype: dtype of the weights; "auto" takes the dtype in which they are saved.
        device: where to put the model; None leaves it where transformers loads it (CPU).
        trust_remote_code: whether Python code in the folder may be executed.
        options: other arguments of ``from_pretrained``, such as ``attn_implementation`` or
            ``quantization_config`` (a mapping); its ``dtype`` takes precedence over ``dtype``, and
            its ``device_map`` over ``device``.
        shared: share the weights of a `Loaded` model, frozen, instead of copying them.

    Returns:
        The model, in evaluation mode.

    Raises:
        ValueError: there is no model of that name, you may not download it, it is not a causal
            language model, weights are missing from its files, or ``from_pretrained`` does not
            accept an option.
    """
    if isinstance(name, Loaded):
        return take_model(name, dtype=dtype, device=device, options=options, shared=shared)
    check_model_exists(name)
    source = _folder_or_name(name)
    config = load_config(source, trust_remote_code=trust_remote_code)
    _check_task(name, config)
    arguments = {"dtype": dtype, **_placed(options or {}, device)}
    model, report = _from_pretrained(name, config, trust_remote_code, arguments, options)
    _check_complete(name, model, report)
    check_finite(name, model)
    if device is not None and "device_map" not in arguments:
        model = model.to(device)
    return model.eval()  # type: ignore[no-any-return]


def _from_pretrained(
    name: str,
    config: Any,
    trust_remote_code: bool,
    arguments: Mapping[str, Any],
    options: Mapping[str, Any] | None,
) -> tuple[Any, dict[str, Any]]:
    """The model, and transformers' report on its weights.

    Raises:
        ValueError: see `load_model`.
    """
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            _folder_or_name(name),
            config=config,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            **arguments,
        )
    except (TypeError, ImportError) as error:
        if not options:
            raise
        raise ValueError(_does_not_take(name, options, error)) from error
    except OSError as error:
        raise ValueError(_why_not_found(name, error)) from error
    except ValueError as error:
        if "Unrecognized configuration class" in str(error):
            raise ValueError(_not_causal(name, config)) from error
        raise
    except Exception as error:  # every format of weights has its own errors
        if reason := _what_is_damaged(error):
            raise ValueError(f"the weights of {name!r} cannot be read: {reason}") from error
        raise
    model, report = loaded
    return model, report


def _folder_or_name(name: str) -> str:
    path = Path(name).expanduser()
    return str(path) if path.is_dir() and not isinstance(name, Loaded) else name


def _what_is_damaged(error: Exception) -> str | None:
    """What is wrong with a file of weights, and what to do; None for an error of another kind."""
    if isinstance(error, UnpicklingError):
        return (
            "pytorch_model.bin is damaged, or holds more than tensors, which could run code and is "
            "never loaded. Fetch the model in safetensors, or convert it where you trust it."
        )
    if "ignore_mismatched_sizes" in str(error):
        return "their shapes are not those of its config.json. Fetch both again, from one version."
    if isinstance(error, SafetensorError | EOFError):
        return f"{error}. Fetch the model again."
    return None


def load_to_change(
    name: str | Loaded,
    *,
    device: torch.device | str | None = None,
    trust_remote_code: bool = False,
    options: Mapping[str, Any] | None = None,
) -> tuple[PreTrainedModel, SavedDtypes]:
    """Load a model that will be changed and saved: no weight loses precision on the way.

    A checkpoint whose tensors have several dtypes is loaded in the widest of them.

    Args:
        name: as for `load_model`, and so the others.
        device: where to put the model.
        trust_remote_code: whether Python code in the folder may be executed.
        options: other arguments of ``from_pretrained``; a ``dtype`` among them is obeyed.

    Returns:
        The model, and the dtypes in which its files keep its weights.

    Raises:
        ValueError: the model cannot be loaded; see `load_model`.
    """
    if isinstance(name, Loaded):
        model = load_model(name, device=device, options=options)
        settle_ties(str(name), model, set())
        return model, dtypes_of(model)
    check_model_exists(name)
    dtypes = None if "quantization_config" in (options or {}) else read_dtypes(name)
    dtype = dtypes.widest if dtypes is not None and dtypes.others else "auto"
    model = load_model(
        name, dtype=dtype, device=device, trust_remote_code=trust_remote_code, options=options
    )
    if dtypes is None or not dtypes.others or "dtype" in (options or {}):
        dtypes = SavedDtypes(model.dtype)
    return model, dtypes


def _placed(options: Mapping[str, Any], device: torch.device | str | None) -> dict[str, Any]:
    """Add the device to the options of quantised weights, which cannot be moved after loading."""
    if "quantization_config" in options and "device_map" not in options and device is not None:
        return {**options, "device_map": {"": device}}
    return dict(options)


def _does_not_take(name: str, options: Mapping[str, Any], error: Exception) -> str:
    return (
        f"model {name!r} cannot be loaded with the options {dict(options)}: {error}. They are "
        "arguments of transformers' from_pretrained (attn_implementation, dtype, device_map, "
        "quantization_config, ...); check their spelling, or leave them out."
    )


def new_model(
    name: str, *, trust_remote_code: bool = False, options: Mapping[str, Any] | None = None
) -> PreTrainedModel:
    """Make a model of the same architecture and size with random weights, in fp32.

    Args:
        name: folder (its ``config.json`` is enough), or repository on the Hugging Face hub.
        trust_remote_code: whether Python code in the folder may be executed.
        options: other arguments of ``from_config``, such as ``attn_implementation``.

    Raises:
        ValueError: there is no configuration of that name, the model is not a causal language model
            or has input expansion, or ``from_config`` does not accept an option.
    """
    check_model_exists(name)
    config = load_config(_folder_or_name(name), trust_remote_code=trust_remote_code)
    _check_task(name, config)
    if config.model_type == ByteExpandedConfig.model_type:
        raise ValueError(
            f"model {name!r} has input expansion, which needs the weights of its subwords. Start "
            "from the model itself, or from a model without input expansion."
        )
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config,
            trust_remote_code=trust_remote_code,
            **{"dtype": torch.float32, **(options or {})},
        )
    except (TypeError, ImportError) as error:
        if not options:
            raise
        raise ValueError(_does_not_take(name, options, error)) from error
    except ValueError as error:
        raise ValueError(_not_causal(name, config)) from error
    return model.eval()  # type: ignore[no-any-return]


def check_vocabulary_fits(model: nn.Module, num_ids: int, tokenizer_name: str) -> None:
    """Check that the ids of a tokenizer have rows in the model's embedding matrices.

    Args:
        model: a causal language model of transformers, possibly wrapped.
        num_ids: rows that the tokenizer needs (`byte_vocab.num_rows_needed`).
        tokenizer_name: name of the tokenizer, for the error message.

    Raises:
        ValueError: the highest id is outside the input or the output matrix.
    """
    inner = unwrap_model(model)
    output, inputs = output_matrix_module(model), inner.get_input_embeddings()
    if not hasattr(inputs, "weight"):
        raise ValueError(
            f"the input embeddings of {type(inner).__name__} are a {type(inputs).__name__}, one "
            "matrix for each of several vocabularies; crosstok needs a model with one."
        )
    matrices = {"embedding matrix": inputs.weight, "output matrix": output.weight}
    for name, matrix in matrices.items():
        num_rows = matrix.shape[0]
        if num_ids > num_rows:
            raise ValueError(
                f"tokenizer {tokenizer_name!r} has ids up to {num_ids - 1}, which need {num_ids} "
                f"rows, but the {name} of {type(inner).__name__} has {num_rows}. Use the tokenizer "
                "that the model was saved with, or give the model this one first "
                "(`crosstok transplant`)."
            )


def load_config(name: str, *, trust_remote_code: bool = False) -> Any:
    """Load a model's configuration, a small file, before anything large.

    Args:
        name: folder, or repository on the Hugging Face hub.
        trust_remote_code: whether Python code in the folder may be executed.

    Raises:
        ValueError: there is no configuration of that name, or transformers does not know it.
    """
    if isinstance(name, Loaded):
        return copy.deepcopy(check_in_memory(name).config)
    is_folder = Path(name).expanduser().is_dir()
    if why := why_not_there(name) or (None if is_folder else why_not_fetched(name)):
        raise ValueError(f"no model {name!r}: {why}")
    try:
        return AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
    except (GatedRepoError, RepositoryNotFoundError, OSError) as error:
        raise ValueError(_why_not_found(name, error)) from error
    except ValueError as error:
        if "trust_remote_code" in str(error):
            raise ValueError(
                f"model {name!r} comes with its own Python code, which is executed only if you "
                "allow it. Read that code, then set trust_remote_code=True."
            ) from error
        raise ValueError(
            f"the config.json of {name!r} does not describe a model that transformers knows: "
            f"{' '.join(str(error).split())}"
        ) from error
    except Exception as error:  # checks of each architecture have their own errors
        raise ValueError(
            f"the config.json of {name!r} does not fit its architecture: "
            f"{' '.join(str(error).split())} Fetch it again, or correct it."
        ) from error


def _check_task(name: str, config: Any) -> None:
    architectures = getattr(config, "architectures", None) or []
    if architectures and all(a.endswith(_OTHER_TASKS) for a in architectures):
        raise ValueError(_not_causal(name, config))
    known = {*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, ByteExpandedConfig.model_type}
    package = type(config).__module__.partition(".")[0]
    is_from_elsewhere = hasattr(config, "auto_map") or package not in ("transformers", "crosstok")
    if config.model_type not in known and not is_from_elsewhere:
        raise ValueError(_not_causal(name, config))


def _not_causal(name: str, config: Any) -> str:
    architectures = ", ".join(getattr(config, "architectures", None) or [config.model_type])
    return (
        f"model {name!r} is not a causal language model ({architectures}): it gives no "
        "probability of a next token. Choose a model for text generation (…ForCausalLM)."
    )


def _check_complete(name: str, model: Any, report: dict[str, Any]) -> None:
    missing = set(report.get("missing_keys") or ())
    settle_ties(name, model, missing)
    report = {**report, "missing_keys": missing}
    for kind in ("missing_keys", "mismatched_keys"):
        keys = sorted(str(key) for key in report.get(kind) or ())
        if keys:
            raise ValueError(
                f"model {name!r} is incomplete: {len(keys)} weights would be random "
                f"({kind.split('_')[0]}: {', '.join(keys[:3])}…). Save the whole causal language "
                "model (AutoModelForCausalLM), not its base model."
            )


def _why_not_found(name: str, error: BaseException) -> str:
    causes = [error]
    while causes[-1].__cause__ or causes[-1].__context__:
        causes.append(causes[-1].__cause__ or causes[-1].__context__)  # type: ignore[arg-type]
    if any(isinstance(cause, GatedRepoError) for cause in causes):
        return (
            f"model {name!r} is gated on the Hugging Face hub. Accept its conditions at "
            f"https://huggingface.co/{name}, then log in with `hf auth login`."
        )
    if any(isinstance(cause, RepositoryNotFoundError) for cause in causes):
        return (
            f"model {name!r} is neither a folder here nor a repository on the Hugging Face hub "
            "that you may read. Check the spelling; for a private repository, log in with "
            "`hf auth login`."
        )
    if Path(name).is_dir():
        return f"folder {name!r} has a config.json but no weights that load: {error}"
    return (
        f"model {name!r} is not a folder here, and it could not be fetched from the Hugging Face "
        "hub (no network, or offline mode). Give the path of a folder, or download it while "
        f"online: `hf download {name}`."
    )
