# SPDX-License-Identifier: Apache-2.0
"""Paints the field behind what a page shows in 3D: coarsely at once, finer while nobody moves."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.transform import Rotation

from lerf_ros.errors import LerfError
from lerf_ros.query.request import QueryRequest
from lerf_ros.show.field_view import FieldView, pinhole_of

if TYPE_CHECKING:
    import viser

# Heights of the pictures, pixels. On two cores the first takes a tenth of a second.
HEIGHTS = (54, 108, 216, 432)
WIDEST = 4.0        # of a picture, times its height: a page that is wider is painted so wide
CLOSE_S = 2.0


@dataclass
class Painting:
    """What one browser is shown of the field.

    look: one of LOOKS, or '' for nothing. request: what RELEVANCY is painted of. top: the relevancy
    with the last colour. paint: opacity of these colours. origin (3,): of the page, world. version:
    counts what has changed.
    """

    client: viser.ClientHandle
    look: str = ''
    request: QueryRequest | None = None
    top: float = 0.0
    paint: float = 1.0
    origin: np.ndarray = field(default_factory=lambda: np.zeros(3))
    version: int = 0
    painted: int = -1       # the version that is on display in its finest form
    trouble: str = ''       # that the browser was told of last


class FieldPainter:
    """Renders for all browsers in one thread of its own, so that questions never wait for it."""

    def __init__(self, open_view: Callable[[], FieldView]) -> None:
        """open_view: reads the fields of the newest snapshot, or raises LerfError."""
        self._open_view = open_view
        self._view: FieldView | None = None
        self._changed, self._stopped = threading.Condition(), False
        self._paintings: dict[int, Painting] = {}       # by the number of the browser
        self._thread = threading.Thread(target=self._run, name='field', daemon=True)
        self._thread.start()

    def enter(self, client: viser.ClientHandle) -> Painting:
        """Returns the painting of a browser, which follows its camera."""
        painting = Painting(client)
        with self._changed:
            self._paintings[client.client_id] = painting
        client.camera.on_update(lambda _: self.change(painting))
        return painting

    def leave(self, client: viser.ClientHandle) -> None:
        """Forgets a browser."""
        with self._changed:
            self._paintings.pop(client.client_id, None)

    def change(self, painting: Painting, **changes: object) -> None:
        """Paints a browser's view anew, with these changes of its painting."""
        with self._changed:
            for name, value in changes.items():
                setattr(painting, name, value)
            painting.version += 1
            self._changed.notify_all()

    def refreshed(self) -> None:
        """Reads the fields anew, because there is a newer snapshot."""
        with self._changed:
            self._view = None
            for painting in self._paintings.values():
                painting.version += 1
            self._changed.notify_all()

    def close(self) -> None:
        """Ends the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while (painting := self._next()) is not None:
            version = painting.version
            try:
                self._paint(painting, version)
            except LerfError as error:
                self._tell(painting, str(error))
            except Exception as error:      # other browsers are painted all the same
                self._tell(painting, f'{type(error).__name__}: {error}')
                traceback.print_exc()
            painting.painted = version

    @staticmethod
    def _tell(painting: Painting, trouble: str) -> None:
        painting.client.scene.set_background_image(None)
        if trouble != painting.trouble:     # the camera moves on, and it is still the same
            painting.client.add_notification('The field cannot be shown', trouble)
        painting.trouble = trouble

    def _next(self) -> Painting | None:
        """Waits for a painting that is due; returns None once the page is closed."""
        with self._changed:
            while not self._stopped:
                for painting in self._paintings.values():
                    if painting.painted != painting.version:
                        return painting
                self._changed.wait()
        return None

    def _paint(self, painting: Painting, version: int) -> None:
        def stop() -> bool:
            return self._stopped or painting.version != version

        if not painting.look:
            painting.client.scene.set_background_image(None)
            return
        if self._view is None:
            self._view = self._open_view()
        camera = painting.client.camera
        T_world_camera = np.eye(4)
        T_world_camera[:3, :3] = Rotation.from_quat(np.roll(camera.wxyz, -1)).as_matrix()
        T_world_camera[:3, 3] = camera.position + painting.origin
        question = self._view.question(painting.request) if painting.request else None
        for height in HEIGHTS:
            width = max(round(height * min(float(camera.aspect), WIDEST)), 1)
            picture = self._view.render(pinhole_of(width, height, float(camera.fov)),
                                        T_world_camera, painting.look, question,
                                        painting.top, stop, painting.paint)
            if picture is None:
                return
            painting.client.scene.set_background_image(picture.colors, 'jpeg',
                                                       depth=picture.depth)
