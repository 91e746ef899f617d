# SPDX-License-Identifier: Apache-2.0
"""`lerf_ros query MAP TEXT...`: answers phrases as text, pictures and files."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lerf_ros.commands.options import add_set, overrides, phrases
from lerf_ros.errors import BadImageError, DatasetError, EmptyTextError

if TYPE_CHECKING:
    from lerf_ros.query.answer import Answer
    from lerf_ros.query.request import QueryRequest


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Registers `query`."""
    query = commands.add_parser('query', help='ask a map for phrases or a picture')
    query.add_argument('map', help='map directory')
    query.add_argument('text', nargs='*', help='phrases, each in quotes; one query for each')
    query.add_argument('--together', action='store_true',
                       help='one answer for all phrases: each has its own places, and each point '
                       'of the cloud gets the phrase that fits it best')
    query.add_argument('--image', metavar='FILE', help='a picture of the thing instead of phrases')
    query.add_argument('--part', default='', help='only this part of the thing: --part handle')
    query.add_argument('--negatives', action='append', default=[], metavar='TEXT',
                       help='a phrase it must win against, instead of object, things, stuff and '
                       'texture; several with ; between them, or the option again')
    query.add_argument('--rather-than', action='append', default=[], metavar='TEXT',
                       help='a phrase that must lose as well, beside the negatives; several as '
                       'above')
    query.add_argument('--color', action='append', default=[], metavar='COLOR',
                       help='a colour that it must have: --color red; several as above')
    query.add_argument('--size', action='append', default=[], metavar='SIZE',
                       help='what of several it must be: largest, smallest, tall, ...')
    query.add_argument('--relation', action='append', default=[], metavar='KIND:THING',
                       help='how it must lie to other things: --relation "on: table", '
                       '--relation "between: mug; red box", --relation leftmost; the option again '
                       'for another one')
    query.add_argument('--whole', action='store_true', help='phrases go to the encoder as they '
                       'are: neither colours nor relations are read in them')
    query.add_argument('--region', nargs=6, type=float,
                       metavar=('X', 'Y', 'Z', 'SIZE_X', 'SIZE_Y', 'SIZE_Z'),
                       help='search only in this box: its centre and lengths, map frame')
    query.add_argument('--threshold', type=float, default=0.0, help='relevancy that counts')
    query.add_argument('--max-hits', type=int, default=0,
                       help='places of each phrase shown at most')
    query.add_argument('--pictures', metavar='FOLDER', help='overlay picture of each answer')
    query.add_argument('--from-above', metavar='FOLDER',
                       help='one picture of the whole map from above, from_above.png, with the '
                       'places of all phrases: for rooms')
    query.add_argument('--export', metavar='FOLDER',
                       help='each answer as PLY (points with relevancy) and JSON (all fields)')
    add_set(query, 'settings of query, features and grasp, such as query.threshold=0.7; they win '
            'over those of the map')
    query.set_defaults(func=run_query)


def run_query(arguments: argparse.Namespace) -> int:
    """Prints the answer to each request, and writes it with --pictures and --export."""
    from lerf_ros.commands.map_target import require_map

    asked = list(requests(arguments))
    require_map(arguments.map)
    claim_folders(arguments)
    from lerf_ros.submap_query import SubmapQuery

    query = SubmapQuery(arguments.map, overrides(arguments.set))
    query.refresh()
    answers = []
    for request in asked:
        answers.append(query.ask(request))
        print('\n'.join(lines(answers[-1])))
        for path in written(arguments, answers[-1]):
            print(f'  {path}')
    if arguments.from_above:
        from lerf_ros.show.from_above import save_from_above
        print(save_from_above(answers, Path(arguments.from_above)))
    return 0


def claim_folders(arguments: argparse.Namespace) -> None:
    """Raises ForeignFolderError if a folder of the results holds other files."""
    from lerf_ros.storage.output_folder import OutputFolder
    for folder in filter(None, (arguments.pictures, arguments.export, arguments.from_above)):
        OutputFolder(folder).claim([arguments.map])


def requests(arguments: argparse.Namespace) -> Iterator[QueryRequest]:
    """Yields the requests of a command line; raises LerfError for invalid ones."""
    import numpy as np

    from lerf_ros.geometry.region import Region
    from lerf_ros.query.request import QueryRequest, relation

    region = None
    if arguments.region:
        T_world_region = np.eye(4)
        T_world_region[:3, 3] = arguments.region[:3]
        region = Region(T_world_region, np.array(arguments.region[3:]))
    base = QueryRequest(
        negatives=phrases(arguments.negatives), rather_than=phrases(arguments.rather_than),
        part=arguments.part, region=region, threshold=arguments.threshold,
        max_hits=arguments.max_hits, colors=phrases(arguments.color),
        sizes=phrases(arguments.size), whole_phrase=arguments.whole,
        relations=tuple(relation(kind, *phrases([things] * bool(things))) for kind, _, things in (
            text.partition(':') for text in arguments.relation)))
    if arguments.image:
        from lerf_ros.frames.image_files import read_color
        try:
            base = replace(base, image=read_color(Path(arguments.image)))
        except DatasetError as error:
            raise BadImageError(str(error)) from error
        # `check` refuses phrases in addition to the picture.
        asked = [replace(base, texts=tuple(arguments.text))]
    elif arguments.together:
        asked = [replace(base, texts=tuple(arguments.text))]
    elif arguments.text:
        asked = [replace(base, text=text) for text in arguments.text]
    else:
        raise EmptyTextError('say what to look for: a phrase in quotes, or --image FILE')
    for request in asked:
        request.check()
        yield request


def lines(answer: Answer) -> Iterator[str]:
    """Yields the lines of an answer for a terminal."""
    from lerf_ros.show.words import confirmed, summary

    took = answer.timing
    yield (f'{summary(answer)} (encode {1000 * took.encode:.0f}, search {1000 * took.search:.0f}, '
           f'grasp {1000 * took.grasp:.0f} ms)')
    for rank, hit in enumerate(answer.hits, 1):
        x, y, z = hit.position
        sure = '' if math.isnan(hit.probability) else (
            f', is it with probability {hit.probability:.2f}')
        seen = f', confirmed by {confirmed(hit)}' if hit.confirmed_by else ''
        name = f'{hit.label} ' if len(answer.texts) > 1 else ''
        size = [round(float(edge), 3) for edge in hit.size]
        yield (f'  {rank}. {name}({x:.3f}, {y:.3f}, {z:.3f}) size {size} relevancy '
               f'{hit.relevancy:.2f}{sure}, {hit.points} points, {hit.keyframes} keyframes'
               f'{seen}')
    if answer.grasps:
        best = answer.grasps[0]
        x, y, z = best.T_world_grasp[:3, 3]
        yield (f'  grasp at ({x:.3f}, {y:.3f}, {z:.3f}), fingers {best.opening_width:.3f} m apart, '
               f'score {best.score:.2f}')


def written(arguments: argparse.Namespace, answer: Answer) -> Iterator[Path]:
    """Writes the requested files; yields their paths."""
    if arguments.pictures:
        from lerf_ros.show.pictures import save_overlay
        yield save_overlay(Path(arguments.map), answer, Path(arguments.pictures))
    if arguments.export:
        from lerf_ros.show.files import export_answer
        yield from export_answer(answer, Path(arguments.export))
