# SPDX-License-Identifier: Apache-2.0
"""Prepares the pages of docs/ for mkdocs, and checks the links between all documents.

    python scripts/docs_site.py FOLDER      writes the pages, with the files they link to, to FOLDER

Links to files outside of docs/ are right where the repository is read; in the site they become
copies of those files below files/.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r'(!?\[[^\]]*\]\()([^)\s]+)(\))')
FENCE = re.compile(r'^```.*?^```', re.M | re.S)


def documents() -> list[Path]:
    """Returns the documents of the repository that people read."""
    return [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', ROOT / 'SECURITY.md',
            *sorted((ROOT / 'docs').glob('*.md'))]


def anchors(page: Path) -> set[str]:
    """Returns the anchors of the headings of a page, as GitHub and mkdocs make them."""
    titles = re.findall(r'^#+ (.*)$', FENCE.sub('', page.read_text(encoding='utf-8')), re.M)
    return {re.sub(r'[^\w\- ]', '', title.lower()).strip().replace(' ', '-') for title in titles}


def broken_links() -> Iterator[str]:
    """Yields each link to a file or heading of the repository that is not there."""
    for page in documents():
        for _, target, _ in LINK.findall(FENCE.sub('', page.read_text(encoding='utf-8'))):
            if re.match(r'\w+:', target):
                continue
            path, _, anchor = target.partition('#')
            file = (page.parent / path).resolve() if path else page
            if not file.exists():
                yield f'{page.name}: {target}: there is no such file'
            elif anchor and file.suffix == '.md' and anchor not in anchors(file):
                yield f'{page.name}: {target}: there is no such heading'


def write_site(folder: Path) -> None:
    """Writes the pages of docs/ to a folder, with copies of the files that they link to."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / 'docs', folder, ignore=shutil.ignore_patterns('site'))
    for page in folder.glob('*.md'):
        def local(match: re.Match[str]) -> str:
            before, target, after = match.groups()
            if not target.startswith('../'):
                return match[0]
            name = target.removeprefix('../').partition('#')[0]
            copy = folder / 'files' / f'{name}.txt'
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy)
            return f'{before}files/{name}.txt{after}'

        page.write_text(LINK.sub(local, page.read_text(encoding='utf-8')), encoding='utf-8')


if __name__ == '__main__':
    problems = list(broken_links())
    print('\n'.join(problems), file=sys.stderr)
    write_site(Path(sys.argv[1]))
    sys.exit(bool(problems))
