# SPDX-License-Identifier: Apache-2.0
"""Names of everyday things, to ask a map for things that are there and things that are not.

LERF judges existence with two lists per scene, the labels of COCO and a long tail of its own.
"""

from __future__ import annotations

# The 80 classes of COCO's detection task.
COCO_NAMES: tuple[str, ...] = (
    'person', 'bicycle', 'car', 'motorcycle', 'airplane', 'bus', 'train', 'truck', 'boat',
    'traffic light', 'fire hydrant', 'stop sign', 'parking meter', 'bench', 'bird', 'cat', 'dog',
    'horse', 'sheep', 'cow', 'elephant', 'bear', 'zebra', 'giraffe', 'backpack', 'umbrella',
    'handbag', 'tie', 'suitcase', 'frisbee', 'skis', 'snowboard', 'sports ball', 'kite',
    'baseball bat', 'baseball glove', 'skateboard', 'surfboard', 'tennis racket', 'bottle',
    'wine glass', 'cup', 'fork', 'knife', 'spoon', 'bowl', 'banana', 'apple', 'sandwich',
    'orange', 'broccoli', 'carrot', 'hot dog', 'pizza', 'donut', 'cake', 'chair', 'couch',
    'potted plant', 'bed', 'dining table', 'toilet', 'tv', 'laptop', 'mouse', 'remote',
    'keyboard', 'cell phone', 'microwave', 'oven', 'toaster', 'sink', 'refrigerator', 'book',
    'clock', 'vase', 'scissors', 'teddy bear', 'hair drier', 'toothbrush',
)

# Rarer and more specific things of a kitchen, a desk, a workshop, a garden and the road.
LONG_TAIL_NAMES: tuple[str, ...] = (
    'accordion', 'alarm clock', 'anchor', 'baking tray', 'balance scale', 'ballpoint pen',
    'bamboo steamer', 'beehive', 'birdcage', 'bonsai tree', 'bow tie', 'bread knife', 'bucket',
    'cactus in a pot', 'calculator', 'candle holder', 'can of paint', 'canoe paddle',
    'cardboard box', 'cello', 'cheese grater', 'chess piece', 'chisel', 'christmas wreath',
    'cinnamon stick', 'claw hammer', 'clothes hanger', 'coconut', 'coffee grinder', 'compass',
    'concrete mixer', 'corkscrew', 'cotton swab', 'crossbow', 'crystal ball', 'cuckoo clock',
    'deck of cards', 'desk fan', 'dish sponge', 'doorbell', 'drum kit', 'dustpan', 'egg timer',
    'electric drill', 'feather duster', 'fire extinguisher', 'fishing rod', 'flashlight', 'flute',
    'folding ladder', 'garden hose', 'gas mask', 'globe', 'golf club', 'grandfather clock',
    'hammock', 'hand saw', 'harmonica', 'harp', 'hearing aid', 'horseshoe', 'hourglass',
    'ice cream cone', 'inkwell', 'iron for clothes', 'jar of honey', 'jigsaw puzzle',
    'juggling pin', 'key ring', 'knitting needles', 'lantern', 'lawn mower', 'lemon squeezer',
    'lipstick', 'magnifying glass', 'measuring tape', 'metronome', 'microscope', 'music box',
    'nail clipper', 'newspaper', 'nutcracker', 'oil lamp', 'origami crane', 'padlock',
    'paint roller', 'paper lantern', 'parachute', 'pencil sharpener', 'perfume bottle',
    'pine cone', 'pinwheel', 'pocket watch', 'pressure cooker', 'rolling pin', 'rubber duck',
    'saxophone', 'sewing machine', 'shower head', 'snow globe', 'soap dispenser', 'spinning top',
    'stapler', 'stethoscope', 'sundial', 'telescope', 'thermometer', 'totem pole', 'trumpet',
    'typewriter', 'tyre swing', 'violin', 'walking stick', 'watering can', 'weather vane',
    'whisk', 'wind chime', 'wok', 'xylophone', 'yarn ball',
)

EVERYDAY_NAMES: tuple[str, ...] = COCO_NAMES + LONG_TAIL_NAMES
