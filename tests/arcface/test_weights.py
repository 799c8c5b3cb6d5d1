"""Loading and saving recognition models, and the one line about each broken file."""

import io
import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from arcface.alignment import ARCFACE_TEMPLATE, PORTRAIT_TEMPLATE, Template
from arcface.backbones import build_backbone
from arcface.weights import fingerprint, load_recognition, read_checkpoint, save_recognition
from dnnlib.errors import UserError


@pytest.fixture(scope="module")
def narrow() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_backbone("mbfn", 32).eval()


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MobileFaceNet state dict as arcface_torch saves it."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "mbf.pth"
    torch.save(build_backbone("mbf").state_dict(), path)
    return path


def test_own_format_comes_back_as_it_was(narrow: torch.nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    mark = save_recognition(path, narrow, "mbfn", 32, "BGR", training={"spectra": "vis", "identities": 3})
    model = load_recognition(path)
    assert (model.arch, model.input_size, model.color_order, model.fingerprint) == ("mbfn", 32, "BGR", mark)
    assert model.training == {"spectra": "vis", "identities": 3}
    assert len(mark) == 16 and not model.backbone.training
    for name, values in narrow.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[name], values), name


def test_the_same_model_is_the_same_bytes(narrow: torch.nn.Module, tmp_path: Path) -> None:
    for number in range(8):
        save_recognition(tmp_path / str(number), narrow, "mbfn", 32, training={"b": 1, "a": 2})
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_public_state_dict_is_recognised(public: Path) -> None:
    model = load_recognition(public)
    assert (model.arch, model.input_size, model.color_order) == ("mbf", 112, "RGB")
    assert model.fingerprint == fingerprint(torch.load(public, weights_only=True))


def test_wrapped_and_prefixed_state_dicts_are_opened(public: Path, tmp_path: Path) -> None:
    state = torch.load(public, weights_only=True)
    wrapped = {"epoch": 3, "state_dict_backbone": {f"module.{name}": values for name, values in state.items()}}
    torch.save(wrapped, tmp_path / "checkpoint.pt")
    assert load_recognition(tmp_path / "checkpoint.pt").fingerprint == fingerprint(state)


def test_fingerprint_is_of_names_and_values_only() -> None:
    a, b = torch.tensor([1.0, 2.0]), torch.tensor([3.0])
    first = fingerprint({"a": a, "b": b, "n.num_batches_tracked": torch.tensor(5)})
    assert first == fingerprint({"b": b.double(), "a": a})
    assert first != fingerprint({"a": a, "b": b + 1e-6}) and first != fingerprint({"a": a, "c": b})
    assert first != fingerprint({"a": a.view(1, 2), "b": b})


