"""What an .onnx file holds, read without onnx: its operators, and whether its weights lie in other files.

An ONNX model is a protocol buffer (the numbers of its fields are from onnx.proto). The run time follows a reference to
external data wherever it points to, absolute paths included, so such a file must be known before it is handed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

# Kind of message -> number of a field -> kind of message in it. What is not listed holds no tensor and no operator.
_WITHIN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_OPERATOR, _EXTERNAL_DATA, _DATA_LOCATION = 4, 13, 14  # of a node; of a tensor
_MOST_DEPTH = 32


@dataclass(frozen=True)
class OnnxContents:
    """operators: types in the order of the file, those of inner graphs included. external: weights in other files."""

    operators: list[str]
    external: bool


def read_contents(data: bytes) -> OnnxContents:
    """Raises ValueError for bytes that are no ONNX model."""
    operators: list[str] = []
    external = False
    for kind, number, value in _walk(memoryview(data), "model", 0):
        if kind == "node" and number == _OPERATOR and isinstance(value, memoryview):
            operators.append(bytes(value).decode("ascii", "replace"))
        elif kind == "tensor" and (number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value)):
            external = True
    if not operators:
        raise ValueError("no operators")
    return OnnxContents(operators, external)


def _walk(data: memoryview, kind: str, depth: int) -> Iterator[tuple[str, int, int | memoryview]]:
    """(kind of message, number of field, value) of all fields, those of inner messages behind the outer one's."""
    if depth > _MOST_DEPTH:
        raise ValueError("graphs within graphs without end")
    for number, value in _fields(data):
        yield kind, number, value
        inner = _WITHIN[kind].get(number)
        if inner and isinstance(value, memoryview):
            yield from _walk(value, inner, depth + 1)


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Fields of one message: number and value, an integer or the bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if size > len(data) - at:
            raise ValueError("cut short")
        yield number, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first; returns it and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("cut short")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number without end")
