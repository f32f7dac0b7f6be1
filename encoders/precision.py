"""A loaded language model with fewer bits: half-precision weights, or 8-bit matrix products on a CPU."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from recworld.errors import UnavailableError

QMAX = 127


class Int8Linear(torch.nn.Module):
    """A linear layer with int8 weights, one scale to each output; activations of a batch share one, found as they come.

    Activations use 7 of the 8 bits: on CPUs without VNNI the sum of two products of 8 bits overflows its 16.
    """

    def __init__(self, linear: Any) -> None:
        super().__init__()
        weight = linear.weight.detach().float()  # (out, in)
        scale = (weight.abs().amax(dim=1) / QMAX).clamp(min=1e-12).double()
        zero = torch.zeros(len(scale), dtype=torch.int64)
        bias = None if linear.bias is None else linear.bias.detach().float()
        with warnings.catch_warnings():
            # torch says that these will be gone one day; then `quantize_linears` says so.
            warnings.simplefilter("ignore")
            packed = torch.quantize_per_channel(weight, scale, zero, 0, torch.qint8)
            self._packed = torch.ops.quantized.linear_prepack(packed, bias)

    def forward(self, inputs: Any) -> Any:
        """Return (..., out) float32 of (..., in) float32."""
        return torch.ops.quantized.linear_dynamic(inputs.contiguous(), self._packed, True)


def quantize_linears(module: Any) -> None:
    """Replace every linear layer of a float32 module on the CPU by one with 8-bit products, in place.

    Raises:
        UnavailableError: torch has no 8-bit products for this processor.
    """
    try:
        for parent in list(module.modules()):
            for name, child in list(parent.named_children()):
                if type(child) is torch.nn.Linear:
                    setattr(parent, name, Int8Linear(child))
    except (AttributeError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:120]
        raise UnavailableError(
            f"encoder.backend torch-int8: this torch has no 8-bit products here, use onnx-int8: {reason}"
        ) from error


def halve(module: Any, device: Any) -> Any:
    """Return a float32 module with float16 weights: computed with as they are on a GPU, in float32 on a CPU.

    CPUs without instructions for half precision are several times slower with it than with float32.
    """
    module = module.half()
    return module.float() if device.type == "cpu" else module
