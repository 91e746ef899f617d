# SPDX-License-Identifier: Apache-2.0
"""The field as the page shows it: the same rays, embeddings and colours as everywhere else."""

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hand_made_map import CONFIG, CUBES, WordEncoder, axis, cube_index

from lerf_ros.config import FieldConfig, LanguageConfig
from lerf_ros.errors import MapUnreadableError, NoSnapshotError
from lerf_ros.field.language_field import LanguageField
from lerf_ros.field.radiance_field import RadianceField
from lerf_ros.field.ray_sampling import Rays
from lerf_ros.field.volume_rendering import strongest
from lerf_ros.geometry.scene_frame import SceneFrame
from lerf_ros.query.request import QueryRequest
from lerf_ros.query.text_query import TextQuery
from lerf_ros.show.colors import turbo
from lerf_ros.show.field_painter import HEIGHTS, FieldPainter
from lerf_ros.show.field_view import (
    BEHIND,
    DEPTH,
    PHOTOGRAPH,
    RELEVANCY,
    FieldPicture,
    FieldView,
    depth_colors,
    pinhole_of,
)

SCENE = SceneFrame((10.0, 0.0, 0.0), 2.0)
CAMERA = pinhole_of(6, 4, np.radians(60))
T = np.eye(4)
T[:3, 3] = (10.0, 0.0, -3.0)


@pytest.fixture
def view():
    torch.manual_seed(0)
    index = cube_index(CUBES)
    radiance = RadianceField(FieldConfig(log2_table=10), 4)
    language = LanguageField(LanguageConfig(hidden=16, log2_table=8), len(index.basis), 0)
    with torch.no_grad():
        for encoding in language.encodings:         # embeddings that differ from place to place
            torch.nn.init.normal_(next(encoding.parameters()))
    return FieldView(radiance.eval(), language.eval(), SCENE,
                     TextQuery(index, WordEncoder(), CONFIG.query, SCENE.radius), 6)


def one_ray(column, row):
    """The ray through the middle of a pixel, in scene radii from the middle of the scene."""
    focal = 2 / np.tan(np.radians(30))
    way = np.array([(column + 0.5 - 3) / focal, (row + 0.5 - 2) / focal, 1.0])
    way = torch.tensor(way / np.linalg.norm(way), dtype=torch.float32)
    return Rays(torch.tensor([[0.0, 0.0, -1.5]]), way[None])


def test_a_pixel_is_the_colour_of_its_ray(view):
    picture = view.render(CAMERA, T, PHOTOGRAPH)
    assert picture.colors.shape == (4, 6, 3) and picture.depth.shape == (4, 6)
    with torch.no_grad():
        out = view.radiance(one_ray(4, 1))
    np.testing.assert_allclose(picture.colors[1, 4], 255 * out.color[0].numpy(), atol=0.51)
    if out.accumulation[0] >= 0.5:
        along_z = float(one_ray(4, 1).directions[0, 2])
        assert picture.depth[1, 4] == pytest.approx(2.0 * float(out.distance[0]) * along_z,
                                                    rel=1e-4)
    else:
        assert picture.depth[1, 4] == BEHIND


@pytest.mark.parametrize('word, other', [('mug', 'plate'), ('plate', 'mug')])
def test_relevancy_is_that_of_the_embedding_along_the_ray(view, monkeypatch, word, other):
    monkeypatch.setattr('lerf_ros.show.field_view.OPAQUE', 0.0)
    question = SimpleNamespace(positives=axis(word)[None], negatives=axis(other)[None])
    with torch.no_grad():
        ray = one_ray(2, 3)
        out = view.radiance(ray)
        weights, middle = strongest(out.weights, out.edges, 6)
        at = ray.origins[:, None] + middle[..., None] * ray.directions[:, None]
        scale = float(view.query.index.stored_scales[0]) / SCENE.radius
        code = view.language.render(view.language.features(at), weights,
                                    torch.full_like(weights, scale))[0].numpy()
    margin = code @ axis(word) - code @ axis(other)
    expected = 1 / (1 + np.exp(-CONFIG.query.temperature * margin))
    top = 0.999
    color = view.render(CAMERA, T, RELEVANCY, question, top).colors[3, 2]
    if expected < 0.5:      # fits less well than the other: the surface's own colour
        np.testing.assert_allclose(color, 255 * out.color[0].numpy(), atol=0.51)
    else:
        level = turbo(np.array([(expected - 0.5) / (top - 0.5)]))[0].astype(int)
        assert np.abs(color.astype(int) - level).max() <= 8


