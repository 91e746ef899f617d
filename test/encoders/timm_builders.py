# SPDX-License-Identifier: Apache-2.0
"""Image towers with random weights from their real configurations, without any download."""

import copy
import functools
from types import SimpleNamespace

import pytest
import torch
from torch import nn


def vision_config(name):
    """open_clip's own description of a model's image tower, and the length of its embedding."""
    open_clip = pytest.importorskip('open_clip', reason='extra `openclip` is missing')
    config = open_clip.get_model_config(name)
    return config['vision_cfg'], config['embed_dim']


def real_tower(name):
    """The image tower of an open_clip model, as open_clip builds it."""
    from open_clip.timm_model import TimmModel
    vision, dimension = vision_config(name)
    torch.manual_seed(0)
    return TimmModel(vision['timm_model_name'], dimension, vision['image_size'],
                     pool=vision['timm_pool'], proj=vision['timm_proj']).eval()


def short_tower(name, depth=2):
    """The same network with fewer blocks, which are otherwise those of the model."""
    vision, dimension = vision_config(name)
    trunk = short_trunk(vision['timm_model_name'], depth, vision['timm_pool'],
                        0 if vision['timm_proj'] == 'none' else dimension)
    side = vision['image_size']
    return SimpleNamespace(trunk=copy.deepcopy(trunk), head=nn.Sequential(),
                           image_size=(side, side))


@functools.cache
def short_trunk(name, depth, pool, features):
    """A network of timm with lively weights; its own slow initialisation is left out."""
    import timm
    with torch.device('meta'):
        trunk = timm.create_model(name, num_classes=features, depth=depth, global_pool=pool)
    trunk = lively(trunk.to_empty(device='cpu')).eval()
    for module in trunk.modules():
        if hasattr(module, 'init_non_persistent_buffers'):
            module.init_non_persistent_buffers()
        if hasattr(module, 'reset_running_stats'):
            module.reset_running_stats()
    return trunk


def lively(model, seed=0):
    """Random weights under which every part matters: initial ones are near zero in places."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                fan_in = 4 if weight.ndim == 3 else weight[0].numel()
                weight.normal_(0, 1.5 / fan_in ** 0.5, generator=generator)
            else:
                weight.normal_(1 if name.endswith(('weight', 'gamma', 'lambda1')) else 0, 0.2,
                               generator=generator)
    return model


def random_pixels(height, width, seed=1):
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(seed))
