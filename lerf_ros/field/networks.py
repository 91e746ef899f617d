# SPDX-License-Identifier: Apache-2.0
"""The small parts that the fields are made of: perceptrons, exp, harmonics, appearance."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lerf_ros.field.native_kernel import load_kernel


def network(inputs: int, hidden: int, layers: int, outputs: int) -> Perceptron:
    """Makes a perceptron with `layers` hidden layers of `hidden` units and ReLU."""
    parts: list[nn.Module] = []
    for _ in range(layers):
        parts += [nn.Linear(inputs, hidden), nn.ReLU()]
        inputs = hidden
    return Perceptron(*parts, nn.Linear(inputs, outputs))


class Perceptron(nn.Sequential):
    """Linear layers with ReLU between them, in the native kernel where it serves.

    Parameters and their names are those of nn.Sequential.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Computes outputs (..., outputs) of inputs (..., inputs)."""
        parameters = list(self.parameters())
        if not _native(x, parameters):
            return super().forward(x)
        flat = x.reshape(-1, x.shape[-1]).contiguous()
        out = _NativePerceptron.apply(flat, *parameters)
        return out.reshape(*x.shape[:-1], out.shape[-1])


def _native(x: Tensor, parameters: list[nn.Parameter]) -> bool:
    """Returns whether the kernel serves: single precision on a CPU, where it could be built."""
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


def _shape(x: Tensor, parameters: Sequence[Tensor]) -> tuple[object, ...]:
    """Returns the kernel's first arguments: inputs, rows, layers, widths, parameters."""
    widths = [x.shape[1], *(len(bias) for bias in parameters[1::2])]
    return (_address(x), ctypes.c_int64(len(x)), ctypes.c_int(len(widths) - 1),
            (ctypes.c_int64 * len(widths))(*widths), _addresses(parameters))


def _address(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _addresses(tensors: Sequence[Tensor]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))


class _TruncatedExp(torch.autograd.Function):
    """exp with its gradient clamped at exp(15) (instant-ngp)."""

    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def, override]
        ctx.save_for_backward(x)
        return torch.exp(x.clamp(max=15))

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def, override]
        (x,) = ctx.saved_tensors
        return grad * torch.exp(x.clamp(-15, 15))


def truncated_exp(x: Tensor) -> Tensor:
    """Computes exp(x) in single precision, whatever the networks compute in; at most exp(15)."""
    return _TruncatedExp.apply(x.float())


def spherical_harmonics(directions: Tensor, levels: int = 4) -> Tensor:
    """Computes real spherical harmonics (R, levels ** 2), levels 1 to 4, of directions (R, 3)."""
    x, y, z = directions.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    return torch.stack([
        torch.full_like(x, 0.28209479), -0.48860251 * y, 0.48860251 * z, -0.48860251 * x,
        1.09254843 * x * y, -1.09254843 * y * z, 0.31539157 * (3 * zz - 1), -1.09254843 * x * z,
        0.54627422 * (xx - yy), -0.59004359 * y * (3 * xx - yy), 2.89061144 * x * y * z,
        -0.45704580 * y * (5 * zz - 1), 0.37317633 * z * (5 * zz - 3),
        -0.45704580 * x * (5 * zz - 1), 1.44530572 * z * (xx - yy),
        -0.59004359 * x * (xx - 3 * yy)][:levels ** 2], -1)


class Appearance(nn.Module):
    """A learned vector for each keyframe row, for its exposure and white balance (nerfacto).

    Rows are filled as keyframes come: a new one starts at the mean of those in use, which is also
    what any other picture gets.
    """

    count: Tensor

    def __init__(self, rows: int, dimension: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(rows, dimension))
        self.register_buffer('count', torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def start_row(self, row: int) -> None:
        """Sets the row of a new keyframe to the mean; ValueError where there is no such row."""
        if row >= len(self.table):
            raise ValueError(f'all {len(self.table)} appearance rows are taken: '
                             'raise keyframes.max_count')
        self.table[row] = self.mean()
        self.count.clamp_(min=row + 1)

    @torch.no_grad()
    def keep_rows(self, kept: Tensor, present: int) -> None:
        """Makes the rows `kept` (K,) the first ones and starts more, up to `present` rows."""
        self.table[:len(kept)] = self.table[kept.to(self.table.device)].clone()
        self.count.fill_(len(kept))
        for row in range(len(kept), present):
            self.start_row(row)

    def mean(self) -> Tensor:
        """Returns the mean (dimension,) of the rows in use, zeros before the first."""
        return self.table[:int(self.count)].sum(0) / self.count.clamp_min(1)

    def forward(self, keyframe: Tensor | None, rays: int) -> Tensor:
        """Returns vectors (rays, dimension) of keyframe rows (rays,), or the mean without rows."""
        if keyframe is None:
            return self.mean().expand(rays, -1)
        return self.table[keyframe]
