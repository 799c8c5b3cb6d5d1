"""The models in pretrained/: what generate_dataset.py uses where the user names none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dnnlib.errors import UserError

FOLDER = Path(__file__).resolve().parent.parent / "pretrained"
GENERATOR = FOLDER / "generator.safetensors"
RECOGNITION = FOLDER / "recognition.safetensors"
FEATURES = FOLDER / "identity_features.safetensors"  # of all people that the generator has learned from
THRESHOLDS = FOLDER / "thresholds.json"

# Options that depend on the generator, where the user leaves them open: for the user's own, as the paper has them, and
# for the pretrained one.
DEFAULTS: dict[str, Any] = {"identities": "random", "truncation": 0.7}
SUITED: dict[str, Any] = {"identities": "real-like", "truncation": 0.85}


def settled(options: dict[str, Any]) -> dict[str, Any]:
    """The options of generate_dataset.py, of which the user has left some open (None), with the defaults.

    Both networks are pretrained, or none: they know people by the same features. The pretrained generator's people
    stay protected beside those of the user's --real-features. Raises UserError where one network lacks the other.
    """
    open_ones = [name for name in ("gen_model", "rec_model") if options[name] is None]
    if not open_ones:
        return _filled(options, DEFAULTS)
    if len(open_ones) == 1:
        raise UserError(
            f"--{open_ones[0].replace('_', '-')}: needed, for a generator and a recognition model belong together; "
            "leave out both --gen-model and --rec-model for the pretrained ones"
        )
    models = {"gen_model": str(GENERATOR), "rec_model": str(RECOGNITION), "thresholds": str(THRESHOLDS)}
    real = (str(FEATURES), *options["real_features"])
    return {**_filled(options, {**models, **SUITED}), "real_features": real}


def _filled(options: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    return options | {name: value for name, value in defaults.items() if options[name] is None}
