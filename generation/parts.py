"""Finished work of a run that is under way, in OUT/.parts: what is there is not done again.

    blocks/000/000012.part        verdicts of neighbouring slots' first samples, embeddings of those that passed
    firsts/000/000012.part        their encoded pictures
    rounds/000/000193/000017.part a round of the person of slot 193, from attempt 17 on: accepted pictures and all else
    groups/000/000000.part        identity features that were computed together (--identities spread)
    people/000/000193.part        a finished person, without pictures, which the layout has; its rounds are gone then

All processes share the folder. A part is a SHA-256 and a safetensors file of arrays; texts are arrays of bytes. One
that a bad disk has damaged, or that is no part at all, counts as absent: it is made again, to the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from dnnlib.errors import UserError
from dnnlib.files import StrPath, atomic_write_bytes, atomic_write_json, read_json
from generation.candidates import Embeddings, Encoded
from generation.records import Block, Person, Record, Round
from generation.rules import KEPT, Rule
from torch_utils.distributed import rank
from torch_utils.spectra import SPECTRA

PARTS, CLOCK = ".parts", "seconds.json"
DIGEST = hashlib.sha256().digest_size
MOST_BYTES = 4 << 30  # of a part: a thousand large pictures
CLOCK_SECONDS = 5.0  # between two writings of the clock
FIELDS = [field.name for field in fields(Record)]
VERDICTS = {KEPT, *(rule.value for rule in Rule)}

Arrays = dict[str, NDArray[Any]]
T = TypeVar("T")


class Parts:
    """What `load_*` returns equals what was saved; None where nothing whole was."""

    def __init__(self, outdir: StrPath) -> None:
        self.folder = Path(outdir) / PARTS
        self.started = self._told = time.monotonic()
        self.earlier = _seconds(self.folder / CLOCK)

    # ------------------------------------------------------------------------
    # Blocks.

    def load_block(self, index: int, pictures: bool = False) -> Block | None:
        """pictures: the encoded ones, too."""

        def block(arrays: Arrays) -> Block:
            verdicts = [_verdict(text) for text in _json(arrays["verdicts"])]
            passed = arrays["passed"].astype(np.int64)
            embeddings = _embeddings(arrays, len(passed))
            encoded = self._load("firsts", index, lambda more: _encoded(more, len(passed))) if pictures else []
            if encoded is None or passed.tolist() != [row for row, text in enumerate(verdicts) if text == KEPT]:
                raise ValueError("not a whole block")
            real = arrays["max_sim_real"].reshape(len(verdicts))
            return Block(verdicts, real, passed, embeddings, encoded, _checked(arrays, len(verdicts)))

        return self._load("blocks", index, block)

    def save_block(self, index: int, block: Block) -> None:
        """The pictures first: a block that is there has them."""
        self._save("firsts", index, _packed(block.encoded))
        arrays: Arrays = {"verdicts": _text(block.verdicts), "max_sim_real": block.max_sim_real, "passed": block.passed}
        for name, kinds in block.checked.items():
            arrays |= {f"checked_{name}_{kind}": values for kind, values in kinds.items()}
        self._save("blocks", index, {**arrays, **_prefixed(block.embeddings)})

    # ------------------------------------------------------------------------
    # People and their rounds.

    def load_round(self, slot: int, attempt: int) -> Round | None:
        """The round of that person that begins with that attempt."""

        def found(arrays: Arrays) -> Round:
            records = _records(arrays["records"])
            accepted = sum(record.verdict == KEPT for record in records)
            return Round(records, _embeddings(arrays, accepted), _encoded(arrays, accepted))

        return self._load(_rounds(slot), attempt, found)

    def save_round(self, slot: int, attempt: int, found: Round) -> None:
        arrays = {"records": _text([_row(record) for record in found.records])}
        self._save(_rounds(slot), attempt, {**arrays, **_prefixed(found.embeddings), **_packed(found.encoded)})

    def load_person(self, slot: int) -> Person | None:
        """One that is complete has its pictures in the layout."""

        def person(arrays: Arrays) -> Person:
            identity, complete = (int(value) for value in arrays["person"])
            records = _records(arrays["records"])
            return Person(slot, identity, bool(complete), records, _embeddings(arrays, None))

        return self._load("people", slot, person)

    def save_person(self, person: Person) -> None:
        """And forget its rounds."""
        arrays: Arrays = {
            "person": np.array([person.identity, person.complete], dtype=np.int64),
            "records": _text([_row(record) for record in person.records]),
        }
        self._save("people", person.slot, {**arrays, **_prefixed(person.embeddings)})
        shutil.rmtree(self._path(_rounds(person.slot), 0).parent, ignore_errors=True)

    def finished_person(self, slot: int) -> Person:
        """A person that has been finished. Raises UserError where its part is whole no longer."""
        person = self.load_person(slot)
        if person is None:
            path = self._path("people", slot)
            raise UserError(f"--outdir: {path}: is damaged or gone; the same command makes it again from here")
        return person

    # ------------------------------------------------------------------------
    # What identities have in common.

    def load_group(self, index: int) -> NDArray[np.float32] | None:
        """Identity features [G, D] that were computed together."""
        return self._load("groups", index, lambda arrays: arrays["features"].astype(np.float32))

    def save_group(self, index: int, features: NDArray[np.float32]) -> None:
        self._save("groups", index, {"features": features})

    # ------------------------------------------------------------------------
    # The whole.

    @property
    def seconds(self) -> float:
        """Seconds of work, those of earlier, interrupted runs included."""
        return self.earlier + time.monotonic() - self.started

    def tell_time(self, every: float = CLOCK_SECONDS) -> None:
        """Notes `seconds` for a run that goes on later, at most once in `every` seconds."""
        if time.monotonic() - self._told >= every:
            self._told = time.monotonic()
            atomic_write_json(self.folder / CLOCK, {"seconds": self.seconds})

    def discard(self) -> None:
        """Delete all parts: the run is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, kind: str, number: int) -> Path:
        folder = kind if "/" in kind else f"{kind}/{number // 1000:03d}"
        return self.folder / folder / f"{number:06d}.part"

    def _load(self, kind: str, number: int, make: Callable[[Arrays], T]) -> T | None:
        try:
            return make(_read(self._path(kind, number)))
        except (OSError, SafetensorError, LookupError, ValueError, TypeError, AttributeError, RecursionError):
            return None

    def _save(self, kind: str, number: int, arrays: Arrays) -> None:
        data = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
        atomic_write_bytes(self._path(kind, number), hashlib.sha256(data).digest() + data)
        if rank() == 0:
            self.tell_time()


