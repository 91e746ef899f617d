# SPDX-License-Identifier: Apache-2.0
"""The catalogue: every kind of object that a scene may hold."""

from __future__ import annotations

from lerf_ros.simulation import objects_balls as balls
from lerf_ros.simulation import objects_desk as desk
from lerf_ros.simulation import objects_food as food
from lerf_ros.simulation import objects_games as games
from lerf_ros.simulation import objects_kitchen as kitchen
from lerf_ros.simulation import objects_tools as tools
from lerf_ros.simulation.models import Kind

# The second word is the group: the offline encoder takes what shares one for each other.
CATALOGUE: tuple[Kind, ...] = (
    Kind('wine bottle', 'bottle', kitchen.wine_bottle),
    Kind('coffee mug', 'crockery', kitchen.coffee_mug),
    Kind('teapot', 'crockery', kitchen.teapot),
    Kind('coffeepot', 'crockery', kitchen.coffeepot),
    Kind('frying pan', 'tool', kitchen.frying_pan),
    Kind('hammer', 'tool', tools.hammer),
    Kind('screwdriver', 'tool', tools.screwdriver),
    Kind('candle', 'lamp', kitchen.candle),
    Kind('table lamp', 'lamp', tools.table_lamp),
    Kind('umbrella', 'lamp', games.umbrella),
    Kind('hourglass', 'clock', kitchen.hourglass),
    Kind('wall clock', 'clock', tools.wall_clock),
    Kind('toaster', 'toaster', kitchen.toaster),
    Kind('bucket', 'bucket', kitchen.bucket),
    Kind('keyboard', 'computer', desk.keyboard),
    Kind('laptop', 'computer', desk.laptop),
    Kind('computer mouse', 'computer', desk.computer_mouse),
    Kind('remote control', 'computer', desk.remote_control),
    Kind('tennis ball', 'ball', balls.tennis_ball),
    Kind('soccer ball', 'ball', balls.soccer_ball),
    Kind('basketball', 'ball', balls.basketball),
    Kind('teddy bear', 'teddy bear', games.teddy_bear),
    Kind('traffic light', 'traffic light', games.traffic_light),
    Kind('piggy bank', 'piggy bank', games.piggy_bank),
    Kind('acoustic guitar', 'instrument', games.guitar),
    Kind('drum', 'instrument', games.drum),
    Kind('banana', 'fruit', food.banana),
    Kind('pineapple', 'fruit', food.pineapple),
    Kind('bell pepper', 'vegetable', food.bell_pepper),
    Kind('pumpkin', 'vegetable', games.pumpkin_lantern),
    Kind('corn', 'vegetable', food.corn),
    Kind('pretzel', 'bread', food.pretzel),
    Kind('bagel', 'bread', food.bagel),
    Kind('pizza', 'pizza', food.pizza),
    Kind('dumbbell', 'dumbbell', tools.dumbbell),
    Kind('toilet paper', 'toilet paper', tools.toilet_paper),
)