class Evil:
    """Runs a command when a careless loader reads it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.marker}",)


def pickle_dump(content: object, file: io.BufferedWriter) -> None:
    pickle.dump(content, file, protocol=2)


def test_a_malicious_pickle_runs_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    for name, writer in (("plain.pth", pickle_dump), ("torch.pth", torch.save)):
        with open(tmp_path / name, "wb") as file:
            writer({"conv1.weight": Evil(marker)}, file)
        with pytest.raises(UserError, match=r"--rec-model: .*refused"):
            load_recognition(tmp_path / name)
    assert not marker.exists()


def write(path: Path, content: object) -> Path:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path.write_bytes(buffer.getvalue())
    return path


def header_of(path: Path, backbone: torch.nn.Module, **changes: object) -> Path:
    """A file of ours whose header says something else."""
    save_recognition(path, backbone, "mbfn", 32)
    with safe_open(str(path), framework="pt") as file:
        header = json.loads(file.metadata()["arcbiface_recognition"])
    changed = {key: value for key, value in {**header, **changes}.items() if value is not None}
    save_file(backbone.state_dict(), path, {"arcbiface_recognition": json.dumps(changed)})
    return path


def test_the_header_holds_all_that_is_needed_and_old_ones_are_read(narrow: torch.nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    mark = save_recognition(path, narrow, "mbfn", 32, training={"path": "DATA"})
    with safe_open(str(path), framework="pt") as file:
        assert json.loads(file.metadata()["arcbiface_recognition"]) == {
            "arch": "mbfn",
            "input_size": 32,
            "color_order": "RGB",
            "preprocessing": "bilinear-antialias-32-rgb",
            "fingerprint": mark,
            "training": {"path": "DATA"},
        }
    old = header_of(tmp_path / "old.safetensors", narrow, preprocessing=None)
    assert load_recognition(old).fingerprint == mark


def test_a_model_knows_the_alignment_that_it_expects(narrow: torch.nn.Module, public: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    own = Template("own", PORTRAIT_TEMPLATE.points * 0.9)
    for template in (own, ARCFACE_TEMPLATE):
        save_recognition(path, narrow, "mbfn", 32, alignment=template)
        found = load_recognition(path).alignment
        assert found is not None and found.name == template.name and (found.points == template.points).all()
    save_recognition(path, narrow, "mbfn", 32)
    assert load_recognition(path).alignment is None
    assert load_recognition(public).alignment is ARCFACE_TEMPLATE
    assert load_recognition(header_of(path, narrow, alignment="portrait")).alignment is PORTRAIT_TEMPLATE
    with pytest.raises(UserError, match=r"model\.safetensors: alignment_points are not"):
        load_recognition(header_of(path, narrow, alignment="x", alignment_points=[[1, 2]]))


def test_half_precision_weights_are_read_as_float32(public: Path, tmp_path: Path) -> None:
    state = torch.load(public, weights_only=True)
    half = {name: values.half() if values.is_floating_point() else values for name, values in state.items()}
    model = load_recognition(write(tmp_path / "half.pth", half))
    assert {values.dtype for values in model.backbone.parameters()} == {torch.float32}
    assert model.fingerprint == fingerprint(half) != fingerprint(state)


def test_an_unknown_architecture_names_its_option(public: Path) -> None:
    with pytest.raises(UserError, match="--rec-arch: unknown architecture 'r51'; known are r18,"):
        load_recognition(public, arch="r51")


def test_each_fault_is_one_line_that_names_it(public: Path, narrow: torch.nn.Module, tmp_path: Path) -> None:
    state = torch.load(public, weights_only=True)
    cut, cut_own = tmp_path / "cut.pth", tmp_path / "cut.safetensors"
    cut.write_bytes(public.read_bytes()[:-5000])
    save_recognition(cut_own, narrow, "mbfn", 32)
    cut_own.write_bytes(cut_own.read_bytes()[:-100])
    save_file(dict(state), tmp_path / "other.safetensors")
    header = json.dumps({"arch": "mbfn", "input_size": "32"})
    save_file(narrow.state_dict(), tmp_path / "header.safetensors", {"arcbiface_recognition": header})
    lacking = {name: values for name, values in state.items() if name != "conv_sep.layers.1.bias"}
    broken = {**state, "features.layers.2.weight": torch.full((512, 512), torch.nan)}
    cases: list[tuple[Path, str | None, str]] = [
        (tmp_path / "none.pth", None, "no such file"),
        (cut, None, "truncated"),
        (cut_own, None, "truncated"),
        (tmp_path / "other.safetensors", None, "not a recognition model"),
        (tmp_path / "header.safetensors", None, "header is broken"),
        (write(tmp_path / "list.pth", [1, 2]), None, "not a state dict"),
        (write(tmp_path / "number.pth", {"a": 1}), None, "not a state dict"),
        (write(tmp_path / "what.pth", {"a": torch.zeros(3)}), None, "no known architecture"),
        (public, "r50", "not a r50"),
        (write(tmp_path / "lacking.pth", lacking), "mbf", "conv_sep.layers.1.bias is missing"),
        (write(tmp_path / "nan.pth", broken), None, "NaN"),
        (write(tmp_path / "narrow.pth", narrow.state_dict()), None, "input size"),
        (header_of(tmp_path / "mark.safetensors", narrow, fingerprint="0" * 16), None, "fingerprint 0000000000000000"),
        (header_of(tmp_path / "prep.safetensors", narrow, preprocessing="bicubic"), None, "prepared as bicubic"),
        (header_of(tmp_path / "training.safetensors", narrow, training=[1]), None, "header is broken"),
        (header_of(tmp_path / "size.safetensors", narrow, input_size=4, preprocessing=None), None, "input size 4"),
    ]
    for path, arch, words in cases:
        with pytest.raises(UserError) as caught:
            load_recognition(path, arch=arch)
        message = str(caught.value)
        assert words in message and message.startswith(f"--rec-model: {path}") and "\n" not in message, message


def test_a_file_of_the_old_layout_may_be_cut_anywhere(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(3)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    whole = (tmp_path / "old.pth").read_bytes()
    for length in range(1, len(whole) - 12):
        with pytest.raises(UserError, match="--rec-model: old.pth: "):
            read_checkpoint(whole[:length], "--rec-model: old.pth")
