"""Whether a command may end as it did: what each disturbance may cost, and what must be said then."""

import re
from collections.abc import Iterable

from tests.soak.calls import Call

_SPACE, _READ_ONLY = "No space left on device", "Read-only file system"
_LOST = ("died 3 times", "workers were lost")
_MAY_SAY: dict[str, tuple[str, ...]] = {
    "full_disk": (_SPACE,),
    "read_only": (_READ_ONLY,),
    "kill_worker": _LOST,
    "terminate": _LOST,
}
_MAY_END: dict[str, set[int]] = {
    "kill_command": {-9},
    "kill_everything": {-9},
    "back_from_the_dead": {-9},
    # before the command begins and after it ended, it has not taken the signals over
    "terminate": {143, -15},
    "interrupt": {130, -2},
}
_IGNORED = re.compile(r"^Exception ignored .*\nTraceback", re.MULTILINE)
"""What Python says when a signal strikes in a destructor."""


def what_is_wrong(call: Call, places: Iterable[str]) -> str:
    """Why a command must not have ended like this; empty if it may.

    Args:
        call: the command.
        places: one of these an error must name.
    """
    if call.status not in (-2, -15) and "Traceback" in _IGNORED.sub("", call.said):
        return "a traceback"
    if call.status == 0 or any(call.status in _MAY_END.get(name, ()) for name in call.disturbed_by):
        return ""
    last = next((line for line in reversed(call.said.splitlines()) if line.startswith("ih-lens: ")), "")
    if call.status != 2 or not last:
        return f"status {call.status}, and no error of ours"
    if call.kind == "train" and "is being trained into by another process" in last:
        return ""
    phrases = [phrase for name in call.disturbed_by for phrase in _MAY_SAY.get(name, ())]
    if not any(phrase in last for phrase in phrases):
        return "an error that nothing explains"
    if any(phrase in last for phrase in (_SPACE, _READ_ONLY)) and not any(place in last for place in places):
        return "an error that does not say where"
    return ""
