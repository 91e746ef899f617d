# SPDX-License-Identifier: Apache-2.0
"""Child processes that are started together, print with a prefix, and are stopped cleanly."""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence

# How long each signal may take before the next one: the mapper writes a last snapshot first.
PATIENCE_S = ((signal.SIGINT, 35.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))
# How long the children of an ended child may take to end.
ORPHANS_S = 1.0
FLUSH_S = 1.0
POLL_S = 0.1
LAST_LINES = 15
# How often within a minute a child that died is started again, and how long after its end.
RESPAWNS, RESPAWN_WINDOW_S, RESPAWN_DELAY_S = 5, 60.0, 2.0
# Exit code for wrong settings: another start would end in the same way.
HOPELESS = 2


class Child:
    """A process in a group of its own; its output is printed with its name before each line."""

    def __init__(self, name: str, command: Sequence[str], width: int = 0):
        """width: to which the name is padded, so that the lines of all children align."""
        self.name, self.command, self.width = name, command, width
        self._prefix = f'[{name}]'.ljust(width + 2)
        self._last: collections.deque[str] = collections.deque(maxlen=LAST_LINES)
        # In a group of its own, so that Ctrl-C reaches only this process, which stops the child.
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True, env={**os.environ, 'PYTHONUNBUFFERED': '1'})
        self._reader = threading.Thread(target=self._pass_on, daemon=True)
        self._reader.start()

    @property
    def exit_code(self) -> int | None:
        """The exit code: None while it runs, -N where signal N ended it."""
        return self._process.poll()

    def death(self) -> str:
        """Describes how it ended, with its last lines."""
        self.flush()
        end = exit_in_words(self.exit_code)
        return '\n    '.join([f'{self.name} ended ({end}). Its last lines:', *self._last])

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the whole group, whose leader may have ended."""
        with contextlib.suppress(ProcessLookupError, PermissionError):   # all have ended
            os.killpg(self._process.pid, number)

    def group_alive(self) -> bool:
        """Returns whether the process or any child of its own still runs."""
        self._process.poll()    # else an ended leader stays in its group
        try:
            os.killpg(self._process.pid, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def flush(self) -> None:
        """Waits until all output of an ended process is printed."""
        self._reader.join(timeout=FLUSH_S)

    def _pass_on(self) -> None:
        assert self._process.stdout is not None
        for raw in self._process.stdout:
            line = raw.decode(errors='replace').rstrip()
            self._last.append(line)
            # In one write, so that the lines of several children do not mix.
            print(f'{self._prefix} {line}\n', end='', flush=True)


class ProcessGroup:
    """Children that are started, awaited and stopped together."""

    def __init__(self, respawn: bool = False) -> None:
        """respawn: whether children that die are started again, a few times."""
        self.children: list[Child] = []
        self._respawn = respawn
        self._deaths: dict[str, list[float]] = {}

    def start(self, commands: Mapping[str, Sequence[str]]) -> None:
        """Starts a child for each command by name; `stop` ends them even after an error here."""
        width = max(map(len, commands))
        for name, command in commands.items():
            self.children.append(Child(name, command, width))

    def wait(self, main: str = '', ends: str = '') -> int:
        """Waits and returns an exit code.

        With `main`, that of this child, or 1 as soon as another one ends; `ends` names one that may
        do so when its work is done. Without `main`, each end is
        reported, and the first code that is not 0 is returned after the last; but if children are
        started again, wrong settings of one end all.
        """
        code, running = 0, list(self.children)
        while running:
            time.sleep(POLL_S)
            for child in [c for c in running if c.exit_code is not None]:
                if child.name == main:
                    return exit_status(child.exit_code or 0)
                running.remove(child)
                if child.name == ends and child.exit_code == 0:
                    continue
                print(f'lerf_ros: {child.death()}', file=sys.stderr, flush=True)
                if main:
                    return 1
                if self._respawn and child.exit_code == HOPELESS:
                    return HOPELESS     # mapper and query node are of no use without each other
                if self._may_respawn(child):
                    time.sleep(RESPAWN_DELAY_S)
                    print(f'lerf_ros: {child.name} is started again', file=sys.stderr, flush=True)
                    again = Child(child.name, child.command, child.width)
                    self.children[self.children.index(child)] = again
                    running.append(again)
                    continue
                code = code or exit_status(child.exit_code or 0)
        return code

    def _may_respawn(self, child: Child) -> bool:
        """Returns whether it may start again: it died, not of wrong settings, not too often."""
        if not self._respawn or child.exit_code in (0, HOPELESS):
            return False
        now = time.monotonic()
        recent = [t for t in self._deaths.get(child.name, []) if now - t < RESPAWN_WINDOW_S]
        self._deaths[child.name] = [*recent, now]
        return len(recent) < RESPAWNS

    def stop(self) -> None:
        """Ends all children by SIGINT, then SIGTERM, then SIGKILL, and then what they left."""
        for number, patience_s in PATIENCE_S:
            running = [child for child in self.children if child.exit_code is None]
            for child in running:
                child.send(number)
            wait_until(lambda: all(c.exit_code is not None for c in self.children), patience_s)
        wait_until(lambda: not any(child.group_alive() for child in self.children), ORPHANS_S)
        for child in self.children:
            if child.group_alive():
                child.send(signal.SIGKILL)
        for child in self.children:
            child.flush()


def wait_until(condition: Callable[[], bool], limit_s: float) -> None:
    """Waits until the condition holds, or for limit_s."""
    end = time.monotonic() + limit_s
    while not condition() and time.monotonic() < end:
        time.sleep(POLL_S)


def exit_in_words(code: int | None) -> str:
    """Describes how a process ended; code: None while it runs, -N for the signal N."""
    if code is None or code >= 0:
        return f'exit code {code}'
    return f'signal {signal.Signals(-code).name}'


def exit_status(code: int) -> int:
    """Converts a child's exit code to a shell's exit status: 128 + number for a signal."""
    return code if code >= 0 else 128 - code


def run(commands: Mapping[str, Sequence[str]], main: str = '', respawn: bool = False,
        ends: str = '') -> int:
    """Runs the commands until they end, or until SIGINT, SIGTERM or SIGHUP; stops what is left.

    main, ends: as in ProcessGroup.wait. respawn: children that die of anything but wrong settings
    are started again, a few times.
    """
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt)
              for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    group = ProcessGroup(respawn)
    try:
        group.start(commands)
        return group.wait(main, ends)
    except KeyboardInterrupt:
        print('lerf_ros: stopping all nodes', file=sys.stderr, flush=True)
        return 130 if main else 0
    finally:
        for number in before:    # a second Ctrl-C must not leave processes behind
            signal.signal(number, signal.SIG_IGN)
        group.stop()
        for number, handler in before.items():
            signal.signal(number, handler)
