# SPDX-License-Identifier: Apache-2.0
"""Pictures of answers: relevancy over photographs, and contact sheets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial import cKDTree

from lerf_ros.frames.captures.load import load_folder
from lerf_ros.geometry.camera import PinholeCamera, invert_pose, transform_points
from lerf_ros.query.answer import EVEN, Answer, Hit
from lerf_ros.show.colors import NEUTRAL, answer_paint
from lerf_ros.show.files import file_name
from lerf_ros.show.outlines import box_outline, target_outline
from lerf_ros.storage.output_folder import OutputFolder

MAX_RADIUS_PX = 12          # of a disc, so that a point close to the lens does not fill the image
DEPTH_TOLERANCE = 0.03      # a disc hides a point that is farther by more than this fraction
OVERLAY_OPACITY = 0.75
BOX_COLOR = (255, 255, 255)
GRIPPER_COLOR, GRIPPER_WIDTH = (60, 255, 100), 2
MAX_VIEWS = 40              # photographs among which the best view of a hit is chosen
CHOICE_WIDTH = 160          # views are compared at this width,
CHOICE_POINTS = 8000        # and by so many points, which is enough and fast
LIKELY_VIEWS = 8            # those in which it is looked for what hides a hit
JPEG_QUALITY = 85
PROOF_SIZE = 480, 320        # pixels, width and height
CELL_WIDTH, CAPTION_HEIGHT, TITLE_HEIGHT, GAP = 400, 30, 44, 6
FONT, FONT_SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.55


def disc_radius(points_world: np.ndarray, sample: int = 2000) -> float:
    """Returns a radius (world units) at which discs close the gaps between points (N, 3).

    It is three quarters of the distance to the third nearest neighbour: on a square grid of pitch p
    that is 0.75 p, a little more than half the diagonal. The 90th percentile is taken, so that
    sparse parts are closed as well.
    """
    if len(points_world) < 4:
        return 0.0
    chosen = np.random.default_rng(0).permutation(len(points_world))[:sample]
    distance, _ = cKDTree(points_world).query(points_world[chosen], k=4)
    return 0.75 * float(np.quantile(distance[:, 3], 0.9))


def splat(points_world: np.ndarray, camera: PinholeCamera, T_world_camera: np.ndarray,
          radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Renders points (N, 3) as discs.

    radius: of the discs, world units. Returns for each pixel the index of the nearest point (H, W)
    int64, -1 where there is none, and its depth (H, W) float64, inf where there is none.
    """
    index = np.full((camera.height, camera.width), -1, np.int64)
    depth = np.full((camera.height, camera.width), np.inf)
    columns, rows, z = _pixels(points_world, camera, T_world_camera)
    seen = np.flatnonzero(columns > -10**6)
    if not len(seen):
        return index, depth
    reach = np.clip(radius * camera.fx / z[seen], 0, MAX_RADIUS_PX)
    owner, u, v = [], [], []
    for step in range(int(np.ceil(reach.max())) + 1):
        group = seen[np.ceil(reach).astype(int) == step]
        dx, dy = _disc(step)
        owner.append(np.repeat(group, len(dx)))
        u.append((columns[group, None] + dx).ravel())
        v.append((rows[group, None] + dy).ravel())
    points, x, y = (np.concatenate(part) for part in (owner, u, v))
    inside = (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
    points, x, y = points[inside], x[inside], y[inside]
    far_first = np.argsort(-z[points], kind='stable')   # so the nearest point is written last
    points, x, y = points[far_first], x[far_first], y[far_first]
    index[y, x] = points
    depth[y, x] = z[points]
    return index, depth


def visible(points_world: np.ndarray, camera: PinholeCamera, T_world_camera: np.ndarray,
            radius: float) -> np.ndarray:
    """Returns which points (N, 3) are in the image and not hidden by others, (N,) bool."""
    _, nearest = splat(points_world, camera, T_world_camera, radius)
    columns, rows, z = _pixels(points_world, camera, T_world_camera)
    inside = (columns >= 0) & (columns < camera.width) & (rows >= 0) & (rows < camera.height)
    seen = np.zeros(len(points_world), bool)
    limit = nearest[rows[inside], columns[inside]] * (1 + DEPTH_TOLERANCE) + radius
    seen[inside] = z[inside] <= limit
    return seen


def depth_of(points_world: np.ndarray, T_world_camera: np.ndarray) -> np.ndarray:
    """Returns the z-depth (N,) of points (N, 3), negative behind the camera."""
    return transform_points(invert_pose(T_world_camera), np.asarray(points_world, np.float64))[:, 2]


def _pixels(points_world: np.ndarray, camera: PinholeCamera,
            T_world_camera: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns column, row and depth of points (N, 3); pixels are far outside behind the camera."""
    points_camera = transform_points(
        invert_pose(T_world_camera), np.asarray(points_world, np.float64))
    pixels = camera.project(points_camera)
    # Far outside of the image the lens polynomial folds points back into it.
    direction = points_camera[:, :2] / np.maximum(points_camera[:, 2:], 1e-9)
    limit = 1.5 * np.array([camera.width / camera.fx, camera.height / camera.fy])
    good = np.isfinite(pixels).all(1) & (np.abs(direction) < limit).all(1)
    whole = np.where(good[:, None], np.floor(np.nan_to_num(pixels)), -10**7).astype(np.int64)
    return whole[:, 0], whole[:, 1], points_camera[:, 2]


def _disc(radius: int) -> tuple[np.ndarray, np.ndarray]:
    dy, dx = np.mgrid[-radius:radius + 1, -radius:radius + 1]
    inside = dx * dx + dy * dy <= (radius + 0.5) ** 2   # includes diagonals, which close gaps
    return dx[inside], dy[inside]


@dataclass(frozen=True)
class PosedImage:
    """A photograph (H, W, 3) uint8 RGB with its camera and pose (4, 4), OpenCV camera axes."""

    image: np.ndarray
    camera: PinholeCamera
    T_world_camera: np.ndarray


def overlay(view: PosedImage, answer: Answer, radius: float | None = None) -> np.ndarray:
    """Draws relevancy, the box of the best hit and the gripper into a photograph.

    Returns (H, W, 3) uint8. Pixels are coloured where the nearest point has a relevancy of 0.5 or
    more, or is part of a hit. radius: of the discs of the points, world units; None measures it.
    """
    radius = disc_radius(answer.points_world) if radius is None else radius
    index, _ = splat(answer.points_world, view.camera, view.T_world_camera, radius)
    picture = view.image.copy()
    shown = answer.relevancy >= NEUTRAL
    if answer.found and len(answer.hit_numbers):
        shown |= answer.hit_numbers > 0
    if shown.any():
        relevant = (index >= 0) & shown[index]
        paint, share = (part[index[relevant]] for part in answer_paint(answer))
        opacity = OVERLAY_OPACITY * share[:, None]
        picture[relevant] = np.round(opacity * paint + (1 - opacity) * picture[relevant])
    if answer.found:
        draw_lines(picture, view, box_outline(answer.hits[0]), BOX_COLOR)
    draw_lines(picture, view, target_outline(answer), GRIPPER_COLOR, GRIPPER_WIDTH)
    return picture


def draw_lines(picture: np.ndarray, view: PosedImage, segments: np.ndarray,
               color: tuple[int, int, int], width: int = 1) -> None:
    """Draws segments (S, 2, 3) of the world into the picture, with the distortion of the lens."""
    for start, end in segments:
        line = start + np.linspace(0, 1, 9)[:, None] * (end - start)
        pixels = view.camera.project(transform_points(invert_pose(view.T_world_camera), line))
        if np.isfinite(pixels).all() and np.abs(pixels).max() < 1e4:
            path = np.round(pixels - 0.5).astype(np.int32)[:, None]
            cv2.polylines(picture, [path], False, (0, 0, 0), width + 2, cv2.LINE_AA)
            cv2.polylines(picture, [path], False, color, width, cv2.LINE_AA)


def inside_image(view: PosedImage, points_world: np.ndarray) -> np.ndarray:
    """Returns which points (N, 3) project into the image, (N,) bool."""
    camera = view.camera
    pixels = camera.project(transform_points(invert_pose(view.T_world_camera), points_world))
    return np.all((pixels >= 0) & (pixels <= [camera.width, camera.height]), axis=-1)


def interesting_points(answer: Answer) -> np.ndarray:
    """Returns which points (N,) bool a picture of this answer should show.

    These are the points in the box of the best hit, or the most relevant hundredth of all points
    when nothing was found.
    """
    points = np.asarray(answer.points_world)
    if not len(points):
        return np.zeros(0, bool)
    if answer.found:
        hit = answer.hits[0]
        local = (points - hit.position) @ np.asarray(hit.rotation)
        inside = (np.abs(local) <= np.asarray(hit.size) / 2 + 1e-6).all(1)
        if inside.any():
            return inside
    return answer.relevancy >= np.quantile(answer.relevancy, 0.99)


class ViewChooser:
    """Finds the view that shows the best hit of an answer largest, complete and unoccluded."""

    def __init__(self, views: Sequence[PosedImage], points_world: np.ndarray):
        """points_world: (N, 3), the points of all answers to come."""
        self._views, self.points = views, len(points_world)     # how many points
        order = np.random.default_rng(0).permutation(self.points)
        self._chosen = np.sort(order[:CHOICE_POINTS])
        self._positions = np.asarray(points_world, np.float64)[self._chosen]
        self._radius = disc_radius(self._positions)
        self._apparent_size: dict[int, np.ndarray] = {}     # by view, (n,): 0 for hidden points

    def best(self, answer: Answer) -> int:
        """Returns the index of the view that the interesting points fill most; 0 when none does.

        A view from farther away that shows all of a hit beats a close view of a part of it. What
        hides a point is looked at only in the views that would show most if nothing did.
        """
        if len(answer.points_world) != self.points or not self.points:
            return 0
        interesting = interesting_points(answer)[self._chosen]
        if not interesting.any():
            return 0
        complete = np.ones(len(self._views))
        if answer.found:
            corners = answer.hits[0].corners()
            complete = np.array([inside_image(view, corners).mean() ** 2 + 1e-3
                                 for view in self._views])
        unhidden = [shown(apparent_size(view, self._positions[interesting]))
                    for view in self._views]
        likely = np.argsort(-complete * unhidden, kind='stable')[:LIKELY_VIEWS].tolist()
        score = [complete[k] * shown(self._sizes(k)[interesting]) for k in likely]
        return int(likely[int(np.argmax(score))])

    def _sizes(self, number: int) -> np.ndarray:
        """Returns how large each of the chosen points looks in a view, 0 for those it hides."""
        if number not in self._apparent_size:
            view = self._views[number]
            camera = view.camera
            small = camera.resized(
                CHOICE_WIDTH, max(1, round(CHOICE_WIDTH * camera.height / camera.width)))
            seen = visible(self._positions, small, view.T_world_camera, self._radius)
            self._apparent_size[number] = seen * apparent_size(view, self._positions)
        return self._apparent_size[number]


def apparent_size(view: PosedImage, points_world: np.ndarray) -> np.ndarray:
    """Returns how large points (N, 3) of a surface look in a view (N,), 0 for those outside of it.
    """
    depth = depth_of(points_world, view.T_world_camera)
    inside = (depth > 0) & inside_image(view, points_world)
    return inside / np.maximum(depth, 1e-6) ** 2


def shown(sizes: np.ndarray) -> float:
    """Returns how much a view shows of points that look so large (N,), and how completely."""
    return float(sizes.sum() * (sizes > 0).mean() ** 2)


def proof(view: PosedImage, hit: Hit) -> np.ndarray:
    """Returns a photograph (h, w, 3) uint8 that fits PROOF_SIZE, with the box of a hit."""
    camera = view.camera
    ratio = min(PROOF_SIZE[0] / camera.width, PROOF_SIZE[1] / camera.height, 1.0)
    small = camera.resized(*(max(1, round(ratio * side)) for side in (camera.width,
                                                                      camera.height)))
    picture = cv2.resize(view.image, (small.width, small.height), interpolation=cv2.INTER_AREA)
    draw_lines(picture, PosedImage(picture, small, view.T_world_camera), box_outline(hit),
               BOX_COLOR)
    return picture


def caption(answer: Answer, note: str = '') -> str:
    """Returns the line below a picture: the phrase, whether it was found, and its relevancy."""
    top = answer.relevancy.max(initial=0.0)
    # A caption has one line; the answer holds the full reason.
    if answer.found:
        count, best = len(answer.hits), answer.hits[0].relevancy
        state = f'found, relevancy {best:.2f}' if count == 1 else \
            f'found at {count} places, best relevancy {best:.2f}'
        doubt = f', in the map with probability {answer.probability:.2f} only'
        state += doubt if answer.probability < EVEN else ''
        state += ', no grasp' if answer.no_target_reason else ''
    elif rivals := [name for phrase in answer.phrases for name in phrase.looks_more_like]:
        state = f'not found, looks more like {rivals[0]}'
    elif top >= answer.threshold:       # some points reach it, but no place does
        state = 'not found'
    else:
        # The service does not return the threshold of the query node (NaN).
        needs = '' if np.isnan(answer.threshold) else f', needs {answer.threshold:.2f}'
        state = f'not found (best {top:.2f}{needs})'
    return ', '.join(filter(None, [f'{answer.text}: {state}', note]))


def contact_sheet(views: Sequence[PosedImage], answers: Sequence[Answer], title: str,
                  notes: Sequence[str] = (), tiles_per_row: int = 2) -> np.ndarray:
    """Returns a sheet (H, W, 3) uint8 RGB with each answer as photograph and overlay.

    notes: added to the captions, one for each answer; may be empty.
    """
    tiles = []
    choosers: dict[int, ViewChooser] = {}
    for answer, note in zip(answers, notes or [''] * len(answers)):
        # Answers from one snapshot share their points.
        key = hash(np.asarray(answer.points_world).tobytes())
        if key not in choosers:
            choosers[key] = ViewChooser(views, answer.points_world)
        view = views[choosers[key].best(answer)]
        tiles.append(_tile(view, answer, caption(answer, note)))
    body = tile_grid(tiles, tiles_per_row)
    head = white(TITLE_HEIGHT, body.shape[1])
    put_text(head, title, (2 * GAP, 30), 0.8)
    return np.concatenate([head, body])


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Writes (H, W, 3) uint8 RGB as PNG or JPEG, by the suffix of the path."""
    if not cv2.imwrite(str(path), np.ascontiguousarray(image[..., ::-1])):
        raise OSError(f'{path}: cannot be written')


def _tile(view: PosedImage, answer: Answer, text: str) -> np.ndarray:
    line = white(CAPTION_HEIGHT, 2 * CELL_WIDTH + GAP)
    put_text(line, text)
    return np.concatenate([side_by_side(view.image, overlay(view, answer)), line])


def side_by_side(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Returns two pictures of one shape (H, W, 3), resized to CELL_WIDTH, with a gap between."""
    height = max(1, round(CELL_WIDTH * left.shape[0] / left.shape[1]))
    pair = [cv2.resize(picture, (CELL_WIDTH, height), interpolation=cv2.INTER_AREA)
            for picture in (left, right)]
    return np.concatenate([pair[0], white(height, GAP), pair[1]], 1)


def tile_grid(tiles: Sequence[np.ndarray], per_row: int, gap_above: int = 0) -> np.ndarray:
    """Returns tiles of one width in rows, on white; gap_above: pixels above each row."""
    width, rows = tiles[0].shape[1], []
    for start in range(0, len(tiles), per_row):
        chosen = tiles[start:start + per_row]
        row = white(gap_above + max(len(tile) for tile in chosen), per_row * (width + GAP) + GAP)
        for i, tile in enumerate(chosen):
            left = GAP + i * (width + GAP)
            row[gap_above:gap_above + len(tile), left:left + width] = tile
        rows.append(row)
    return np.concatenate(rows)


def white(height: int, width: int) -> np.ndarray:
    """Returns a white picture (height, width, 3) uint8."""
    return np.full((height, width, 3), 255, np.uint8)


def put_text(picture: np.ndarray, text: str, at: tuple[int, int] = (2, 20),
             size: float = FONT_SIZE, color: tuple[int, int, int] = (0, 0, 0)) -> None:
    """Writes text into a picture, at the left end of its baseline (x, y)."""
    cv2.putText(picture, text.encode('ascii', 'replace').decode(), at, FONT, size, color,
                max(1, round(size)), cv2.LINE_AA)


def map_views(map_directory: Path) -> list[PosedImage]:
    """Returns at most MAX_VIEWS photographs of the map; raises DatasetError without any."""
    frames = load_folder(map_directory).frames
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), MAX_VIEWS)).astype(int))
    return [PosedImage(f.image, f.camera, f.T_world_camera)
            for f in (frames[int(i)] for i in chosen)]


def save_overlay(map_directory: Path, answer: Answer, folder: Path) -> Path:
    """Writes the photograph that shows the best hit best beside its overlay; returns the path.

    A line below says what was found, because an absent thing has a heat map too.
    """
    views = map_views(map_directory)
    view = views[ViewChooser(views, answer.points_world).best(answer)]
    pair = np.concatenate([view.image, overlay(view, answer)], 1)
    scale = pair.shape[1] / (2 * CELL_WIDTH)
    line = white(round(scale * CAPTION_HEIGHT), pair.shape[1])
    put_text(line, caption(answer), (round(2 * scale), round(20 * scale)), scale * FONT_SIZE)
    name = f'{file_name(answer.text)}.png'
    with OutputFolder(folder).file(name) as path:
        write_image(path, np.concatenate([pair, line]))
    return folder / name


def jpeg(picture: np.ndarray) -> bytes:
    """Encodes a picture (H, W, 3) uint8 RGB; raises OSError where that fails."""
    done, data = cv2.imencode('.jpg', np.ascontiguousarray(picture[..., ::-1]),
                              [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise OSError('the picture cannot be encoded as JPEG')
    return data.tobytes()
