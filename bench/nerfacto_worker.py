# SPDX-License-Identifier: Apache-2.0
"""Runs training steps of nerfstudio's nerfacto one at a time, on request of training_step.py.

Runs in nerfstudio's environment. Each line on standard input is one step; the answer is a line of
JSON with its wall and processor seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from pathlib import Path

import torch
from nerfacto_curve import Nerfacto, without_downloads
from radiance_curve import Problem


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('problem', type=Path, help='problem.npz of radiance_quality.py --prepare')
    parser.add_argument('--threads', type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    without_downloads()
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):    # nerfstudio prints
        nerfacto = Nerfacto(Problem.load(arguments.problem), seed=42)
        for number, _ in enumerate(sys.stdin):
            wall, cpu = time.perf_counter(), time.process_time()
            nerfacto.step(number)
            print(json.dumps({'wall_s': time.perf_counter() - wall,
                              'cpu_s': time.process_time() - cpu}), file=answers, flush=True)


if __name__ == '__main__':
    main()
