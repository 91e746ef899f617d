# SPDX-License-Identifier: Apache-2.0
"""Phrases for things that are never in a simulated scene."""

from __future__ import annotations

import numpy as np

from lerf_ros.errors import LerfError
from lerf_ros.simulation.scene import TabletopScene

# Common things that are no neighbours in meaning of what the catalogue holds. Phrases that the
# offline encoder sees in single views of such scenes (relevancy above 0.76 in any of 96 views of
# seeds 0 to 4; for example dog, sofa, curtain, elephant, snake) were left out.
ABSENT: tuple[str, ...] = (
    'airplane', 'ambulance', 'ant', 'axe', 'bee', 'bench', 'bicycle', 'bride', 'bridge',
    'bulldozer', 'camel', 'cannon', 'castle', 'cathedral', 'cow', 'crane truck', 'crocodile',
    'desert', 'dinosaur', 'dolphin', 'donkey', 'eagle', 'escalator', 'excavator',
    'ferris wheel', 'fire truck', 'flamingo', 'forest', 'giraffe', 'hammock', 'helicopter',
    'hippopotamus', 'ladder', 'lighthouse', 'motorcycle', 'octopus', 'owl', 'peacock',
    'penguin', 'person', 'rocket', 'scarecrow', 'seashore', 'ship', 'skateboard', 'sled',
    'snowman', 'submarine', 'suspension bridge', 'swimming pool', 'tank', 'taxi', 'tortoise',
    'tractor', 'tram', 'tree', 'volcano', 'waterfall', 'wheelchair', 'windmill', 'zebra',
)


def draw_absent(seed: int, count: int, scene: TabletopScene) -> list[str]:
    """`count` different phrases for things that the scene does not hold, drawn from the list."""
    present = {word for o in scene.objects for word in (o.name, o.query)}
    phrases = [phrase for phrase in ABSENT if phrase not in present]
    if count > len(phrases):
        raise LerfError(f'{count} absent phrases asked for, {len(phrases)} are known')
    rng = np.random.default_rng([seed, 22])
    return [phrases[i] for i in rng.permutation(len(phrases))[:count]]
