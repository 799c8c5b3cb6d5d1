"""The parts of a step on another device than the CPU, where no operation may mix the two: as strict as a GPU is."""

import contextlib
from dataclasses import fields

import pytest
import torch
import torch.nn.functional as F

from arcface.backbones import NUM_FEATURES, build_backbone
from arcface.choices import HEADS, AugmentConfig
from arcface.heads import build_head
from arcface.preprocess import preprocess
from arcface.recognition_augment import augment
from tests.devices import META, OneDevice

# Low resolution sorts pictures by numbers, which the meta device has not.
EVERYTHING = AugmentConfig(**{field.name: 0.0 if field.name == "low_res" else 0.5 for field in fields(AugmentConfig)})


@pytest.mark.parametrize("head", list(HEADS))
@pytest.mark.parametrize("arch", ["mbfn", "r10n", "vit_t"])
def test_a_step_stays_on_its_device(arch: str, head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # it knows no meta device
    size = 112 if arch == "vit_t" else 32
    with META:
        backbone = build_backbone(arch, size, 0.1)
        classifier = build_head(head, NUM_FEATURES, 5)
    images = torch.zeros(2, 3, size, size, dtype=torch.uint8, device=META)
    labels = torch.zeros(2, dtype=torch.long, device=META)
    with OneDevice():
        x = augment(preprocess(images, size), EVERYTHING, torch.Generator(), (1, 2))
        F.cross_entropy(classifier(backbone(x), labels), labels).backward()
    parameters = [*backbone.parameters(), *classifier.parameters()]
    assert x.device == META and all(p.grad is not None for p in parameters if p.requires_grad)
