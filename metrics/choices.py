"""What options about metrics can be. Light, so that command lines are read without torch."""

OWN, CLEAN, PYTORCH_FID = PROTOCOLS = ("own", "clean", "pytorch-fid")  # --resize: metrics.resizing
METRICS = (  # what --metrics is completed by: the families' names without a number (metrics.registry)
    *("fid", "kid", "is", "pr", "ppl2_wend"),
    *("fd_arcface", "kd_arcface", "pr_arcface", "alignment", "cross_id", "id_consistency", "diversity"),
)
METRICS_FILE = "metrics.jsonl"
DEFAULT_METRICS, WITH_INCEPTION = "fd_arcface", "fid50k_full"  # of a network, without an Inception and with one
VIS_AND_NIR = "vis+nir"  # --spectra
