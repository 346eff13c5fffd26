"""Changes to files that keep enough of their structure to get past the first check."""

import copy
import json
from random import Random
from typing import Any

from tests.fuzz.targets import Kind

_ODD_NUMBERS: list[Any] = [0, -1, 1, 2**31, 2**63, 2**64, 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf")]
_ODD_TEXTS = ["", "\x00", "../../etc/passwd", "/etc/passwd", "..\\up", "\ud800", "<script>", "float32", "O", "x" * 3000]
_ODD_VALUES: list[Any] = [None, True, False, [], {}, [[]], {"": {}}, [None], *_ODD_NUMBERS, *_ODD_TEXTS]
_HARD_JSON = [
    b"[" * 100_000,
    b"9" * 5000,
    b'{"a":1,"a":2}',
    b"1e999",
    b"NaN",
    b"\xff\xfe",
    b"\xef\xbb\xbf{}",
    b'"\\ud800"',
]


def mutated(content: bytes, kind: Kind, random: Random) -> bytes:
    """A changed copy."""
    if random.random() < 0.15:
        return _changed_bytes(content, random)
    try:
        if kind == "json":
            return _changed_json(content, random)
        if kind == "safetensors":
            return _changed_safetensors(content, random)
    except (ValueError, RecursionError, AttributeError, IndexError):  # no longer of its kind after earlier changes
        pass
    return _changed_bytes(content, random)


def _changed_bytes(content: bytes, random: Random) -> bytes:
    """Bits flipped, a part cut, doubled or filled, or all of it cut short."""
    data = bytearray(content)
    for _ in range(random.randint(1, 4)):
        if not data:
            return random.choice([b"", b"\x00", b"{}"])
        start = random.randrange(len(data))
        stop = min(len(data), start + random.choice([1, 2, 8, 64]))
        change = random.randrange(6)
        if change == 0:
            data[start] ^= 1 << random.randrange(8)
        elif change == 1:
            data[start:stop] = bytes(random.choice([0, 255, 10, 34, 91]) for _ in range(stop - start))
        elif change == 2:
            del data[start:stop]
        elif change == 3:
            data[start:start] = data[start:stop]
        elif change == 4:
            del data[start:]
        else:
            data[start:stop] = random.choice(_HARD_JSON)
    return bytes(data)


def _changed_json(content: bytes, random: Random) -> bytes:
    tree = json.loads(content)
    for _ in range(random.randint(1, 3)):
        tree = _changed_tree(tree, random)
    text = json.dumps(tree)
    return (text if random.random() < 0.9 else _with_a_doubled_key(text)).encode()


def _changed_safetensors(content: bytes, random: Random) -> bytes:
    """Another header before the same numbers, sometimes with JSON inside its texts changed."""
    size = int.from_bytes(content[:8], "little")
    header, numbers = json.loads(content[8 : 8 + size]), content[8 + size :]
    for name, text in header.get("__metadata__", {}).items():
        if isinstance(text, str) and text.startswith(("{", "[")) and random.random() < 0.5:
            header["__metadata__"][name] = _changed_json(text.encode(), random).decode()
    if random.random() < 0.6:
        header = _changed_tree(header, random)
    if random.random() < 0.3:
        numbers = _changed_bytes(numbers, random)
    written = json.dumps(header).encode()
    return len(written).to_bytes(8, "little") + written + numbers


def _changed_tree(tree: Any, random: Random) -> Any:
    """One place somewhere in it replaced, removed, moved or doubled."""
    places: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        inside = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in inside:
            places.append((node, key))
            waiting.append(value)
    if not places or random.random() < 0.02:
        return copy.deepcopy(random.choice(_ODD_VALUES))
    holder, key = random.choice(places)
    change = random.randrange(6)
    if change == 0:
        del holder[key]
    elif change == 1:
        other_holder, other_key = random.choice(places)
        holder[key] = json.loads(json.dumps(other_holder[other_key]))
    elif change == 2 and isinstance(holder, dict):
        holder[random.choice(["extra", *_ODD_TEXTS])] = holder.pop(key)
    elif change == 3 and isinstance(holder, list):
        holder.append(holder[key])
    elif change == 4:
        for _ in range(random.choice([1, 30, 90])):
            holder[key] = [holder[key]]
    else:
        holder[key] = copy.deepcopy(random.choice(_ODD_VALUES))
    return tree


def _with_a_doubled_key(text: str) -> str:
    first, brace, rest = text.partition("{")
    key = rest.split(":", 1)[0]
    return f"{first}{brace}{key}: null, {rest}" if brace and key.startswith('"') else text
