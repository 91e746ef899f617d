# SPDX-License-Identifier: Apache-2.0
"""One errand at simulated tables: understand, find, stand before it, grasp, lift; or refuse.

What is simulated: tables, their objects and the gripper, in physics. The base is a circle that is
moved to where it was told to stand, and must meet no table and no wall; the arm is a reach around
it, and the gripper flies. Nothing is carried away: an errand ends when the thing was held up for
2 s.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

from lerf_ros.asked_map import AskedMap
from lerf_ros.config import GraspConfig
from lerf_ros.errors import EmptyTextError
from lerf_ros.query.answer import Answer
from lerf_ros.query.mapped_space import MappedSpace
from lerf_ros.query.request import QueryRequest
from lerf_ros.robot.known_space import KnownSpace
from lerf_ros.robot.stand_off import StandOff
from lerf_ros.simulation.scene import TabletopScene
from lerf_ros.task.bodies import body_of
from lerf_ros.task.ground import ROOM, Ground
from lerf_ros.task.table import SLIP, SUCCESS, WRONG, Table

ARM_REACH = 1.2         # metres from the middle of the base to the grasp, over the ground
BROUGHT, REFUSED = 'brought', 'refused'
NOT_FOUND = 'not_found'             # the thing is there, and the map did not find it
FOUND_ABSENT = 'found_absent'       # it is not there, and something else was found
NO_PLACE = 'no_place_to_stand'
COLLIDES = 'base_hits_something'
OUT_OF_REACH = 'out_of_reach'
NO_GRASP = 'no_grasp'
LIFTED = {SUCCESS: BROUGHT, WRONG: 'wrong_object', SLIP: 'slipped'}

VERBS = r'(bring|fetch|get|give|hand|pass|pick|take|lift|grab|find|show)'
ASKED = re.compile(
    r'^\s*(please\s+)?((can|could|would|will)\s+you\s+)?(please\s+)?(go\s+and\s+)?'
    rf'{VERBS}(\s+up)?(\s+(me|us))?\s+', re.IGNORECASE)
ARTICLE = re.compile(r'^(the|a|an|my|our|some)(\s+|$)', re.IGNORECASE)
POLITE = re.compile(r'(\s*,?\s*please)?\s*[.!?]*\s*$', re.IGNORECASE)


def phrase_of(task: str) -> str:
    """Returns the thing that a sentence such as "bring me the red mug" asks for.

    Raises EmptyTextError for a sentence that names none.
    """
    phrase = ARTICLE.sub('', ASKED.sub('', POLITE.sub('', task)).strip())
    if not phrase:
        raise EmptyTextError(f'{task!r} names no thing: say what to bring, such as "bring me the '
                             'red mug"')
    return phrase


@dataclass(frozen=True)
class Try:
    """How an errand ended.

    outcome: one of the names above. reason: in words, empty where it was brought. way: metres that
    the base drove; stood: metres from the thing's box to the middle of the base; NaN where it did
    not.
    """

    seed: int
    task: str
    phrase: str
    there: bool
    outcome: str
    reason: str = ''
    way: float = math.nan
    stood: float = math.nan

    @property
    def right(self) -> bool:
        """Returns whether a thing that is there was brought, or one that is not was refused."""
        return self.outcome == (BROUGHT if self.there else REFUSED)


class SimulatedHome:
    """Tables in a room in physics, with a map of it."""

    def __init__(self, scene: TabletopScene, query: AskedMap, hulls: Path,
                 ground: Ground = ROOM) -> None:
        """hulls: folder for the convex pieces of objects, which take seconds each once.

        ground: where tables and walls are.
        """
        self.scene, self.query, self.config, self.ground = scene, query, ground.robot, ground
        self.table = Table([body_of(thing, hulls) for thing in scene.objects], GraspConfig(),
                           ground.tables)
        self._known: tuple[MappedSpace, KnownSpace] | None = None

    def errand(self, task: str, target: int | None, rng: np.random.Generator) -> Try:
        """Does what a sentence asks for. target: the object that it means; None for an absent one.

        rng: draws where the base is at first.
        """
        phrase = phrase_of(task)
        answer = self.query.ask(QueryRequest(phrase))
        outcome, reason, stand = self._act(answer, target, rng)
        return Try(self.scene.seed, task, phrase, target is not None, outcome, reason, stand.way,
                   stand.distance)

    def _act(self, answer: Answer, target: int | None,
             rng: np.random.Generator) -> tuple[str, str, StandOff]:
        nowhere = StandOff(None)
        if not answer.hits:
            said = f'{answer.presence.name}: {answer.not_found_reason}'
            return (REFUSED if target is None else NOT_FOUND), said, nowhere
        x, y, z = answer.hits[0].position
        if target is None:
            return FOUND_ABSENT, f'taken for what stands at ({x:.2f}, {y:.2f}, {z:.2f})', nowhere
        space = self.space(answer.hits[0].position)
        stand = space.stand_off(answer.hits[0], self.start(space, rng))
        if stand.T_world_base is None:
            return NO_PLACE, stand.reason, stand
        place = stand.T_world_base[:2, 3]
        if met := self.ground.meets(place, self.config.base_radius):
            return COLLIDES, f'the base meets the {met}', stand
        if not answer.grasps:
            return NO_GRASP, answer.no_target_reason, stand
        away = np.array([np.linalg.norm(grasp.T_world_grasp[:2, 3] - place)
                         for grasp in answer.grasps])
        if away.min() > ARM_REACH:
            return (OUT_OF_REACH, f'{away.min():.2f} m from the base, the arm has {ARM_REACH} m',
                    stand)
        grasp = answer.grasps[int((away <= ARM_REACH).argmax())]    # the best that can be reached
        kind = LIFTED[self.table.grasp(grasp, target).kind]
        return kind, '' if kind == BROUGHT else 'the gripper closed and lifted', stand

    def space(self, around: np.ndarray) -> KnownSpace:
        """Returns what the map knows of the space around a place (3,), computed anew where needed.
        """
        mapped = self.query.mapped_space(around)
        if self._known is None or self._known[0] is not mapped:
            self._known = mapped, KnownSpace.on(mapped, self.config)
        return self._known[1]

    def start(self, space: KnownSpace, rng: np.random.Generator) -> np.ndarray | None:
        """Returns T_world_base (4, 4) at a random free place; None where none is known."""
        floor = space.floor
        free = np.zeros((0, 2), int) if floor is None else np.argwhere(
            floor.fits(self.config.base_radius + self.config.clearance))
        if floor is None or not len(free):
            return None
        T = np.eye(4)
        T[:2, 3] = floor.centers()[tuple(free[int(rng.integers(len(free)))])]
        T[2, 3] = floor.height
        return T


def results(tries: Sequence[Try], encoder: str, fallen: Sequence[str]) -> dict[str, object]:
    """Returns the content of task.json: counts, Wilson 95 % intervals, failures by name."""
    there, absent = ([t for t in tries if t.there is kind] for kind in (True, False))
    brought, refused = (sum(t.right for t in part) for part in (there, absent))
    return {
        'tries': len(there), 'success': brought, 'success_wilson_95': wilson(brought, len(there)),
        'absent_asked': len(absent), 'refused_rightly': refused,
        'refused_wilson_95': wilson(refused, len(absent)),
        'failures': dict(Counter(t.outcome for t in tries if not t.right).most_common()),
        'left_out_because_fallen': list(fallen), 'encoder': encoder, 'arm_reach_m': ARM_REACH,
        'errands': [{name: None if isinstance(value, float) and math.isnan(value) else value
                     for name, value in asdict(t).items()} for t in tries]}


def wilson(successes: int, count: int) -> list[float]:
    """Returns the Wilson interval of a proportion at 95 %, 0 to 1 without any try."""
    if not count:
        return [0.0, 1.0]
    low, high = binomtest(successes, count).proportion_ci(method='wilson')
    return [round(float(low), 4), round(float(high), 4)]