def test_what_was_not_found_is_painted_faintly(view, monkeypatch):
    monkeypatch.setattr('lerf_ros.show.field_view.OPAQUE', 0.0)
    question = SimpleNamespace(positives=axis('mug')[None], negatives=axis('plate')[None])
    plain = view.render(CAMERA, T, PHOTOGRAPH).colors.astype(float)
    full = view.render(CAMERA, T, RELEVANCY, question, 0.999).colors.astype(float)
    faint = view.render(CAMERA, T, RELEVANCY, question, 0.999, paint=0.25).colors
    np.testing.assert_allclose(faint, 0.25 * full + 0.75 * plain, atol=0.51)


def test_a_picture_that_is_no_longer_wanted_is_given_up(view):
    assert view.render(CAMERA, T, PHOTOGRAPH, stop=lambda: True) is None


def test_near_is_warm_far_is_cold_and_nothing_is_black():
    colors = depth_colors(np.array([1.0, 2.0, BEHIND]), np.array([True, True, False]))
    near, far, nothing = colors.astype(int)
    assert near[0] > near[2] and far[2] > far[0] and not nothing.any()


class Client:
    """A browser as a painter sees it."""

    def __init__(self):
        self.client_id, self.shown, self.told = 1, [], []
        self.camera = SimpleNamespace(wxyz=np.array([1.0, 0, 0, 0]), position=np.zeros(3),
                                      fov=1.0, aspect=1.5, on_update=lambda _: None)
        self.scene = SimpleNamespace(set_background_image=self.show)

    def show(self, image, *_, **__):
        self.shown.append(None if image is None else image.shape[:2])

    def add_notification(self, title, body):
        self.told.append(body)


class Plain:
    """A field that is grey all over. first: called before its first picture."""

    def __init__(self, first=lambda: None):
        self.first, self.origins = first, []

    def question(self, request):
        return request

    def render(self, camera, T_world_camera, look, question, top, stop, paint):
        self.origins.append(T_world_camera[:3, 3])
        first, self.first = self.first, lambda: None
        first()
        if stop():
            return None
        shape = camera.height, camera.width
        return FieldPicture(np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.float32))


def painted(painting, timeout_s=60.0):
    end = time.monotonic() + timeout_s
    while painting.painted != painting.version and time.monotonic() < end:
        time.sleep(0.01)
    return painting.painted == painting.version


def test_a_browser_is_painted_coarsely_first_and_from_where_it_looks():
    field, client = Plain(), Client()
    painter = FieldPainter(lambda: field)
    try:
        painting = painter.enter(client)
        painter.change(painting, look=PHOTOGRAPH, origin=np.array([100.0, 0.0, 0.0]))
        assert painted(painting)
        assert client.shown[-len(HEIGHTS):] == [(h, round(1.5 * h)) for h in HEIGHTS]
        assert (field.origins[-1] == [100.0, 0.0, 0.0]).all()
        painter.change(painting, look='')
        assert painted(painting) and client.shown[-1] is None
    finally:
        painter.close()


def test_a_field_that_cannot_be_read_is_told_of_once_while_the_camera_moves():
    client, troubles = Client(), ['no field', 'no field', 'it is damaged']

    def broken():
        raise MapUnreadableError(troubles.pop(0))
    painter = FieldPainter(broken)
    try:
        painting = painter.enter(client)
        for _ in range(3):
            painter.change(painting, look=PHOTOGRAPH)
            assert painted(painting)
        assert client.told == ['no field', 'it is damaged']
    finally:
        painter.close()


def test_who_moves_gets_a_new_picture_and_not_the_rest_of_the_old_one():
    client, begun, moved = Client(), threading.Event(), threading.Event()
    painter = FieldPainter(lambda: Plain(lambda: (begun.set(), moved.wait())))
    try:
        painting = painter.enter(client)
        painter.change(painting, look=DEPTH)
        assert begun.wait(60.0)
        painter.change(painting)
        moved.set()
        assert painted(painting)
        coarsest = (HEIGHTS[0], round(1.5 * HEIGHTS[0]))
        assert [shape for shape in client.shown if shape] == [
            coarsest, *((h, round(1.5 * h)) for h in HEIGHTS[1:])]
    finally:
        painter.close()


def test_why_there_is_no_field_is_told():
    def nothing():
        raise NoSnapshotError('it holds no snapshot')

    client = Client()
    painter = FieldPainter(nothing)
    try:
        painting = painter.enter(client)
        painter.change(painting, look=RELEVANCY, request=QueryRequest('mug'))
        assert painted(painting)
        assert client.told == ['it holds no snapshot'] and client.shown[-1] is None
    finally:
        painter.close()
