# SPDX-License-Identifier: Apache-2.0
"""Builds and loads the CPU kernels of the fields with the machine's own C++ compiler.

The library is built once, in a few seconds, and kept in the user's cache folder under the hash of
its source, compiler flags and processor. Without a compiler plain torch serves, with a warning.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import torch

SOURCES = tuple(Path(__file__).with_name('native') / name
                for name in ('hash_grid.cpp', 'perceptron.cpp'))
FLAGS = ('-O3', '-march=native', '-ffast-math', '-fopenmp', '-fPIC', '-std=c++17')

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Returns where built kernels and computed vocabularies lie: XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'lerf_ros'


@lru_cache(maxsize=1)
def load_kernel() -> ctypes.CDLL | None:
    """Builds and loads the kernel; returns None, with a warning, where it cannot be built."""
    compiler = os.environ.get('CXX') or shutil.which('g++') or shutil.which('clang++')
    if compiler is None:
        log.warning('no C++ compiler found: the fields run in plain torch, several times '
                    'slower; install g++ to mend this')
        return None
    try:
        return ctypes.CDLL(str(_build(compiler)))
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, 'stderr', '') or error
        log.warning('the kernels of the fields could not be built with %s (%s): they run in '
                    'plain torch, several times slower', compiler, detail)
        return None


def _build(compiler: str) -> Path:
    openmp = sorted(Path(torch.__file__).parent.glob('lib/libgomp*.so*'))
    # Link torch's own OpenMP runtime, or two thread pools fight for the cores.
    link = [str(openmp[0])] if openmp else ['-fopenmp']
    key = '|'.join((*(s.read_text() for s in SOURCES), compiler, *FLAGS, *link, _processor()))
    target = cache_folder() / f'fields_{hashlib.sha256(key.encode()).hexdigest()[:16]}.so'
    if target.exists():
        return target
    log.info('building the kernels of the fields for this processor, once: half a minute')
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        library = Path(folder) / 'fields.so'
        units = [str(Path(folder) / f'{source.stem}.o') for source in SOURCES]
        compilations = [[compiler, *FLAGS, '-c', str(source), '-o', unit]
                        for source, unit in zip(SOURCES, units, strict=True)]
        for command in (*compilations, [compiler, '-shared', *units, *link, '-o', str(library)]):
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
        os.replace(library, target)   # atomic: two processes may build at once
    return target


def _processor() -> str:
    """Returns the processor's features: a library built for one must not load on another."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(('flags', 'Features'))), '')
