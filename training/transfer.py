"""Transfer: a new run that begins with the weights of another; optimisers, counters and p are its own.

Three kinds of files bring weights: released pickles (generator, its average, discriminators), training states of ours
(the same), and network snapshots of ours (the averaged generator alone).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from dnnlib.errors import UserError
from dnnlib.files import StrPath
from torch_utils.spectra import SPECTRA
from training.config import TrainingConfig
from training.estimate import build_meta
from training.import_pkl import DISCRIMINATORS, discriminator_weights, generator_weights, is_pickle, read_pickle
from training.snapshots import is_state, load_generator, load_state
from training.trainer import Trainer
from training.weights import describe_discriminator, describe_generator, load_strictly, refuse_broken

OPTION = "--init-from"
State = dict[str, torch.Tensor]

# What would make a network fit that has another value of a setting.
_REMEDIES = {
    "resolution": "--data needs pictures of that size",
    "c_dim": "--cond and --features decide it",
    "channel_base": "--fmaps decides it",
    "channel_max": "--cfg decides it",
    "mapping_layers": "--cfg decides it",
    "residual": "--cfg decides it",
}


@dataclass
class Weights:
    """What a file brings: the generator, its average, and discriminators by spectrum. lines say what was done."""

    generator: State
    average: State
    discriminators: dict[str, State]
    lines: list[str]


def read_weights(path: StrPath) -> Weights:
    """The weights in a .pkl, a training state or a network snapshot, told apart by their bytes.

    Raises UserError that names --init-from and the file.
    """
    if is_pickle(path):
        return _from_pickle(path)
    if is_state(path):
        return _from_state(path)
    state = dict(load_generator(path, option=OPTION).state_dict())
    return Weights(state, state, {}, [])


def _from_pickle(path: StrPath) -> Weights:
    where = f"{OPTION}: {path}"
    networks = read_pickle(path, OPTION)
    lines: list[str] = []
    generators = {}
    for name in ("G", "G_ema"):
        if name in networks:
            generators[name], _, said = generator_weights(networks[name], f"{where}: {name}")
            lines += [f"{name}: {line}" for line in said if name == "G_ema" or "G_ema" not in networks]
    if not generators:
        raise UserError(f"{where}: holds {', '.join(networks)}, but no generator (G or G_ema)")
    found = {
        spectrum: discriminator_weights(networks[name], f"{where}: {name}")
        for spectrum, name in DISCRIMINATORS.items()
        if name in networks
    }
    training, average = generators.get("G", generators.get("G_ema")), generators.get("G_ema", generators.get("G"))
    assert training is not None and average is not None
    return Weights(training, average, found, lines)


def _from_state(path: StrPath) -> Weights:
    content = load_state(path, OPTION)

    def part(name: str) -> State:
        state = content.get(name)
        if not isinstance(state, dict) or not all(map(_is_plain_tensor, state.values())):
            raise UserError(f"{OPTION}: {path}: not a whole training state ({name} is missing or broken)")
        refuse_broken(state, f"{OPTION}: {path}: {name}")
        return state

    names = {spectrum: f"discriminator_{spectrum}" for spectrum in SPECTRA}
    found = {spectrum: part(name) for spectrum, name in names.items() if name in content}
    return Weights(part("generator"), part("generator_ema"), found, [])


def _is_plain_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.layout == torch.strided and value.is_floating_point()


# ----------------------------------------------------------------------------
# Into a run.


def check_weights(weights: Weights, config: TrainingConfig) -> None:
    """Raises UserError that names the first setting in which the file's networks differ from the configuration's."""
    where = f"{OPTION}: {config.init_from}"
    generator, discriminators = build_meta(config)
    wanted = describe_generator(generator.state_dict(), where)
    for state in (weights.generator, weights.average):
        _refuse_other(describe_generator(state, where), wanted, f"{where}: the generator's")
        load_strictly(generator, state, where, assign=True)
    for name, state in weights.discriminators.items():
        wanted = describe_discriminator(discriminators[name].state_dict(), where)
        _refuse_other(describe_discriminator(state, where), wanted, f"{where}: the {name.upper()} discriminator's")
        load_strictly(discriminators[name], state, where, assign=True)


def _refuse_other(found: Mapping[str, Any], wanted: Mapping[str, Any], where: str) -> None:
    for key, value in wanted.items():
        if found[key] != value:
            remedy = f"; {_REMEDIES[key]}" if key in _REMEDIES else ""
            raise UserError(f"{where} {key} is {found[key]} in the file, and {value} in this run{remedy}")


def transfer(weights: Weights, trainer: Trainer) -> list[str]:
    """Puts weights that were checked into a trainer that has not trained, and returns lines for the log."""
    trainer.generator.load_state_dict(weights.generator)
    trainer.ema.averaged.load_state_dict(weights.average)
    for name, state in weights.discriminators.items():
        trainer.discriminators[name].load_state_dict(state)
    lines = [f"Beginning with the weights of {trainer.config.init_from}", *weights.lines]
    anew = [name.upper() for name in trainer.discriminators if name not in weights.discriminators]
    return lines + [f"The file has no {name} discriminator, which begins anew" for name in anew]
