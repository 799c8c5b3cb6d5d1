"""Released pickles: what they draw equals the definition, and nothing that hides in one runs."""

import io
import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dnnlib.errors import UserError
from tests.training import released
from torch_utils.inert_tensors import TensorReader
from training.discriminator import Discriminator
from training.import_pkl import (
    DISCRIMINATORS,
    discriminator_weights,
    import_generator,
    is_pickle,
    main,
    read_pickle,
)
from training.snapshots import load_generator
from training.weights import describe_discriminator, load_strictly


def latents(count: int = 3, z: int = 16, c: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(5)
    return torch.randn(count, z, generator=rng), torch.randn(count, c, generator=rng)


# ----------------------------------------------------------------------------
# What is read.


@pytest.mark.parametrize("clamp", [None, 2.0])
def test_a_dual_branch_generator_draws_what_it_is_defined_to(tmp_path: Path, clamp: float | None) -> None:
    node = released.generator(clamp=clamp)
    path = released.save(tmp_path / "x.pkl", G=released.generator(seed=3), G_ema=node, D=None)
    ours, lines = import_generator(path)
    z, c = latents()
    expected = released.draw(node, z, c, psi=0.7, clamp=clamp)
    images = ours(z, c, truncation_psi=0.7, noise_mode="const")
    for name, head in (("vis", "torgb"), ("nir", "toseg")):
        scale = expected[head].abs().max()
        assert scale > 1 and torch.allclose(images[name].double() / scale, expected[head] / scale, atol=1e-5), name
    assert ours.init_kwargs["clamp"] == clamp and not any("luminance" in line for line in lines)
    assert ours.metadata["recognition_model"] == "unknown"


def test_a_network_without_nir_starts_from_the_luminance(tmp_path: Path) -> None:
    """Unconditional, as StyleGAN2-ADA's published ones: NIR = 0.299 red + 0.587 green + 0.114 blue."""
    node = released.generator(c=0, heads={"torgb": 3})
    ours, lines = import_generator(released.save(tmp_path / "x.pkl", G_ema=node))
    z, _ = latents()
    images = ours(z, torch.zeros(3, 0))
    vis = released.draw(node, z, None, heads=("torgb",))["torgb"]
    assert torch.allclose(images["vis"].double(), vis, atol=1e-3)
    grey = (vis * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1, keepdim=True)
    assert torch.allclose(images["nir"].double(), grey, atol=1e-3)
    assert sum("luminance" in line for line in lines) == 1


@pytest.mark.parametrize("clamp", [None, 2.0])
def test_discriminators_judge_as_they_are_defined_to(tmp_path: Path, clamp: float | None) -> None:
    nodes = {"vis": released.discriminator(3, c=8, clamp=clamp, frozen=3), "nir": released.discriminator(1, c=0)}
    path = released.save(tmp_path / "x.pkl", D=nodes["vis"], D_NIR=nodes["nir"], G_ema=released.generator())
    networks = read_pickle(path, "--x")
    _, c = latents(4)
    for name, channels, condition, limit in (("vis", 3, c, clamp), ("nir", 1, None, None)):
        images = torch.randn(4, channels, 32, 32, generator=torch.Generator().manual_seed(1))
        expected = released.judge(nodes[name], images, condition, limit)
        state = discriminator_weights(networks[DISCRIMINATORS[name]], name)
        ours = Discriminator(**describe_discriminator(state, name), clamp=limit, mbstd_group=2)
        load_strictly(ours, state, name)
        assert torch.allclose(ours(images, condition).double(), expected, rtol=1e-4, atol=1e-4), name
        assert expected.std() > 0.01


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_every_protocol_and_a_gpus_storages(tmp_path: Path, protocol: int) -> None:
    node = released.generator()
    path = released.save(tmp_path / "cpu.pkl", protocol, G=node)
    data = path.read_bytes()
    assert data.count(b"X\x03\x00\x00\x00cpu") == len(dict(node.tensors()))
    (tmp_path / "gpu.pkl").write_bytes(data.replace(b"X\x03\x00\x00\x00cpu", b"X\x03\x00\x00\x00gpu"))
    for name in ("cpu.pkl", "gpu.pkl"):
        state = read_pickle(tmp_path / name, "--x")["G"].state
        assert state.keys() == dict(node.tensors()).keys()
        assert all(torch.equal(state[name], value) for name, value in node.tensors())


def test_protocol_2_writes_bytes_in_a_way_that_no_release_does(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds _codecs\.encode, which is not part of a network"):
        read_pickle(released.save(tmp_path / "x.pkl", 2, G=released.generator()), "--x")


def storage_bytes(tensor: torch.Tensor, zipped: bool = False) -> bytes:
    stream = io.BytesIO()
    torch.save(tensor._typed_storage(), stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


def as_record(raw: bytes, offset: Any = 0, size: Any = (2, 3), stride: Any = (3, 1)) -> Any:
    from torch_utils.inert_pickle import Record

    return Record(
        "torch._utils._rebuild_tensor_v2", (Record("torch.storage._load_from_bytes", (raw,)), offset, size, stride)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64])
@pytest.mark.parametrize("zipped", [False, True])
def test_storages_of_each_kind(dtype: torch.dtype, zipped: bool) -> None:
    tensor = torch.arange(6).to(dtype)
    raw = storage_bytes(tensor, zipped)
    if not zipped:  # where the storage was says nothing
        raw = raw.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:1").replace(b"ctorch\n", b"ctorch.cuda\n")
    read = TensorReader("x", 100).tensor(as_record(raw, 1, (2, 2), (2, 1)))
    assert read.dtype == dtype and read.tolist() == [[1, 2], [3, 4]]


def test_kinds_of_files_are_told_by_their_bytes(tmp_path: Path) -> None:
    released.save(tmp_path / "a.bin", G=released.generator())
    safetensors = (0x380).to_bytes(8, "little") + b'{"a":1}'
    (tmp_path / "b.pkl").write_bytes(safetensors)
    torch.save({}, tmp_path / "c.pkl")
    assert is_pickle(tmp_path / "a.bin")
    assert not any(is_pickle(tmp_path / name) for name in ("b.pkl", "c.pkl", "nowhere.pkl"))


def test_the_command_converts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = released.save(tmp_path / "x.pkl", G_ema=released.generator(heads={"torgb": 3}))
    with pytest.raises(SystemExit) as ended:
        main([str(path), str(tmp_path / "y.safetensors")])
    assert ended.value.code == 0 and "luminance" in capsys.readouterr().err
    first, second = load_generator(path), load_generator(tmp_path / "y.safetensors")
    assert first.metadata == second.metadata
    for name, image in first(*latents()).items():
        assert torch.equal(image, second(*latents())[name])
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "nowhere.pkl"), str(tmp_path / "z.safetensors")])
    err = capsys.readouterr().err
    assert ended.value.code == 2 and err.count("\n") == 1 and "nowhere.pkl: No such file" in err
    assert not (tmp_path / "z.safetensors").exists()


