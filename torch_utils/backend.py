"""How PyTorch computes on a GPU, set in one place."""

import torch


def set_backend(allow_tf32: bool = False, cudnn_benchmark: bool = True) -> None:
    """allow_tf32: float32 products and convolutions may round to TF32, which is faster and less exact.

    cudnn_benchmark: cuDNN tries its algorithms at the first batch of each shape and keeps the fastest. Neither has an
    effect on the CPU.
    """
    torch.backends.cuda.matmul.allow_tf32 = allow_tf32
    torch.backends.cudnn.allow_tf32 = allow_tf32
    torch.backends.cudnn.benchmark = cudnn_benchmark
