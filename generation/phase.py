"""What every phase of a run, and its pilot, makes candidates with and judges them by."""

from __future__ import annotations

from dataclasses import dataclass

from generation.candidates import CandidateMaker
from generation.encoding import Encoder
from generation.identity_sampling import IdentitySampler
from generation.records import Plan
from generation.thresholds import Thresholds
from torch_utils.search import Gallery


@dataclass
class Phase:
    """The inputs of a run, once they are loaded."""

    plan: Plan
    thresholds: Thresholds
    real: Gallery  # [R, D] every real feature that samples are compared with, length one
    sampler: IdentitySampler
    maker: CandidateMaker
    encoder: Encoder

    @property
    def inputs(self) -> tuple[Plan, Thresholds, Gallery, IdentitySampler, CandidateMaker, Encoder]:
        """The same again, for another phase."""
        return self.plan, self.thresholds, self.real, self.sampler, self.maker, self.encoder
