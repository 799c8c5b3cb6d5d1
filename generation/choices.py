"""What options of generate_dataset.py and filter.py can be. Light, so that command lines are read without torch."""

KINDS = ("random", "spread", "real-like")  # --identities, or a file: generation.identity_sampling
LAYOUTS = ("folder", "original", "webdataset", "rec")  # --format: generation.layouts
IMAGE_FORMATS = ("png", "jpg")
DEFAULT_QUALITY = 95
FULL_COLOUR_FROM = 90  # JPEG quality from which colour has the resolution of brightness (4:4:4); below, half (4:2:0)
DEFAULT_DETECTOR = "facenet-pytorch"
NO_DETECTOR = "none"
SLOTS_PER_IDENTITY, FEWEST_SLOTS = 50, 1000  # what --max-slots is where the user says nothing
