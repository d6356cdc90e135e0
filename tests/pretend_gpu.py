"""A pretend accelerator: tensors that say ``cuda:0``, hold data of the CPU, and mix as torch mixes.

`pretend_gpu()` is a context in which ``device="cuda:0"`` works without one. An operation on tensors
of both devices raises what torch raises there; so do ``numpy()`` and a generator of the CPU.
In C++ the tensors are on ``meta:0``, a device that every build of torch has and autograd can use.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import accelerate.state
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

GPU = torch.device("cuda:0")
_IN_CPP = torch.device("meta:0")
_CPU = torch.device("cpu")
_aten: Any = torch.ops.aten

# Operations that take tensors of any devices.
_COPIES = {"copy_", "copy", "_to_copy", "to", "_foreach_copy_"}
# The indices of a tensor on a GPU may be on the CPU.
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
# They bring scalars of the CPU to the device themselves, so any number of them may come.
_MOVES_SCALARS = {"where", "fill_", "fill", "masked_fill", "masked_fill_", "index_fill_"}
# Not of whole numbers on a GPU.
_MATRIX = {"mm", "bmm", "addmm", "baddbmm", "addmv", "mv", "dot"}


class OnGpu(Tensor):
    """A tensor whose data lies elsewhere than its device says."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]
    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "OnGpu":
        wrapper = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=_IN_CPP,
        )
        wrapper.held = held
        return wrapper

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _dispatch(function, args, kwargs or {})

    device = property(lambda self: GPU)
    is_cuda = property(lambda self: True)
    is_meta = property(lambda self: False)
    is_cpu = property(lambda self: False)

    @property
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        Tensor.data.__set__(self, value)  # type: ignore[attr-defined]
        self.held = value.held  # type: ignore[attr-defined]

    def get_device(self) -> int:
        return 0

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        """Nothing to do where the device is this one."""
        copy = kwargs.pop("copy", False)
        device, dtype, non_blocking, layout = torch._C._nn._parse_to(*args, **kwargs)
        target = {} if device is None or _is_gpu(device) else {"device": device}
        return super().to(
            dtype=dtype or self.dtype,
            copy=copy,
            non_blocking=non_blocking,
            memory_format=layout or torch.preserve_format,
            **target,
        )

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor "
            "to host memory first."
        )

    __array__ = numpy

    def new_tensor(self, data: Any, **options: Any) -> Any:
        return torch.tensor(data, **{"device": GPU, "dtype": self.dtype, **options})

    def tolist(self) -> Any:
        return self.held.tolist()

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.held.untyped_storage()

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            copy: Tensor = OnGpu(self.held.detach().clone()).requires_grad_(self.requires_grad)
            copy.__dict__.update({k: v for k, v in vars(self).items() if k != "held"})
            memo[id(self)] = copy
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.held.__reduce_ex__(protocol)

    def __repr__(self, **_: Any) -> str:
        return f"OnGpu({self.held})"


class _PretendGpu(TorchDispatchMode):
    """Sees what makes tensors out of none."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return _dispatch(function, args, kwargs or {})


@contextmanager
def pretend_gpu() -> Iterator[torch.device]:
    """Give the pretend device to torch and to transformers' trainer, for as long as this lasts."""
    swap = torch.__future__.get_swap_module_params_on_conversion()
    with pytest.MonkeyPatch.context() as patch, _PretendGpu():
        patch.setattr(torch.cuda, "_lazy_init", lambda: None)
        patch.setattr(torch.cuda, "set_device", lambda *_: None)
        patch.setattr(torch.cuda, "synchronize", lambda *_: None)
        patch.setattr(torch.cuda, "reset_peak_memory_stats", lambda *_: None)
        patch.setattr(torch.cuda, "max_memory_allocated", lambda *_: 0)
        patch.setattr(torch.cuda, "get_device_name", lambda *_: "pretend")
        patch.setattr(torch.accelerator, "is_available", lambda: True)
        patch.setattr(torch.accelerator, "current_accelerator", lambda *_, **__: GPU)
        for name in ("tensor", "as_tensor"):  # in C++ they move what they made past every mode
            patch.setattr(torch, name, _made_on_cpu_first(getattr(torch, name)))
        patch.setattr(torch, "load", _loaded_to_cpu(torch.load))
        check = "_accelerator_graph_capture_health_check"  # of torch.optim, where it has one
        patch.setattr(torch.optim.Optimizer, check, lambda _: None, raising=False)
        patch.setenv("ACCELERATE_TORCH_DEVICE", str(GPU))
        torch.__future__.set_swap_module_params_on_conversion(True)  # parameters stay themselves
        accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
        try:
            yield GPU
        finally:
            accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
            torch.__future__.set_swap_module_params_on_conversion(swap)


