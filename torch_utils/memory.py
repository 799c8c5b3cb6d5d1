"""The C library's habits with freed memory, as they suit tensors."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt


def keep_freed_memory() -> bool:
    """Has glibc keep what tensors of up to 32 MiB free for the next ones; returns whether it agreed.

    By default it gives large blocks back to the system at once, and each page of the next tensor is a fault again:
    that was a fifth of the generator's time on a CPU. The process then stays at its peak size.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, another system
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, 32 << 20)) and bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