# ----------------------------------------------------------------------------
# What is refused: nothing runs, and the line says what it was.


class Calls:
    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> tuple:
        return self.reduced


def network_with(**attributes: Any) -> Any:
    node = released.generator()
    node.attributes |= attributes
    return node


TOUCH = "touch ran"
EVIL: dict[str, tuple[Any, str]] = {
    "system": (Calls(os.system, TOUCH), "posix.system"),
    "eval": (Calls(eval, "open('ran', 'w')"), "builtins.eval"),
    "exec": (Calls(exec, "open('ran', 'w')"), "builtins.exec"),
    "getattr": (Calls(getattr, "", "join"), "builtins.getattr"),
    "load": (Calls(torch.load, "x"), "torch.serialization.load"),
    "open": (Calls(open, "ran", "w"), "open"),
    "path": (Calls(Path.touch, Path("ran")), "getattr|pathlib"),
    "class": (subprocess.Popen, "subprocess.Popen"),
    "attribute": ({"G": network_with(hook=Calls(os.system, TOUCH))}, "posix.system"),
    "function": ({"G": network_with(hook=os.system)}, "posix.system"),
    "state": ({"G": Calls(OrderedDict, state={"f": os.system})}, "posix.system"),
    "method": ({"G": torch.nn.Linear(1, 1).apply}, "getattr|builtins"),
}


