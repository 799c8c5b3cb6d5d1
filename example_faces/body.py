"""What is around the face: background, clothes, neck, ears, glasses."""

from __future__ import annotations

import numpy as np

from example_faces.anatomy import Person
from example_faces.camera import Camera
from example_faces.canvas import Canvas, as_band, cut, edge, window_of
from example_faces.sampling import noise, smoothstep
from example_faces.shots import Shot
from example_faces.spectra import skin_reflectance

# ----------------------------------------------------------------------------
# Background, clothes, neck.


def paint_background(shot: Shot, camera: Camera, canvas: Canvas) -> None:
    """A wall with a gradient and some blurred things on it."""
    x, y = camera.x, camera.y
    tilt_x, tilt_y = shot.background_tilt
    blobs = noise(x * 1.4, y * 1.4, shot.sensor_seed)
    brightness = np.clip(1.0 + tilt_x * x + tilt_y * y + 0.18 * blobs, 0.15, 2.0)
    canvas.albedo[:] = as_band(shot.background) * brightness


def paint_body(person: Person, shot: Shot, camera: Camera, canvas: Canvas) -> None:
    """Neck and collar. The neck stands upright under the head, however that is turned."""
    r = camera.rotation
    root = r @ np.array([0.0, -0.80, -0.18])  # where the neck meets the head, camera frame
    down = np.maximum(float(root[1]) - camera.y, 0.0)
    half = (
        0.64 * person.head_width
        + 0.05 * person.jaw_width
        - 0.05 * np.minimum(down, 0.3)
        + 0.35 * np.maximum(down - 0.28, 0.0) ** 1.5
    )
    x = (camera.x - float(root[0])) / half
    inside = 1.0 - x * x
    height = np.sqrt(np.maximum(inside, 0.0))
    depth = float(root[2]) + 0.45 * height - 0.10
    normal = np.stack([x, np.full_like(x, 0.08), np.maximum(height, 0.15)])
    normal /= np.sqrt((normal * normal).sum(axis=0))
    below = smoothstep(0.35, 0.15, camera.y - float(root[1]))
    mottled = 1.0 + 0.06 * noise(camera.x * 8.0, camera.y * 8.0, person.map_seed)
    skin = skin_reflectance(person.melanin * mottled, person.haemoglobin * mottled)
    shaded = 0.45 + 0.55 * smoothstep(0.05, 0.50, down)  # under the chin
    muscle = shaded - 0.10 * np.exp(-(((np.abs(x) - 0.45 + 0.3 * down) * 7.0) ** 2))
    canvas.paint(edge(inside * 0.5 * half, camera.pixel) * below, skin * muscle, normal, depth, 0.25)
    shoulder = edge(down - 0.62 + 0.15 * height, camera.pixel)
    cloth = np.stack([0.4 * x, np.full_like(x, 0.5), np.full_like(x, 0.8)])
    folds = 1.0 + 0.10 * noise(camera.x * 4.0, camera.y * 3.0, shot.sensor_seed >> 4)
    canvas.paint(shoulder, as_band(shot.clothes) * folds, cloth, -0.3, 0.0)


# ----------------------------------------------------------------------------
# Ears.


def paint_ears(person: Person, camera: Camera, canvas: Canvas) -> None:
    """Two flattened ellipsoids at the sides of the head, with rim and hollow."""
    for side in (-1.0, 1.0):
        _paint_ear(person, camera, canvas, side)


