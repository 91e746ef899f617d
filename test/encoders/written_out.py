# SPDX-License-Identifier: Apache-2.0
"""Vision transformers written out by hand, from tensors alone: what dense maps are held against.

Nothing here calls a layer of the model; every function takes its weights by name.
"""

import math

import torch
from torch.nn.functional import gelu, interpolate, layer_norm


def linear(x, weights, name):
    """x W^T + b; a layer may have no bias."""
    out = x @ weights[f'{name}.weight'].T
    return out + weights[f'{name}.bias'] if f'{name}.bias' in weights else out


def norm(x, weights, name, eps):
    return layer_norm(x, x.shape[-1:], weights[f'{name}.weight'], weights[f'{name}.bias'], eps)


def patches_of(pixels, weights, name, patch):
    """Each patch (P, C) as the product of its pixels (channel, row, column) with the filter."""
    rows, cols = (side // patch for side in pixels.shape[-2:])
    cut = pixels[0].reshape(3, rows, patch, cols, patch).permute(1, 3, 0, 2, 4)
    filters = weights[f'{name}.weight'].flatten(1)
    out = cut.reshape(rows * cols, -1) @ filters.T
    return out + weights[f'{name}.bias'] if f'{name}.bias' in weights else out


def resampled(table, own, rows, cols, mode='bicubic'):
    """A table of positions (own * own, C) at a grid of rows x cols, (rows * cols, C)."""
    grid = table.reshape(1, own, own, -1).permute(0, 3, 1, 2)
    if (rows, cols) != (own, own):
        grid = interpolate(grid, (rows, cols), mode=mode, align_corners=False, antialias=True)
    return grid[0].flatten(1).T


def attention(query, key, value, heads, rotation=None, own_only=False):
    """Softmax attention of tokens (L, C), head by head; own_only masks all but the token itself."""
    size = query.shape[1] // heads
    out = torch.zeros(len(query), heads * size)
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        q, k, v = query[:, part], key[:, part], value[:, part]
        if rotation is not None:
            q, k = rotation(q), rotation(k)
        logits = q @ k.T / math.sqrt(size)
        if own_only:
            logits = torch.where(torch.eye(len(q), dtype=torch.bool), logits, -torch.inf)
        out[:, part] = torch.softmax(logits, -1) @ v
    return out


def block(x, weights, name, heads, eps, rotation=None, own_only=False):
    """A pre-norm block of timm: x + attention, then x + MLP; layer scales where there are any."""
    inputs = norm(x, weights, f'{name}.norm1', eps)
    if f'{name}.attn.qkv.weight' in weights:
        parts = linear(inputs, weights, f'{name}.attn.qkv').chunk(3, -1)
    else:
        parts = [linear(inputs, weights, f'{name}.attn.{part}_proj') for part in 'qkv']
    mixed = attention(*parts, heads, rotation, own_only)
    x = x + linear(mixed, weights, f'{name}.attn.proj') * weights.get(f'{name}.ls1.gamma', 1)
    inner = gelu(linear(norm(x, weights, f'{name}.norm2', eps), weights, f'{name}.mlp.fc1'))
    return x + linear(inner, weights, f'{name}.mlp.fc2') * weights.get(f'{name}.ls2.gamma', 1)


def value_path(x, weights, name, eps):
    """What is left of timm's pooling by attention of one token: v, projection, MLP."""
    width = x.shape[1]
    value = x @ weights[f'{name}.kv.weight'][width:].T + weights[f'{name}.kv.bias'][width:]
    out = linear(value, weights, f'{name}.proj')
    inner = gelu(linear(norm(out, weights, f'{name}.norm', eps), weights, f'{name}.mlp.fc1'))
    return out + linear(inner, weights, f'{name}.mlp.fc2')


def rotation_of(rows, cols, own, size, prefix):
    """The Perception Encoder's rotation of a head's rows (L, size): x first, then y.

    A patch lies at (index + 1) / count * own along each axis, so that another image size covers
    the same coordinates; frequencies fall from 1 to 1/10000.
    """
    bands = 1 / 10000 ** (torch.arange(size // 4) / (size // 4))
    angles = torch.zeros(rows * cols, size // 2)
    for i in range(rows):
        for j in range(cols):
            x, y = ((j + 1) / cols * own, (i + 1) / rows * own)
            angles[i * cols + j] = torch.cat([x * bands, y * bands])

    def rotate(head):
        even, odd = head[prefix:, 0::2], head[prefix:, 1::2]
        turned = torch.stack([even * angles.cos() - odd * angles.sin(),
                              odd * angles.cos() + even * angles.sin()], -1)
        return torch.cat([head[:prefix], turned.flatten(1)])
    return rotate