@pytest.mark.parametrize("name", EVIL)
@pytest.mark.parametrize("protocol", [3, 5])
def test_evil_pickles_are_refused_by_name_and_run_nothing(
    name: str, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content, named = EVIL[name]
    Path("x.pkl").write_bytes(released.dumps(content, protocol))
    before = set(sys.modules)
    with pytest.raises(UserError, match=rf"^--init-from: x\.pkl: holds .*({named}).*, which is not part of a network"):
        read_pickle("x.pkl", "--init-from")
    assert not Path("ran").exists() and set(sys.modules) == before


def program(*parts: bytes) -> bytes:
    return b"\x80\x04" + b"".join(parts) + b"."


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


DEEP = 100_000
PROGRAMS: dict[str, tuple[bytes, str]] = {
    "stacked global": (program(text("os"), text("system"), b"\x93", text(TOUCH), b"\x85R"), "holds os.system"),
    "new object": (program(b"csubprocess\nPopen\n", text(TOUCH), b"\x85\x81"), "holds subprocess.Popen"),
    "dotted global": (program(text("collections"), text("OrderedDict.fromkeys"), b"\x93)R"), "OrderedDict.fromkeys"),
    "instance": (program(b"(", text(TOUCH), b"ios\nsystem\n"), "the pickle instruction INST"),
    "object": (program(b"(", b"ccollections\nOrderedDict\n", b"o"), "the pickle instruction OBJ"),
    "extension": (program(b"\x82\x01"), "the pickle instruction EXT1"),
    "persistent id": (program(b"N", b"Q"), "the pickle instruction BINPERSID"),
    "call of a value": (program(b"]", b")R"), "calls a list"),
    "state of a global": (
        program(b"ccollections\nOrderedDict\n", b"}", text("a"), b"Nsb"),
        "gives a state to a Global",
    ),
    "state of text": (program(text("a"), b"}", text("a"), b"Nsb"), "gives a state to a str"),
    "huge memo": (program(b"Nr\xff\xff\xff\xff"), "a dict of G, D and G_ema is needed"),
    "huge bytes": (b"\x80\x04\x8e" + (1 << 60).to_bytes(8, "little") + b"x.", "truncated or not a pickle"),
    "negative bytes": (b"\x80\x04B\xff\xff\xff\xffx.", "truncated or not a pickle"),
    "tuple as a key": (program(b"}", b")", b"Ns"), "keys are neither text nor integers"),
    "deep": (program(b"]" * DEEP, b"a" * (DEEP - 1)), "a dict of G, D and G_ema is needed"),
    "deep tuple in a set": (program(b"\x8f(", b")", b"\x85" * DEEP, b"\x90"), "a dict of G, D and G_ema is needed"),
    "underflow": (program(b"\x87"), "truncated or not a pickle"),
    "empty": (b"", "truncated or not a pickle"),
    "text": (b"hello", "truncated or not a pickle"),
    "number": (program(b"K\x01"), "a dict of G, D and G_ema is needed"),
    "no network": (program(b"}", text("G"), b"Ns"), "a pickle without a network"),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_hostile_programs_end_in_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data, words = PROGRAMS[name]
    Path("x.pkl").write_bytes(data)
    with pytest.raises(UserError, match=rf"^--init-from: x\.pkl: .*{words}"):
        read_pickle("x.pkl", "--init-from")
    assert not Path("ran").exists()


def test_an_endless_tree_is_refused(tmp_path: Path) -> None:
    """A module within itself, and thirty levels of two names for one module each: 2^30 modules in a small file."""
    loop = torch.nn.Sequential()
    loop._modules["again"] = loop._modules["twice"] = loop
    looped = released.Node("Generator")
    looped.modules["loop"] = loop
    inner = released.Node("Generator")
    for _ in range(30):
        outer = released.Node("Generator")
        outer.modules = {"a": inner, "b": inner}
        inner = outer
    for node in (looped, inner):
        with pytest.raises(UserError, match="without an end"):
            read_pickle(released.save(tmp_path / "x.pkl", G=node), "--x")


def test_a_small_file_that_names_the_same_thing_again_and_again_stays_small(tmp_path: Path) -> None:
    """A tensor under many names, which would be copied for each; a module under many; settings within settings."""

    def many(thing: Any) -> dict[str, Any]:
        return {f"n{index}": thing for index in range(150)}

    copied, inner, outer = released.Node("Generator"), released.Node("X"), released.Node("Generator")
    copied.buffers = many(torch.zeros(100_000, dtype=torch.uint8))
    inner.modules, outer.modules = many(released.Node("X")), many(inner)
    settings: dict[str, Any] = many(1)
    settings["block_kwargs"] = {str(index): 1 for index in range(1000)}
    nested = released.Node("Generator", mapping_kwargs=settings)
    cases = {"larger than the file": copied, "without an end": outer, "block_kwargs of a module": nested}
    for words, node in cases.items():
        with pytest.raises(UserError, match=words):
            read_pickle(released.save(tmp_path / "x.pkl", G=node), "--x")
    fine = released.generator()
    path = released.save(tmp_path / "x.pkl", G=fine, G_ema=fine, other=copied)
    assert list(read_pickle(path, "--x")) == ["G", "G_ema"]  # what nobody asks for is not read


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": (2, 4)}, "beyond its storage"),
        ({"size": (1 << 40, 1 << 40), "stride": (0, 0)}, "beyond its storage"),
        ({"offset": 1}, "beyond its storage"),
        ({"offset": -1}, "beyond its storage"),
        ({"stride": (-3, 1)}, "beyond its storage"),
        ({"size": [2, 3]}, "beyond its storage"),
        ({"size": (True, 3)}, "beyond its storage"),
        ({"raw": storage_bytes(torch.arange(6.0))[:-1]}, "has 23 bytes"),
        ({"raw": storage_bytes(torch.arange(6.0), zipped=True)[:-30]}, "cannot be read"),
        ({"raw": b""}, "truncated or not a pickle"),
        ({"raw": storage_bytes(torch.arange(6.0)).replace(b"K\x06N", b"K\x07N")}, "cannot be read"),
        (
            {"raw": storage_bytes(torch.arange(6.0)).replace(b"ctorch\nFloatS", b"cposix\nsystem\nS")},
            "holds posix.system",
        ),
        ({"raw": pickle.dumps(Calls(os.system, TOUCH))}, "holds posix.system"),
        ({"raw": storage_bytes(torch.arange(1000.0)), "size": (1000,), "stride": (1,)}, "larger than the file"),
    ],
)
def test_hostile_storages_end_in_one_line(change: dict, words: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = {"raw": storage_bytes(torch.arange(6.0)), **change}
    with pytest.raises(UserError, match=rf"^x: .*({words})"):
        TensorReader("x", 1000).tensor(as_record(**arguments))
    assert not Path("ran").exists()


def test_names_that_are_none_are_refused(tmp_path: Path) -> None:
    """They would go into messages on a terminal."""
    node = released.generator()
    node.modules["\x1b[2J\n"] = node.modules.pop("mapping")
    with pytest.raises(UserError, match="_modules of a module is not a dict of names; refused"):
        read_pickle(released.save(tmp_path / "x.pkl", G=node), "--x")


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    whole = released.save(tmp_path / "x.pkl", G=released.generator()).read_bytes()
    for length in np.linspace(0, len(whole) - 1, 40).astype(int):
        (tmp_path / "x.pkl").write_bytes(whole[:length])
        with pytest.raises(UserError, match="truncated or not a pickle"):
            read_pickle(tmp_path / "x.pkl", "--x")


def test_damaged_files_are_refused_or_read(tmp_path: Path) -> None:
    """One wrong byte anywhere never brings another exception than the user's."""
    whole = released.save(tmp_path / "x.pkl", G_ema=released.generator(widths=(4, 4), resolution=8)).read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for place in rng.integers(len(whole), size=200):
        damaged = bytearray(whole)
        damaged[place] = rng.integers(256)
        (tmp_path / "x.pkl").write_bytes(damaged)
        try:
            import_generator(tmp_path / "x.pkl")
        except UserError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize(
    ("networks", "words"),
    [
        ({"G": released.generator(architecture="resnet")}, "has architecture 'resnet'; this framework has skip"),
        ({"G": released.Node("GeneratorOfAnotherKind")}, "G: the network GeneratorOfAnotherKind, where a Generator"),
        ({"G": released.discriminator()}, "G: the network Discriminator, where a Generator is needed"),
        ({"G": released.Node("Generator")}, "G: not a StyleGAN2 generator"),
        ({"D": released.discriminator()}, "holds D, but no generator"),
        ({"G": released.generator(widths=(16, 8, 16, 4))}, "8 channels at resolution 8 are not a width"),
        ({"G": released.generator(heads={"torgb": 1, "toseg": 1})}, "its VIS heads draw 1 channels, not 3"),
        ({"G": released.generator(heads={"torgb": 3, "toseg": 3})}, "its NIR heads draw 3 channels, not 1"),
        ({"G": released.generator(heads={"torgb": 3, "tothermal": 1})}, "unexpected: .*tothermal"),
        ({"G": network_with(z_dim=17)}, "says z_dim 17, but its weights are of 16"),
        ({"G": released.generator(activation="relu")}, "has activation 'relu'; this framework has lrelu"),
        ({"G": released.generator(conv_clamp=-1.0)}, "conv_clamp is"),
    ],
)
def test_networks_of_another_kind_are_refused(networks: dict, words: str, tmp_path: Path) -> None:
    path = released.save(tmp_path / "x.pkl", **networks)
    with pytest.raises(UserError, match=rf"^--gen-model: .*x\.pkl: .*{words}"):
        load_generator(path)


def test_broken_weights_are_refused(tmp_path: Path) -> None:
    node = released.generator()
    node.modules["mapping"].buffers["w_avg"][0] = float("nan")
    with pytest.raises(UserError, match="1 weights hold NaN or infinity, the first is mapping.w_avg"):
        import_generator(released.save(tmp_path / "x.pkl", G=node))
