"""What options of train.py can be. Light, so that command lines are read without torch."""

# --augpipe: names of transforms (training.augment).
BLIT = ("xflip", "rotate90", "xint")
GEOMETRY = ("scale", "rotate", "aniso", "xfrac")
COLOR = ("brightness", "contrast", "lumaflip", "hue", "saturation")

AUGMENT_SETS: dict[str, tuple[str, ...]] = {
    "blit": BLIT,
    "geom": GEOMETRY,
    "color": COLOR,
    "bg": BLIT + GEOMETRY,
    "bgc": BLIT + GEOMETRY + COLOR,
    "filter": ("filter",),
    "noise": ("noise",),
    "cutout": ("cutout",),
    "bgcf": (*BLIT, *GEOMETRY, *COLOR, "filter"),
    "bgcfn": (*BLIT, *GEOMETRY, *COLOR, "filter", "noise"),
    "bgcfnc": (*BLIT, *GEOMETRY, *COLOR, "filter", "noise", "cutout"),
}

# --precision: of activations, where float16 would end (training.precision).
CLAMP = {"fp32": None, "fp16": 256.0, "bf16": None}