def _rounds(slot: int) -> str:
    return f"rounds/{slot // 1000:03d}/{slot:06d}"


def _seconds(path: Path) -> float:
    """What an earlier run has noted; 0 where it is gone or damaged: it is only told, nothing depends on it."""
    try:
        return max(0.0, float(read_json(path)["seconds"]))
    except (UserError, KeyError, TypeError, ValueError):
        return 0.0


# ----------------------------------------------------------------------------
# Arrays.


def _read(path: Path) -> Arrays:
    """Raises OSError or ValueError for what is not a whole part."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_BYTES:
        raise ValueError("not a part")
    data = path.read_bytes()
    if hashlib.sha256(data[DIGEST:]).digest() != data[:DIGEST]:
        raise ValueError("damaged")
    return load(data[DIGEST:])


def _text(value: Any) -> NDArray[np.uint8]:
    """As JSON, with infinities."""
    return np.frombuffer(json.dumps(value).encode(), dtype=np.uint8)


def _json(array: NDArray[Any]) -> Any:
    return json.loads(array.astype(np.uint8).tobytes())


def _verdict(text: Any) -> str:
    if text not in VERDICTS:
        raise ValueError("not a verdict")
    return str(text)


def _row(record: Record) -> list[Any]:
    return [getattr(record, name) for name in FIELDS]


def _records(array: NDArray[Any]) -> list[Record]:
    records = [Record(*row) for row in _json(array)]
    for record in records:
        slot, seed, verdict, *rest, checked = _row(record)
        _verdict(verdict)
        numbers = (slot, seed, *(value for value in rest if value is not None))
        if not all(isinstance(number, (int, float)) for number in numbers) or not _is_checked(checked):
            raise ValueError("not a record")
    return records


def _checked(arrays: Arrays, count: int) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Similarities of other spectra, [count] each: spectrum -> which one -> values."""
    found: dict[str, dict[str, NDArray[np.float64]]] = {}
    for key, values in sorted(arrays.items()):
        if key.startswith("checked_"):
            _, name, kind = key.split("_", 2)
            found.setdefault(name, {})[kind] = values.astype(np.float64).reshape(count)
    return found


def _is_checked(value: Any) -> bool:
    return value is None or all(
        name in SPECTRA and all(isinstance(number, float) for number in kinds.values()) for name, kinds in value.items()
    )


def _prefixed(embeddings: Embeddings) -> Arrays:
    return {f"embeddings_{name}": rows for name, rows in embeddings.items()}


def _embeddings(arrays: Arrays, count: int | None) -> Embeddings:
    """count: rows that there must be; None: any number."""
    found = {name: arrays[f"embeddings_{name}"] for name in SPECTRA if f"embeddings_{name}" in arrays}
    rows = {len(array) if array.ndim == 2 and array.dtype == np.float32 else -1 for array in found.values()}
    if "vis" not in found or len(rows) != 1 or rows & {-1} or (count is not None and rows != {count}):
        raise ValueError("embeddings are missing")
    return found


def _packed(encoded: Sequence[Encoded]) -> Arrays:
    """All files of a spectrum one after the other, and how long each is."""
    arrays: Arrays = {}
    for name in SPECTRA:
        files = [pair[name] for pair in encoded]
        arrays[f"files_{name}"] = np.frombuffer(b"".join(files), dtype=np.uint8)
        arrays[f"lengths_{name}"] = np.array([len(file) for file in files], dtype=np.int64)
    return arrays


def _encoded(arrays: Arrays, count: int) -> list[Encoded]:
    pairs: list[Encoded] = [{} for _ in range(count)]
    for name in SPECTRA:
        data, lengths = arrays[f"files_{name}"].astype(np.uint8).tobytes(), arrays[f"lengths_{name}"]
        ends = np.cumsum(lengths)
        if len(lengths) != count or (count and (lengths.min() < 0 or ends[-1] != len(data))):
            raise ValueError("pictures are missing")
        for pair, end, length in zip(pairs, ends.tolist(), lengths.tolist(), strict=True):
            pair[name] = data[end - length : end]
    return pairs