def _made_on_cpu_first(make: Any) -> Any:
    def made(data: Any, *, device: Any = None, requires_grad: bool = False, **options: Any) -> Any:
        tensor = data.detach().to(**options) if isinstance(data, OnGpu) else make(data, **options)
        return (tensor if device is None else tensor.to(device)).requires_grad_(requires_grad)

    return made


def _loaded_to_cpu(load: Any) -> Any:
    """The optimizer moves its own state."""

    def loaded(*args: Any, map_location: Any = None, **options: Any) -> Any:
        place = _CPU if isinstance(map_location, torch.device | str) else map_location
        return load(*args, map_location=place, **options)

    return loaded


def _is_gpu(device: torch.device | str) -> bool:
    device = torch.device(device)
    return device.type == "cuda" or device == _IN_CPP


def _dispatch(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run on the data, and give the result the device that it has on a machine with a GPU."""
    if function is _aten._fused_sdp_choice.default:
        return 0  # the plain one: the others are written for one device
    leaves = tree_leaves((args, kwargs))
    given = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    devices = [leaf for leaf in leaves if isinstance(leaf, torch.device)]
    on_gpu = _is_gpu(devices[0]) if devices else any(isinstance(x, OnGpu) for x in given)
    _check(function, args, given)
    _check_generators(function, leaves, on_gpu)
    if on_gpu and function.overloadpacket.__name__ in _MATRIX and not given[0].is_floating_point():
        raise RuntimeError(f'"{function}_cuda" not implemented for {given[0].dtype}')
    outcome = function(*tree_map(_lower, args), **tree_map(_lower, kwargs))
    if devices and given:  # a copy, also where the data lie on the CPU anyway
        held = {id(_lower(tensor)) for tensor in given}
        outcome = tree_map(lambda x: x.clone() if id(x) in held else x, outcome)
    known = {id(_lower(tensor)): tensor for tensor in given}

    def lift(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return known.get(id(value)) if id(value) in known else OnGpu(value) if on_gpu else value

    return tree_map(lift, outcome)


def _lower(value: Any) -> Any:
    if isinstance(value, torch.device):
        return _CPU if _is_gpu(value) else value
    return value.held if isinstance(value, OnGpu) else value


def _check(function: Any, args: Any, given: list[Tensor]) -> None:
    """Raise if tensors of two devices are mixed where torch does not mix them."""
    name = function.overloadpacket.__name__
    strangers = [x for x in given if not isinstance(x, OnGpu) and x.device == _CPU]
    if not strangers or len(strangers) == len(given) or name in _COPIES:
        return
    first_is_on_gpu = isinstance(args[0], OnGpu)
    if name in _INDEXING and first_is_on_gpu:
        strangers = [x for x in strangers if not any(x is index for index in args[1])]
    scalars_may_mix = name in _MOVES_SCALARS | _INDEXING or torch.Tag.pointwise in function.tags
    is_written = function._schema.is_mutable and not first_is_on_gpu
    too_many = len(strangers) > 1 and name not in _MOVES_SCALARS
    if any(x.ndim for x in strangers) or (
        strangers and (not scalars_may_mix or is_written or too_many)
    ):
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"cuda:0 and cpu! ({function}, shapes {[list(x.shape) for x in given]})"
        )


def _check_generators(function: Any, leaves: list[Any], on_gpu: bool) -> None:
    if on_gpu and any(isinstance(x, torch.Generator) and x.device == _CPU for x in leaves):
        raise RuntimeError(
            f"Expected a 'cuda' device type for generator but found 'cpu' ({function})"
        )
