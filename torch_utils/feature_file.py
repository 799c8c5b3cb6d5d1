"""Identity features on disk: identity_features.safetensors, and ArcBiFaceGAN's identity_features.json.

A feature is the raw output of a recognition model (512 numbers, not normalised). The file says which model made
them, and every later stage refuses features of another one.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from dnnlib.errors import UserError
from dnnlib.files import StrPath, atomic_write_bytes, require_file
from torch_utils.image_tree import split_name
from torch_utils.spectra import SPECTRA

FILE_NAME = "identity_features.safetensors"
MODES = ("all", "one")
UNKNOWN_MODEL = "unknown"
HEADER_KEY = "identity_features"
REMEDY = "dataset_tool.py features makes one"


@dataclass
class FeatureSet:
    """Features of a dataset's pictures.

    features: float32 [N, C], raw. names: N picture names relative to VIS/ or NIR/. model: fingerprint of the
    recognition model. mode: 'all' (a feature a picture) or 'one' (the most typical feature of each identity).
    spectrum: whose pictures were embedded.
    """

    features: np.ndarray
    names: list[str]
    model: str
    mode: str = "all"
    spectrum: str = "vis"
    identities: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.identities = [split_name(name)[0] for name in self.names]

    @property
    def norm(self) -> float:
        """Mean L2 norm of the features: the scale at which a generator was conditioned."""
        return float(np.linalg.norm(self.features.astype(np.float64), axis=1).mean())

    def __len__(self) -> int:
        return len(self.names)


def check_values(features: np.ndarray, names: list[str], where: str) -> None:
    """Raises UserError, starting with `where`, for features that no training should see."""
    if features.ndim != 2 or len(features) != len(names) or not len(features):
        raise UserError(f"{where}: features of shape {list(features.shape)} for {len(names)} names; [N, C] is needed")
    broken = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(broken):
        raise UserError(f"{where}: the feature of {names[broken[0]]} holds NaN or infinity ({len(broken)} such)")
    if len(features) > 1 and not np.ptp(features, axis=0).any():
        raise UserError(f"{where}: all {len(features)} features are the same; the recognition model saw nothing")
    if not features.any(axis=1).all():
        raise UserError(f"{where}: a feature is all zeros")


def refuse_other_model(features: FeatureSet, where: str, fingerprint: str, rec_model: StrPath) -> None:
    """Raises UserError, starting with `where`, for features known to come of another model than `rec_model`."""
    if features.model not in (fingerprint, UNKNOWN_MODEL):
        raise UserError(
            f"{where}: features of recognition model {features.model}, but --rec-model {rec_model} is {fingerprint}; "
            "make them again with dataset_tool.py features"
        )


def save_features(path: StrPath, features: FeatureSet) -> None:
    """Writes `features`, atomically; as safetensors, or as ArcBiFaceGAN's JSON where `path` ends in .json."""
    check_values(features.features, features.names, str(path))
    if Path(path).suffix == ".json":
        labels = [[name, row.tolist()] for name, row in zip(features.names, features.features, strict=True)]
        atomic_write_bytes(path, json.dumps({"labels": labels}).encode())
        return
    # One key: safetensors writes several in an order that changes from run to run, and so would the file's digest.
    header = {
        "names": features.names,
        "recognition_model": features.model,
        "mode": features.mode,
        "spectrum": features.spectrum,
        "norm": features.norm,
    }
    tensors = {"features": np.ascontiguousarray(features.features, dtype=np.float32)}
    atomic_write_bytes(path, save(tensors, metadata={HEADER_KEY: json.dumps(header)}))


def load_features(path: StrPath, option: str = "--features") -> FeatureSet:
    """Reads features. Raises UserError that names `option` and the file for all that is not sound."""
    where = f"{option}: {path}"
    require_file(path, where, REMEDY)
    try:
        features = _load_json(path, where) if Path(path).suffix == ".json" else _load_safetensors(path, where)
    except UserError as error:  # a name that is none does not know whose it is
        raise error if str(error).startswith(where) else UserError(f"{where}: {error}") from error
    check_values(features.features, features.names, where)
    return features


def _load_safetensors(path: StrPath, where: str) -> FeatureSet:
    try:
        with safe_open(str(path), framework="numpy") as file, np.errstate(over="ignore"):
            header = json.loads((file.metadata() or {})[HEADER_KEY])
            values = file.get_tensor("features").astype(np.float32)
        names, mode, spectrum = header["names"], header["mode"], header.get("spectrum", "vis")
        if mode not in MODES or spectrum not in SPECTRA or not all(isinstance(name, str) for name in names):
            raise ValueError(f"mode {mode!r}")
        return FeatureSet(values, names, header["recognition_model"], mode, spectrum)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{where}: not a file of identity features ({_reason(error)}); {REMEDY}") from error


def _load_json(path: StrPath, where: str) -> FeatureSet:
    """ArcBiFaceGAN: {"labels": [[picture name, [512 numbers]], ...]}. It does not say which model made them."""
    try:
        labels = json.loads(Path(path).read_text(encoding="utf-8"))["labels"]
        names = [str(name) for name, _ in labels]
        with np.errstate(over="ignore"):
            values = np.array([row for _, row in labels], dtype=np.float32)
        return FeatureSet(values, names, model=UNKNOWN_MODEL)
    except (OSError, KeyError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise UserError(f"{where}: not ArcBiFaceGAN's identity_features.json ({_reason(error)}); {REMEDY}") from error


def _reason(error: Exception) -> str:
    return f"nothing called {error} is in it" if isinstance(error, KeyError) else str(error)
