# SPDX-License-Identifier: Apache-2.0
"""Runs a Python program on a machine without a GPU as if it had one.

    python test/device/on_stand_in.py SCRIPT [ARGUMENTS...]
    python test/device/on_stand_in.py -m MODULE [ARGUMENTS...]

The device's tensors (stand_in.py) compute on the CPU. They refuse to meet tensors of the host, as
those of a GPU do, and what the program asks of the device is counted. A CUDA build of torch has the
device as cuda:0, so that half precision, loss scaling and fused optimisers are those of a GPU. Any
other build has it as a device of its own, `standin:0`, in single precision. Times say nothing.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name('driver_stub.cpp')


def built_with_cuda() -> bool:
    """Returns whether torch, which is not imported for that, is a build for CUDA."""
    spec = importlib.util.find_spec('torch')
    return spec is not None and spec.origin is not None and any(
        Path(spec.origin).parent.glob('lib/libtorch_cuda.*'))


def compiler() -> str | None:
    """Returns the C++ compiler that there is, if any."""
    return os.environ.get('CXX') or shutil.which('g++') or shutil.which('clang++')


def missing() -> str:
    """Returns what keeps the stand-in from working here; empty where nothing does."""
    if not sys.platform.startswith('linux'):
        return 'the stand-in device works on Linux alone'
    if built_with_cuda() and compiler() is None:
        return ('a torch that is built for CUDA needs a driver, and no C++ compiler was found to '
                'build the stand-in of one')
    return ''


def load_driver() -> ctypes.CDLL:
    """Builds and loads the stand-in of a driver; to be called before torch is imported.

    Raises subprocess.CalledProcessError where the compiler fails.
    """
    with tempfile.TemporaryDirectory(prefix='lerf_ros_driver_') as folder:
        library = Path(folder) / 'libcuda.so.1'
        subprocess.run([str(compiler()), '-std=c++17', '-O1', '-fPIC', '-shared',
                        '-Wl,-soname,libcuda.so.1', str(SOURCE), '-o', str(library)], check=True)
        return ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)


def main(arguments: list[str]) -> None:
    """Installs the device and runs the program; SystemExit with a reason where it cannot."""
    if not arguments or arguments == ['-m']:
        raise SystemExit(__doc__)
    if missing():
        raise SystemExit(missing())
    # Kernels written for a GPU cannot run here, nor can what a compiler makes for one.
    os.environ['TORCHDYNAMO_DISABLE'] = '1'
    for name in ('triton', 'tinycudann'):
        sys.modules[name] = None  # type: ignore[assignment]
    driver = load_driver() if built_with_cuda() else None
    from stand_in import stand_in

    with stand_in(driver):
        if arguments[0] == '-m':
            sys.argv = arguments[1:]
            runpy.run_module(arguments[1], run_name='__main__', alter_sys=True)
        else:
            sys.argv = arguments
            sys.path.insert(0, str(Path(arguments[0]).resolve().parent))    # as python does
            runpy.run_path(arguments[0], run_name='__main__')


if __name__ == '__main__':
    main(sys.argv[1:])
