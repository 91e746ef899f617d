# SPDX-License-Identifier: Apache-2.0
"""An address of the page that restores a question, and from where its answer was looked at.

The page of viser tells its server nothing of its own address, but connects to the one that the
parameter `websocket` names, and what stands behind the `?` there arrives here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode, urlsplit

import numpy as np

if TYPE_CHECKING:
    import viser

WORDS = ('phrase', 'rather_than', 'part')
CAMERA = ('position', 'look_at', 'up')
DECIMALS = 4    # of a coordinate, which may be large


@dataclass(frozen=True)
class PageLink:
    """A question as it is typed, and a camera: position, look_at and up (3, 3), world; or None."""

    phrase: str = ''
    rather_than: str = ''
    part: str = ''
    threshold: float = 0.0
    camera: np.ndarray | None = None

    def address(self, host: str) -> str:
        """Returns the address on a host, such as `localhost:8080`, that restores this."""
        asked = {name: getattr(self, name) for name in WORDS if getattr(self, name)}
        if self.threshold:
            asked['threshold'] = f'{self.threshold:g}'
        if self.camera is not None:
            asked.update((name, ','.join(f'{value:.{DECIMALS}f}' for value in row))
                         for name, row in zip(CAMERA, self.camera, strict=True))
        return f'http://{host}/?{urlencode({"websocket": f"ws://{host}/?{urlencode(asked)}"})}'

    @classmethod
    def parse(cls, path: str) -> PageLink:
        """Reads the path that a page connected to; what is not understood there is left out."""
        given = {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}
        link = cls(given.get('phrase', ''), given.get('rather_than', ''), given.get('part', ''))
        try:
            threshold = float(given.get('threshold', 0.0))
            camera = np.array([[float(value) for value in given[name].split(',')]
                               for name in CAMERA]).reshape(3, 3) if CAMERA[0] in given else None
        except (KeyError, ValueError):
            return link
        if not 0.0 <= threshold <= 1.0 or (camera is not None and not np.isfinite(camera).all()):
            return link
        return replace(link, threshold=threshold, camera=camera)


def connection_of(server: viser.ViserServer, client_id: int) -> tuple[str, str]:
    """Returns the host that a browser knows this server by, and the path that it connected to.

    viser has no public name for them. Where a version keeps them elsewhere, both are empty, and the
    page offers no links.
    """
    known = getattr(getattr(server, '_websock_server', None), '_live_connections', {})
    request = getattr(known.get(client_id), 'request', None)
    return ('', '') if request is None else (request.headers.get('Host', ''), request.path)
