"""What options about metrics can be. Light, so that command lines are read without torch."""

OWN, CLEAN, PYTORCH_FID = PROTOCOLS = ("own", "clean", "pytorch-fid")  # --resize: metrics.resizing
METRICS_FILE = "metrics.jsonl"
DEFAULT_METRICS, WITH_INCEPTION = "fd_arcface", "fid50k_full"  # of a network, without an Inception and with one
VIS_AND_NIR = "vis+nir"  # --spectra