def _paint_ear(person: Person, camera: Camera, canvas: Canvas, side: float) -> None:
    size, flare = person.ear_size, person.ear_protrusion
    centre = np.array([side * (0.985 * person.head_width + 0.10 * np.sin(flare)), person.eye_height - 0.16, -0.02])
    cos, sin = np.cos(flare), np.sin(flare)
    # Axes of the ear in the head frame: across (thin), up, back (away from the cheek).
    axes = np.array([[side * cos, 0.0, sin], [0.0, 0.98, 0.15], [side * sin, 0.0, -cos]])
    scale = np.array([[0.075], [size], [0.62 * size]])
    turned = (axes @ camera.rotation.T) / scale  # camera frame -> unit sphere
    origin = -(axes @ centre)[:, None, None] / scale[:, :, None]
    middle = camera.rotation @ centre
    window = window_of((np.abs(camera.x - middle[0]) < 0.40) & (np.abs(camera.y - middle[1]) < 0.45))
    if window is None:
        return
    x, y = camera.x[window], camera.y[window]
    p = [float(turned[k, 0]) * x + float(turned[k, 1]) * y + np.float32(origin[k, 0, 0]) for k in range(3)]
    d = [float(turned[k, 2]) for k in range(3)]
    aa = sum(c * c for c in d)
    bb = p[0] * d[0] + p[1] * d[1] + p[2] * d[2]
    root = bb * bb - aa * (p[0] ** 2 + p[1] ** 2 + p[2] ** 2 - 1.0)
    depth = (-bb + np.sqrt(np.maximum(root, 0.0))) * (1.0 / aa)
    q = [p[k] + d[k] * depth for k in range(3)]
    radial = np.sqrt(q[1] ** 2 + (q[2] - 0.1) ** 2)
    ridge = np.sin(np.clip(radial - 0.30, 0.0, 1.0) * 8.5)  # concha, antihelix, helix
    flat = [q[0] * 0.8, q[1] * (0.35 - 0.5 * ridge), q[2] * (0.35 - 0.5 * ridge)]
    head = [sum(float(axes[k, j] / scale[k, 0]) * 0.12 * flat[k] for k in range(3)) for j in range(3)]
    normal = camera.turn(*head)
    normal[2] = np.abs(normal[2]) + 0.25
    normal /= np.sqrt((normal * normal).sum(axis=0) + 1e-6)
    skin = skin_reflectance(np.full_like(x, 0.95 * person.melanin), np.full_like(x, 1.5 * person.haemoglobin))
    hollow = 1.0 - 0.45 * np.exp(-((radial * (1.0 / 0.38)) ** 2)) - 0.12 * np.exp(-(((radial - 0.68) * 9.0) ** 2))
    coverage = np.clip(root * (1.0 / aa) ** 0.5 * (2.0 * 0.09 / camera.pixel), 0.0, 1.0)
    part = _Part(canvas, window)
    part.paint(coverage, skin * hollow, normal, depth, 0.3)


class _Part(Canvas):
    """A window of a canvas; painting into it paints into the canvas."""

    def __init__(self, canvas: Canvas, window: tuple[slice, slice]) -> None:
        super().__init__(
            cut(canvas.albedo, window),
            cut(canvas.normal, window),
            cut(canvas.depth, window),
            cut(canvas.gloss, window),
            cut(canvas.open_air, window),
            cut(canvas.lit, window),
            cut(canvas.strand, window),
        )


# ----------------------------------------------------------------------------
# Glasses.

_LENS_GAP = 0.10  # from the plane of the face to the lenses


def paint_glasses(person: Person, shot: Shot, camera: Camera, canvas: Canvas) -> None:
    """Rims and bridge in a plane before the eyes, arms towards the ears, a faint veil on the lenses."""
    glasses = shot.glasses
    if glasses is None:
        return
    r = camera.rotation
    plane = person.face_depth + _LENS_GAP
    depth = (plane - float(r[0, 2]) * camera.x - float(r[1, 2]) * camera.y) * (1.0 / float(r[2, 2]))
    x, y, _ = camera.to_head(depth)
    centre_x = max(person.eye_distance, glasses.half_width + 0.05)
    dx, dy = np.abs(np.abs(x) - centre_x), np.abs(y - person.eye_height + 0.03)
    # Signed distance to a rounded rectangle, negative inside.
    corner = glasses.roundness * glasses.half_height
    qx, qy = dx - glasses.half_width + corner, dy - glasses.half_height + corner
    beyond = np.sqrt(np.maximum(qx, 0.0) ** 2 + np.maximum(qy, 0.0) ** 2)
    distance = beyond + np.minimum(np.maximum(qx, qy), 0.0) - corner
    rim = edge(glasses.rim - np.abs(distance), camera.pixel)
    bridge_y = y - person.eye_height - 0.06
    bridge = edge(glasses.rim - np.abs(bridge_y), camera.pixel) * (np.abs(x) < centre_x - glasses.half_width)
    arm = edge(glasses.rim - np.abs(y - person.eye_height - 0.05), camera.pixel)
    arm = arm * (np.abs(x) > centre_x + glasses.half_width) * (np.abs(x) < 1.02 * person.head_width)
    frame = np.maximum(np.maximum(rim, bridge), arm)
    lens = edge(-distance, camera.pixel) * (1.0 - frame)
    canvas.albedo *= 1.0 - 0.06 * lens
    canvas.gloss += 0.10 * lens
    normal = np.zeros_like(canvas.normal)
    normal[2] = 1.0
    canvas.paint(frame, as_band(glasses.colour), normal, canvas.depth, 0.6)
