# SPDX-License-Identifier: Apache-2.0
"""Perceptrons that run in the native kernel on a CPU, and in plain torch everywhere else."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lerf_ros.field.native_kernel import load_kernel


class Perceptron(nn.Sequential):
    """Linear layers with ReLU between them; parameters and their names are nn.Sequential's."""

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (..., outputs) of inputs (..., inputs)."""
        parameters = list(self.parameters())
        if not _native(x, parameters):
            return super().forward(x)
        flat = x.reshape(-1, x.shape[-1]).contiguous()
        out = _NativePerceptron.apply(flat, *parameters)
        return out.reshape(*x.shape[:-1], out.shape[-1])


def _native(x: Tensor, parameters: list[nn.Parameter]) -> bool:
    """Whether the kernel serves: single precision on a CPU, and a kernel at hand."""
    return (all(p.device.type == 'cpu' and p.dtype == torch.float32 for p in (x, *parameters))
            and not torch.is_autocast_enabled('cpu') and load_kernel() is not None)


class _NativePerceptron(torch.autograd.Function):

    @staticmethod
    def forward(ctx, x, *parameters):  # type: ignore[no-untyped-def, override]
        ctx.save_for_backward(x, *parameters)
        out = x.new_empty(len(x), len(parameters[-1]))
        kernel = load_kernel()
        assert kernel is not None
        kernel.perceptron_forward(*_shape(x, parameters), _address(out))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):  # type: ignore[no-untyped-def, override]
        x, *parameters = ctx.saved_tensors
        grad_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        gradients = [torch.zeros_like(p) for p in parameters]
        grad = grad.contiguous()
        kernel = load_kernel()
        assert kernel is not None
        kernel.perceptron_backward(
            *_shape(x, parameters), _address(grad), None if grad_x is None else _address(grad_x),
            _addresses(gradients))
        return grad_x, *gradients


def _shape(x: Tensor, parameters: Any) -> tuple[Any, ...]:
    """The kernel's first arguments: inputs, rows, layers, widths, parameters."""
    widths = [x.shape[1], *(len(bias) for bias in parameters[1::2])]
    return (_address(x), ctypes.c_int64(len(x)), ctypes.c_int(len(widths) - 1),
            (ctypes.c_int64 * len(widths))(*widths), _addresses(parameters))


def _address(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _addresses(tensors: Any) -> Any:
    return (ctypes.c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))
