"""This project's networks as the callables on arrays that generation.candidates takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from arcface.alignment import Template
from arcface.detection import Detection, FaceDetector
from arcface.embed import embed
from arcface.weights import RecognitionModel
from generation.candidates import Detector, Embedder, Faces, Pictures, Renderer
from torch_utils.backend import full_memory_named, set_backend
from torch_utils.images import to_uint8
from torch_utils.ops import kernels


def prepare(device: torch.device) -> None:
    """Makes what the networks give depend on their input and the GPU's model alone. Every process calls it, first."""
    kernels.prepare(device)  # all processes compute with the same ones
    set_backend(allow_tf32=False, cudnn_benchmark=False)  # a trial might choose another algorithm in each process
    torch.backends.cudnn.deterministic = True


def renderer_of(
    generator: torch.nn.Module, truncation: float, device: torch.device | str = "cpu", noise_mode: str = "const"
) -> Renderer:
    """A training.generator.Generator as a renderer. noise_mode: 'const' or 'none'; a latent has one picture in both."""

    @torch.inference_mode()
    def render(latents: NDArray[np.float32], features: NDArray[np.float32]) -> Pictures:
        z = torch.from_numpy(latents).to(device)  # [N, Z]
        c = torch.from_numpy(features).to(device)  # [N, D]
        with full_memory_named("--round", "a smaller one needs less"):
            pictures = generator(z, c, truncation_psi=truncation, noise_mode=noise_mode)
            return {name: to_uint8(images).cpu().numpy() for name, images in pictures.items()}

    return render


def embedder_of(model: RecognitionModel, chunk: int, alignment: Template | None = None) -> Embedder:
    """A recognition model as an embedder. chunk: pictures at a time, all that a call brings. alignment: theirs."""
    return lambda images: embed(model, torch.from_numpy(images), batch_size=chunk, alignment=alignment)


def detector_of(detector: FaceDetector) -> Detector:
    """A face detector as a detector."""
    return lambda images: faces_from(detector.detect(images))


def faces_from(detections: Sequence[Detection]) -> Faces:
    """arcface.detection.Detection of each picture -> arrays."""
    nowhere = np.full((5, 2), np.nan)
    return Faces(
        found=np.array([found.count == 1 for found in detections], dtype=bool),
        probability=np.array([found.probability for found in detections], dtype=np.float64),
        points=np.array([nowhere if found.points is None else found.points for found in detections], dtype=np.float64),
    )
