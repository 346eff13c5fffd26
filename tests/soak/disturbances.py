"""What may happen on a day; each disturbance is a function of the day and a line in the table at the end."""

import random
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.soak.clock import change_times

if TYPE_CHECKING:
    from tests.soak.calls import Call
    from tests.soak.day import Day


def kill_worker(day: "Day", call: "Call", chance: random.Random) -> None:
    """A worker is killed; the command goes on."""
    if workers := call.workers():
        day.signal(chance.choice(workers), signal.SIGKILL)


def kill_command(day: "Day", call: "Call", chance: random.Random) -> None:
    """The command's process is killed; its workers are not."""
    call.send(signal.SIGKILL)


def kill_everything(day: "Day", call: "Call", chance: random.Random) -> None:
    """All at once, as when a machine goes down."""
    call.send(signal.SIGKILL, to_all=True)


def terminate(day: "Day", call: "Call", chance: random.Random) -> None:
    """As a cluster's scheduler does before it kills."""
    call.send(signal.SIGTERM, to_all=chance.random() < 0.5)


def interrupt(day: "Day", call: "Call", chance: random.Random) -> None:
    """Control-C, to all processes as on a terminal or to the first."""
    call.send(signal.SIGINT, to_all=chance.random() < 0.5)


def freeze(day: "Day", call: "Call", chance: random.Random) -> None:
    """A process stands still for some seconds, and goes on."""
    frozen = chance.choice([call.pid, *call.workers()])
    day.signal(frozen, signal.SIGSTOP)
    time.sleep(chance.uniform(0.2, 3))
    day.signal(frozen, signal.SIGCONT)


def back_from_the_dead(day: "Day", call: "Call", chance: random.Random) -> None:
    """A worker stands still while its command is killed and given again; it goes on when others have done its work."""
    if workers := call.workers():
        frozen = chance.choice(workers)
        day.signal(frozen, signal.SIGSTOP)
        call.send(signal.SIGKILL)
        day.thaw_later(frozen)


def full_disk(day: "Day", call: "Call", chance: random.Random) -> None:
    """No space is left for a while; commands fail, and may be given again meanwhile."""
    day.place.fill(chance)
    try:
        day.suffer("full_disk", begin_another=chance.random() < 0.3)
    finally:
        day.place.free()


def read_only(day: "Day", call: "Call", chance: random.Random) -> None:
    """Nothing can be written for a while."""
    day.place.read_only()
    try:
        day.suffer("read_only", begin_another=chance.random() < 0.3)
    finally:
        day.place.writable()


def jump_of_the_clock(day: "Day", call: "Call", chance: random.Random) -> None:
    """By seconds to a year, forwards or backwards, under running processes."""
    day.clock.jump(chance)


def other_file_times(day: "Day", call: "Call", chance: random.Random) -> None:
    """All files are suddenly older or newer."""
    change_times(day.place.folder, chance)


def same_command_twice(day: "Day", call: "Call", chance: random.Random) -> None:
    """The command is given a second time while it runs."""
    day.give(call.kind)


Disturbance = Callable[["Day", "Call", random.Random], None]
DISTURBANCES: dict[str, Disturbance] = {
    made.__name__: made
    for made in (
        kill_worker,
        kill_command,
        kill_everything,
        terminate,
        interrupt,
        freeze,
        back_from_the_dead,
        full_disk,
        read_only,
        jump_of_the_clock,
        other_file_times,
        same_command_twice,
    )
}
