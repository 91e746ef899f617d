# SPDX-License-Identifier: Apache-2.0
"""An RViz configuration whose view shows the map at hand, wherever it lies and however large it is.

rviz/lerf.rviz is this configuration with the view of the demo's table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from scipy.spatial import cKDTree

from lerf_ros.errors import NoSnapshotError
from lerf_ros.storage.map_directory import MapDirectory
from lerf_ros.storage.output_folder import OutputFolder

Settings = dict[str, object]

PITCH, YAW = 0.5, 0.8           # radians: from above, and from a corner
FIELD_OF_VIEW_DEG = 45.0        # of RViz, upwards; its window is at least as wide as high
# Of the points, at each end along each axis, that decide nothing: walls far behind the things.
SHARE = 0.2
# Times the distance at which the others just fit; an even map without a background fits as a whole.
MARGIN = 1.1 / (1 - 2 * SHARE)
SAMPLE = 4000                   # points whose distance from the next one is measured
SPREAD = 1.2                    # times that distance: squares leave no gaps
LEAST_SIZE = 1e-3
IMAGE_TOPIC = '/camera/color/image_raw'


@dataclass(frozen=True)
class View:
    """What RViz looks at: focus (3,) and distance from it, map units; spacing of the points."""

    focus: tuple[float, float, float]
    distance: float
    spacing: float

    @classmethod
    def of(cls, points: np.ndarray) -> View:
        """Returns the view of points (N, 3), map frame; of a unit cube where there is none."""
        if not len(points):
            points = np.array([[-0.5] * 3, [0.5] * 3])
        low, high = np.quantile(points, (SHARE, 1 - SHARE), axis=0)
        radius = max(float(np.linalg.norm(high - low)) / 2, LEAST_SIZE)
        x, y, z = ((low + high) / 2).round(4).tolist()
        distance = MARGIN * radius / math.sin(math.radians(FIELD_OF_VIEW_DEG) / 2)
        return cls((x, y, z), round(distance, 4), round(spacing(points), 5))

    @property
    def eye(self) -> np.ndarray:
        """Where it is seen from (3,)."""
        away = [math.cos(YAW) * math.cos(PITCH), math.sin(YAW) * math.cos(PITCH), math.sin(PITCH)]
        return np.array(self.focus) + self.distance * np.array(away)


# The demo's table, 0.75 m high, from every side.
DEMO = View((0.0, 0.0, 0.75), 2.5, 0.01)


def spacing(points: np.ndarray) -> float:
    """Returns the median distance of points (N, 3) from the next one, at least LEAST_SIZE."""
    if len(points) < 2:
        return LEAST_SIZE
    asked = points[::max(1, len(points) // SAMPLE)]
    return max(float(np.median(cKDTree(points).query(asked, k=2)[0][:, 1])), LEAST_SIZE)


def map_view(map_directory: Path) -> tuple[View, str]:
    """Returns the view of a map's newest snapshot, and the map frame.

    Raises NoSnapshotError where there is none, and MapUnreadableError.
    """
    directory = MapDirectory(map_directory)
    snapshot = directory.newest() if directory.exists() else None
    if snapshot is None:
        raise NoSnapshotError(f'{map_directory} holds no snapshot yet: there is nothing to look at')
    return View.of(snapshot.arrays('index')['points_world']), str(directory.meta()['frame_id'])


def write_configuration(path: Path, view: View, frame_id: str = 'map', namespace: str = '',
                        image_topic: str = IMAGE_TOPIC) -> None:
    """Writes a configuration for `rviz2 -d`. namespace: of the nodes.

    Raises OSError, and ForeignFolderError where somebody has changed it since: RViz saves there.
    """
    with OutputFolder(path.parent).file(path.name) as file:
        file.write_text(yaml.safe_dump(configuration(view, frame_id, namespace, image_topic),
                                       sort_keys=False))


def configuration(view: View, frame_id: str = 'map', namespace: str = '',
                  image_topic: str = IMAGE_TOPIC) -> Settings:
    """Returns the configuration. namespace: in front of the names of our topics."""
    prefix = f'{namespace.rstrip("/")}/lerf'
    x, y, z = view.focus
    return {
        'Panels': [{'Class': 'rviz_common/Displays', 'Name': 'Displays'},
                   {'Class': 'rviz_common/Views', 'Name': 'Views'}],
        'Visualization Manager': {
            'Class': '',
            'Global Options': {'Background Color': '24; 24; 28', 'Fixed Frame': frame_id,
                               'Frame Rate': 30},
            'Displays': displays(view, prefix, image_topic),
            'Tools': [{'Class': 'rviz_default_plugins/MoveCamera'},
                      {'Class': 'rviz_default_plugins/Select'}],
            'Views': {'Current': {
                'Class': 'rviz_default_plugins/Orbit', 'Name': 'Orbit',
                'Target Frame': '<Fixed Frame>', 'Distance': view.distance, 'Pitch': PITCH,
                'Yaw': YAW, 'Near Clip Distance': 0.01,
                'Focal Point': {'X': x, 'Y': y, 'Z': z}}}},
        'Window Geometry': {'Height': 900, 'Width': 1400}}


def displays(view: View, prefix: str, image_topic: str) -> list[Settings]:
    """Returns the displays of our topics, whose names begin with a prefix."""
    size = round(SPREAD * view.spacing, 5)
    cloud: Settings = {'Color Transformer': 'RGB8', 'Position Transformer': 'XYZ',
                       'Selectable': True, 'Decay Time': 0, 'Size (m)': size}
    return [
        display('Grid', 'Grid', {'Cell Size': grid_cell(view.distance), 'Plane Cell Count': 20,
                                 'Color': '80; 80; 84', 'Reference Frame': '<Fixed Frame>'}),
        display('PointCloud2', 'Map', {**cloud, 'Style': 'Flat Squares'},
                qos(f'{prefix}/map', latched=True)),
        # The same points: as boxes they reach out of the squares of the map and hide them.
        display('PointCloud2', 'Relevancy', {**cloud, 'Style': 'Boxes'},
                qos(f'{prefix}/relevancy', latched=True)),
        display('MarkerArray', 'Boxes, labels, legend, target',
                {'Namespaces': {'keyframes': False}}, qos(f'{prefix}/markers', latched=True)),
        display('PoseArray', 'Grasps', {'Shape': 'Axes', 'Axes Length': 0.03,
                                        'Axes Radius': 0.003}, qos(f'{prefix}/grasps')),
        display('Image', 'Camera', {}, qos(image_topic, depth=5))]


def display(kind: str, name: str, settings: Settings, topic: Settings | None = None) -> Settings:
    """Returns one display, of a topic unless that is None."""
    out: Settings = {'Class': f'rviz_default_plugins/{kind}', 'Name': name, 'Enabled': True,
                     **settings}
    return out if topic is None else {**out, 'Topic': topic}


def qos(topic: str, latched: bool = False, depth: int = 1) -> Settings:
    """Returns a topic with its quality of service, as RViz names it.

    latched: late subscribers get its last message as well.
    """
    return {'Value': topic, 'Depth': depth, 'History Policy': 'Keep Last',
            'Reliability Policy': 'Reliable',
            'Durability Policy': 'Transient Local' if latched else 'Volatile'}


def grid_cell(distance: float) -> float:
    """Returns the cell of a grid that suits a distance: a power of ten, at most a tenth of it."""
    return float(10.0 ** math.floor(math.log10(max(distance, LEAST_SIZE) / 10)))
