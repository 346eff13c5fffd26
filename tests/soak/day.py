"""One day: trainings and the table of what they have so far, given until both succeed, while things happen."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.soak.calls import Call, Server, living_sessions
from tests.soak.clock import Clock
from tests.soak.disturbances import DISTURBANCES
from tests.soak.outcomes import what_is_wrong
from tests.soak.place import Place
from tests.soak.plan import Plan
from tests.soak.watched import NOTES, n_noted

_HANGS_AFTER = 300.0
_PATIENCE = 2.0
"""Seconds without a measurement until the next disturbance: tables are drawn and saved too. Grows, so as to end."""
_ENDS_WITHIN = 60.0
"""Seconds: a worker whose command is killed ends a second later, or when it has imported what it needs to look."""
_SUFFERS_FOR = 20.0
_LOOK_EVERY = 0.05


@dataclass
class Day:
    """What goes on, and what went wrong.

    Attributes:
        plan: sizes.
        place: where everything lies.
        clock: of all commands.
        server: what starts them.
        folder: of this day, in the place.
        notes: file of the measurements that begin.
        calls: all commands given.
        happened: how often each disturbance came.
        wrong: what must not have been.
    """

    plan: Plan
    place: Place
    clock: Clock
    server: Server
    folder: Path
    notes: Path
    chance: random.Random
    report: Callable[[str], None]
    calls: list[Call] = field(default_factory=list[Call])
    happened: Counter[str] = field(default_factory=Counter[str])
    wrong: list[str] = field(default_factory=list[str])
    _frozen: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    _deck: list[str] = field(default_factory=list[str])
    _finished: set[str] = field(default_factory=set[str])

    def work(self, disturbances: Sequence[str]) -> None:
        """Give both commands until they succeed; the table once more after the last training has."""
        self.folder.mkdir()
        due, patience = self._soon(), _PATIENCE
        waits_since, before = time.monotonic(), -1
        while self._finished != {"train", "table"}:
            self._give_what_is_missing()
            time.sleep(_LOOK_EVERY)
            self._look()
            if (now := self.progress()) != before:
                waits_since, before = time.monotonic(), now
            idle = time.monotonic() - waits_since > patience
            if (now >= due or idle) and disturbances and self.running():
                self._disturb(disturbances)
                due, patience = self._soon(), patience * (2 if idle else 1)
            if time.monotonic() - waits_since > _HANGS_AFTER:
                self._give_up()
                break
        self._end()
        self._once_more()

    def progress(self) -> int:
        """Measurements begun and snapshots taken."""
        return n_noted(self.notes) + len(list(self.folder.glob("*/snapshots/step_*")))

    def running(self) -> list[Call]:
        """Commands that have not ended."""
        return [call for call in self.calls if call.status is None]

    def give(self, kind: str, **environment: str) -> Call:
        """Give a command."""
        words = {
            "train": lambda: self.plan.train(self.folder, workers=self.plan.workers),
            "table": lambda: self.plan.table(
                self.folder, self.folder / "table.html", self.folder / "table.zarr", workers=self.plan.workers
            ),
        }[kind]()
        cold = self.plan.cold_every > 0 and (len(self.calls) + 1) % self.plan.cold_every == 0
        call = self.server.start(words, cold=cold, **{NOTES: str(self.notes), **environment})
        self.calls.append(call)
        return call

    def signal(self, pid: int, number: signal.Signals) -> None:
        """Send a signal to a process, if it still lives."""
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    def thaw_later(self, pid: int) -> None:
        """Let a frozen process go on when much has happened."""
        self._frozen.append((pid, self.progress() + self.chance.randint(1, 3 * self.plan.pace)))

    def suffer(self, name: str, *, begin_another: bool) -> None:
        """Wait until commands have failed by something that hinders all of them."""
        for call in self.running():
            call.disturbed_by.add(name)
        self._wait_for_calls()
        if begin_another:
            for kind in ("train", "table"):
                if kind not in self._finished and self._may_begin(kind):
                    self.give(kind).disturbed_by.add(name)
            self._wait_for_calls()
        for call in self.running():
            call.disturbed_by.add(name)  # an error may be on its way

    def _wait_for_calls(self) -> None:
        end = time.monotonic() + _SUFFERS_FOR
        while self.running() and time.monotonic() < end:
            time.sleep(_LOOK_EVERY)
            self._look()

    def _soon(self) -> int:
        return self.progress() + self.chance.randint(1, 2 * self.plan.pace)

    def _disturb(self, names: Sequence[str]) -> None:
        if not self._deck:
            self._deck = list(names)
            self.chance.shuffle(self._deck)
        time.sleep(self.chance.uniform(0, 0.2))
        self._look()
        if not self.running():
            return
        name = self._deck.pop()
        call = self.chance.choice(self.running())
        call.disturbed_by.add(name)
        self.happened[name] += 1
        self.report(f"{self.folder.name}, {n_noted(self.notes)} of {self.plan.n_entries} measured: {name}, {call.kind}")
        DISTURBANCES[name](self, call, self.chance)

    def _give_what_is_missing(self) -> None:
        active = {call.kind for call in self.running()}
        for kind in ("train", "table"):
            if kind not in self._finished | active and self._may_begin(kind):
                self.give(kind)

    def _may_begin(self, kind: str) -> bool:
        """A table needs a snapshot of every model."""
        return kind == "train" or all(any(self.folder.glob(f"{name}/snapshots/step_*")) for name in self.plan.names)

    def _look(self) -> None:
        """Judge what has ended; what was finished before the training had ended is given again."""
        now = self.progress()
        for pid, due in [*self._frozen]:
            if now >= due:
                self.signal(pid, signal.SIGCONT)
                self._frozen.remove((pid, due))
        for call in self.running():
            had_all = self.folder.exists() and "train" in self._finished and not call.disturbed_by & {"began_early"}
            if not self.server.has_ended(call):
                if "train" not in self._finished:
                    call.disturbed_by.add("began_early")
                continue
            if told := what_is_wrong(call, [str(self.folder)]):
                self.wrong.append(f"{told}: {call.log} ended with {call.status} after {sorted(call.disturbed_by)}")
            if call.status == 0 and (call.kind == "train" or had_all):
                self._finished.add(call.kind)

    def _give_up(self) -> None:
        self.wrong.append(f"nothing happened for {_HANGS_AFTER:.0f} s: {[str(call.log) for call in self.running()]}")
        for call in self.calls:
            call.send(signal.SIGKILL, to_all=True)

    def _once_more(self) -> None:
        """Give both commands again, undisturbed: nothing is left to do but to remove what the dead left."""
        before = self.progress()
        for kind in ("train", "table"):
            call = self.give(kind)
            while not self.server.has_ended(call):
                time.sleep(_LOOK_EVERY)
            if call.status != 0:
                self.wrong.append(f"given once more, {call.log} ended with {call.status}")
        if self.progress() != before:
            self.wrong.append("measured again although all was there")

    def _end(self) -> None:
        """Let frozen processes go, and wait until all have ended."""
        for pid, _ in self._frozen:
            self.signal(pid, signal.SIGCONT)
        end = time.monotonic() + _ENDS_WITHIN
        while time.monotonic() < end:
            self._look()
            if not self.running() and not {call.pid for call in self.calls} & living_sessions():
                return
            time.sleep(0.2)
        for call in self.calls:
            if left := call.processes():
                self.wrong.append(f"processes that did not end: {left} of {call.log}, status {call.status}")
                call.send(signal.SIGKILL, to_all=True)
