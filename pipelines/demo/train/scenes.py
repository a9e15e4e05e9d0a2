"""Scenes that are drawn, not photographed, each with its depth, and the haze that lies over them.

A scene is a function of its seed: streets, hills, rooms, and heaps of overlapping leaves. Pictures are RGB 0..1
`[H, W, 3]`; depths `[H, W]` count in the range of sight (0 at the camera, 1 far away, the sky a little beyond).
"""
import cv2
import numpy as np

Array = np.ndarray
Rng = np.random.Generator
SKY = 1.1
NEAR = 0.02


def noise(rng: Rng, h: int, w: int, coarse: int = 3, octaves: int = 5, falloff: float = 0.6) -> Array:
    """Smooth noise of several octaves `[h, w]`, mean 0, standard deviation 1."""
    total = np.zeros((h, w), np.float32)
    for octave in range(octaves):
        cells = coarse << octave
        if cells > max(h, w):
            break
        grid = rng.standard_normal((max(2, cells * h // max(h, w)) + 1, max(2, cells * w // max(h, w)) + 1))
        total += falloff**octave * cv2.resize(grid.astype(np.float32), (w, h), interpolation=cv2.INTER_CUBIC)
    return (total - total.mean()) / (total.std() + 1e-6)


def colour(rng: Rng, low: float = 0.1, high: float = 0.85, vivid: float = 0.5) -> Array:
    """A colour of random brightness and saturation."""
    grey = rng.uniform(low, high)
    tint = vivid * rng.uniform(0, 1) ** 2 * rng.uniform(-grey, 1 - grey, 3)
    return np.clip(grey + tint, 0.02, 0.98).astype(np.float32)


def texture(rng: Rng, base: Array, rough: float | None = None, size: int = 160) -> Array:
    """A surface `[size, size, 3]`: noise, often with bricks, planks or stripes on it."""
    rough = rng.uniform(0.03, 0.25) if rough is None else rough
    coarse, falloff = int(rng.integers(2, 10)), rng.uniform(0.5, 0.95)
    light = 1 + rough * noise(rng, size, size, coarse, 6, falloff)[..., None]
    image = base * light + 0.3 * rough * noise(rng, size, size)[..., None] * rng.uniform(-0.5, 0.5, 3)
    y, x = np.mgrid[:size, :size]
    pattern = rng.integers(6)
    if pattern == 0:
        tall = int(rng.integers(8, 28))
        row = y // tall
        joint = (y % tall < max(1, tall // 8)) | ((x + (row % 2) * tall) % (2 * tall) < max(1, tall // 8))
        image = np.where(joint[..., None], image * rng.uniform(0.5, 1.4), image)
        image = image * (1 + 0.12 * rng.standard_normal((size, size)))[row, (x + (row % 2) * tall) // (2 * tall), None]
    elif pattern == 1:
        step, at = int(rng.integers(6, 40)), x if rng.random() < 0.5 else y
        image = image * (1 + 0.2 * rng.standard_normal(size))[at // step, None]
    elif pattern == 2:
        step = int(rng.integers(10, 40))
        image = np.where(((x // step + y // step) % 2)[..., None] == 1, image * rng.uniform(0.4, 1.5), image)
    return np.clip(image, 0, 1).astype(np.float32)


def facade(rng: Rng, base: Array, size: int = 160) -> Array:
    """A wall with windows."""
    image = texture(rng, base, rng.uniform(0.03, 0.12), size)
    step_x, step_y = int(rng.integers(14, 40)), int(rng.integers(14, 40))
    wide, tall = int(step_x * rng.uniform(0.35, 0.8)), int(step_y * rng.uniform(0.35, 0.8))
    pane, frame = colour(rng, 0.05, 0.5), colour(rng)
    for y in range(step_y // 4, size - tall, step_y):
        for x in range(step_x // 4, size - wide, step_x):
            shade = pane * rng.uniform(0.6, 1.5) if rng.random() < 0.85 else colour(rng, 0.5, 0.9)
            image[y - 1:y + tall + 1, x - 1:x + wide + 1] = frame
            fall = np.linspace(1.2, 0.8, tall, dtype=np.float32)[:, None, None]
            image[y:y + tall, x:x + wide] = np.clip(shade * fall, 0, 1)
    return image


class Canvas:
    """A pinhole camera's picture and depth; x to the right, y down, z away from the camera; the nearer wins."""

    def __init__(self, rng: Rng, h: int, w: int, horizon: float):
        self.rng, self.h, self.w = rng, h, w
        self.picture = np.zeros((h, w, 3), np.float32)
        self.depth = np.full((h, w), SKY, np.float32)
        self.focal, self.cx, self.cy = w * rng.uniform(0.7, 1.2), w * rng.uniform(0.3, 0.7), h * horizon
        self.y, self.x = np.mgrid[:h, :w].astype(np.float32)

    def sky(self) -> None:
        rng = self.rng
        top, low = colour(rng, 0.35, 0.85, 0.35), colour(rng, 0.6, 0.95, 0.2)
        if rng.random() < 0.6:
            top = np.array([0.25, 0.45, 0.8], np.float32) * rng.uniform(0.7, 1.2)
        fall = np.clip(self.y / max(self.cy, 1), 0, 1)[..., None]
        clouds = np.clip(noise(rng, self.h, self.w, 2, 6) * 0.6 + rng.uniform(-0.7, 0.5), 0, 1)[..., None]
        sky = top * (1 - fall) + low * fall
        self.picture[:] = sky * (1 - clouds) + clouds * rng.uniform(0.7, 0.98)

    def put(self, mask: Array, depth: Array, image: Array) -> None:
        mask = mask & (depth < self.depth)
        self.picture[mask], self.depth[mask] = image[mask], depth[mask]

    def ground(self, height: float, image: Array, scale: float, road: tuple[float, Array] | None = None) -> None:
        """The plane `height` under the camera; `road` is half a width and a colour."""
        below = self.y - self.cy
        z = self.focal * height / np.maximum(below, 1e-3)
        across = (self.x - self.cx) * z / self.focal
        size = image.shape[0]
        flat = cv2.remap(image, np.mod(across * scale, size).astype(np.float32),
                         np.mod(z * scale, size).astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        blend = np.clip(z / 0.7 - 0.3, 0, 1)[..., None]
        flat = flat * (1 - blend) + image.mean((0, 1)) * blend
        if road is not None:
            half, grey = road
            grain = 1 + 0.06 * noise(self.rng, self.h, self.w, 30, 4, 0.9)[..., None]
            on_road = (np.abs(across) < half)[..., None]
            edge = (np.abs(np.abs(across) - 0.93 * half) < 0.02 * half)[..., None]
            dash = ((np.abs(across) < 0.02 * half) & (np.mod(z, 0.06) < 0.03))[..., None]
            flat = np.where(on_road, grey * grain, flat)
            flat = np.where(edge | dash, self.rng.uniform(0.7, 0.95), flat)
        self.put((below > 0.5) & (z < 1), z, np.clip(flat, 0, 1))

    def quad(self, corners: Array, image: Array, light: float = 1.0) -> None:
        """A flat quadrangle `[4, 3]` in space with `image` on it."""
        corners = corners.copy()
        corners[:, 2] = np.maximum(corners[:, 2], NEAR)
        at = self.focal * corners[:, :2] / corners[:, 2:] + (self.cx, self.cy)
        at = np.clip(at, -8000, 8000).astype(np.float32)
        size = image.shape[0] - 1
        try:
            move = cv2.getPerspectiveTransform(np.array([[0, 0], [size, 0], [size, size], [0, size]], np.float32), at)
        except cv2.error:
            return
        mask = np.zeros((self.h, self.w), np.uint8)
        cv2.fillConvexPoly(mask, at.round().astype(np.int32), 1)
        if not mask.any():
            return
        # The reciprocal of a plane's depth is affine in the picture.
        fit, *_ = np.linalg.lstsq(np.c_[at, np.ones(4)], 1 / corners[:, 2], rcond=None)
        depth = 1 / np.maximum(fit[0] * self.x + fit[1] * self.y + fit[2], 1 / SKY)
        warped = cv2.warpPerspective(image, move, (self.w, self.h), borderMode=cv2.BORDER_REPLICATE)
        self.put(mask.astype(bool), depth.astype(np.float32), np.clip(warped * light, 0, 1))

    def box(self, low: Array, high: Array, front: Array, side: Array) -> None:
        """An upright box between two corners, seen from the front."""
        (x0, y0, z0), (x1, y1, z1) = low, high
        rng = self.rng
        self.quad(np.array([[x0, y0, z0], [x1, y0, z0], [x1, y1, z0], [x0, y1, z0]]), front, rng.uniform(0.85, 1.1))
        light = rng.uniform(0.5, 1.0)
        if x0 > 0:
            self.quad(np.array([[x0, y0, z1], [x0, y0, z0], [x0, y1, z0], [x0, y1, z1]]), side, light)
        if x1 < 0:
            self.quad(np.array([[x1, y0, z0], [x1, y0, z1], [x1, y1, z1], [x1, y1, z0]]), side, light)
        if y0 > 0:
            self.quad(np.array([[x0, y0, z1], [x1, y0, z1], [x1, y0, z0], [x0, y0, z0]]), side, rng.uniform(0.9, 1.2))

    def ball(self, centre: Array, radius: Array, base: Array, ragged: float) -> None:
        """A shaded ellipsoid; `ragged` frays its edge, as a tree's."""
        x, y, z = centre
        cx, cy = self.focal * x / z + self.cx, self.focal * y / z + self.cy
        rx, ry = self.focal * radius[0] / z, self.focal * radius[1] / z
        u, v = (self.x - cx) / max(rx, 1e-3), (self.y - cy) / max(ry, 1e-3)
        rough = noise(self.rng, self.h, self.w, int(np.clip(3 * self.w / max(rx, 4), 3, 40)), 5, 0.8)
        inside = u**2 + v**2 + ragged * rough < 1
        sun = self.rng.uniform(-0.6, 0.6, 2)
        light = np.clip(0.75 - 0.4 * (v + sun[1]) + 0.3 * sun[0] * u, 0.2, 1.3) * (1 + (0.1 + 0.3 * ragged) * rough)
        bulge = np.sqrt(np.clip(1 - u**2 - v**2, 0, 1)) * min(radius[0], 0.3 * z)
        self.put(inside, (z - bulge).astype(np.float32), np.clip(base * light[..., None], 0, 1))


def clutter(canvas: Canvas, height: float, count: int, reach: float, near: float, far: float, kinds: int = 4) -> None:
    """Boxes, balls, posts and trees that stand on the ground; three `kinds` leave the trees out."""
    rng = canvas.rng
    for _ in range(count):
        z = rng.uniform(near**0.5, far**0.5) ** 2
        x, tall = rng.uniform(-reach, reach) * max(0.3, z), height * rng.uniform(0.2, 1.1)
        what = rng.integers(kinds)
        base = colour(rng, 0.05, 0.9, 0.9)
        if what == 0:
            half = tall * rng.uniform(0.3, 1.2)
            low, high = np.array([x - half, height - tall, z]), np.array([x + half, height, z + half])
            canvas.box(low, high, texture(rng, base), texture(rng, base))
        elif what == 1:
            r = tall / 2
            canvas.ball(np.array([x, height - r, z]), np.array([r, r]), base, 0.0)
        elif what == 3:
            green = np.array([0.15, 0.35, 0.1], np.float32) * rng.uniform(0.5, 1.8, 3)
            crown = height * rng.uniform(0.4, 1.0)
            post = texture(rng, np.array([0.3, 0.22, 0.15], np.float32), 0.2)
            canvas.box(np.array([x - 0.08 * crown, height - 2.4 * crown, z + 0.01]),
                       np.array([x + 0.08 * crown, height, z + 0.02]), post, post)
            canvas.ball(np.array([x, height - 2.4 * crown, z]), np.array([crown, crown * rng.uniform(0.8, 1.6)]),
                        green.clip(0, 1), rng.uniform(0.1, 0.35))
        else:
            thin = height * rng.uniform(0.02, 0.08)
            surface = texture(rng, base, 0.05)
            canvas.box(np.array([x - thin, height * (1 - rng.uniform(1, 3)), z]),
                       np.array([x + thin, height, z + thin]), surface, surface)


def street(rng: Rng, h: int, w: int) -> Canvas:
    canvas = Canvas(rng, h, w, rng.uniform(0.3, 0.6))
    height, half = rng.uniform(0.025, 0.06), rng.uniform(0.05, 0.14)
    canvas.sky()
    canvas.ground(height, texture(rng, colour(rng, 0.15, 0.6, 0.4)), 600, (half, colour(rng, 0.15, 0.5, 0.1)))
    for side in (-1, 1):
        z = rng.uniform(0.1, 0.3)
        while z < 0.95:
            deep, wide, tall = rng.uniform(0.05, 0.2), rng.uniform(0.1, 0.4), height * rng.uniform(2, 10)
            if rng.random() < 0.8:
                inner = side * (half * rng.uniform(1.3, 1.8))
                x0, x1 = sorted((inner, inner + side * wide))
                base = colour(rng, 0.15, 0.85, 0.6)
                low, high = np.array([x0, height - tall, z]), np.array([x1, height, z + deep])
                canvas.box(low, high, facade(rng, base), facade(rng, base))
            z += deep * rng.uniform(1.0, 1.5)
    clutter(canvas, height, int(rng.integers(4, 14)), 0.6, 0.09, 0.8)
    return canvas


def hills(rng: Rng, h: int, w: int) -> Canvas:
    canvas = Canvas(rng, h, w, rng.uniform(0.3, 0.55))
    canvas.sky()
    height = rng.uniform(0.03, 0.08)
    base = colour(rng, 0.15, 0.6, 0.7)
    canvas.ground(height, texture(rng, base), rng.uniform(200, 800))
    for depth in np.sort(rng.uniform(0.35, 1.0, rng.integers(2, 7)))[::-1]:
        line = noise(rng, 1, w, int(rng.integers(2, 6)), 6, rng.uniform(0.35, 0.6))[0]
        top = canvas.cy - h * rng.uniform(-0.02, 0.25) * depth - line * h * rng.uniform(0.02, 0.08)
        slope = np.clip(canvas.y - top, 0, None) / h
        inside = (canvas.y > top) & (canvas.y < canvas.cy + canvas.focal * height + 2)
        rough = noise(rng, h, w, int(rng.integers(4, 24)), 6, rng.uniform(0.6, 0.95))[..., None]
        image = colour(rng, 0.1, 0.6, 0.6) * (1 + rng.uniform(0.05, 0.3) * rough) * (1.1 - slope[..., None])
        canvas.put(inside, np.maximum(depth - 0.5 * slope, 0.3).astype(np.float32), np.clip(image, 0, 1))
    clutter(canvas, height, int(rng.integers(6, 18)), 0.7, 0.1, 0.9)
    return canvas


def room(rng: Rng, h: int, w: int) -> Canvas:
    canvas = Canvas(rng, h, w, rng.uniform(0.35, 0.65))
    left, right, up, down, back = *(rng.uniform(0.12, 0.4, 2)), *(rng.uniform(0.1, 0.25, 2)), rng.uniform(0.4, 0.95)
    wall, n = colour(rng, 0.2, 0.9, 0.5), NEAR

    def surface() -> Array:
        return texture(rng, wall * rng.uniform(0.7, 1.1), rng.uniform(0.02, 0.12))

    canvas.quad(np.array([[-left, -up, back], [right, -up, back], [right, down, back], [-left, down, back]]), surface())
    canvas.quad(np.array([[-left, -up, n], [-left, -up, back], [-left, down, back], [-left, down, n]]), surface(), 0.8)
    canvas.quad(np.array([[right, -up, back], [right, -up, n], [right, down, n], [right, down, back]]), surface(), 0.9)
    canvas.quad(np.array([[-left, -up, n], [right, -up, n], [right, -up, back], [-left, -up, back]]),
                texture(rng, colour(rng, 0.5, 0.95, 0.2), 0.03))
    canvas.quad(np.array([[-left, down, back], [right, down, back], [right, down, n], [-left, down, n]]),
                texture(rng, colour(rng, 0.1, 0.7, 0.6)))
    for _ in range(rng.integers(1, 5)):  # pictures and windows on the back wall
        x, y, half = rng.uniform(-left, right), rng.uniform(-up, down * 0.3), rng.uniform(0.02, 0.1)
        z = back - 0.005
        paint = texture(rng, colour(rng, 0.05, 0.98, 0.9), 0.3)
        canvas.quad(np.array([[x - half, y - half, z], [x + half, y - half, z], [x + half, y + half, z],
                              [x - half, y + half, z]]), paint)
    clutter(canvas, down, int(rng.integers(5, 14)), min(left, right), 0.2, back, kinds=3)
    return canvas


def leaves(rng: Rng, h: int, w: int) -> Canvas:
    """Overlapping shapes of all sizes, the statistics of natural pictures, on a background that recedes."""
    canvas = Canvas(rng, h, w, 0.5)
    ramp = rng.uniform(-1, 1) * canvas.x / w + rng.uniform(-1, 1) * canvas.y / h + 0.3 * noise(rng, h, w, 2, 3)
    ramp = (ramp - ramp.min()) / (np.ptp(ramp) + 1e-6)
    far = cv2.resize(texture(rng, colour(rng)), (w, h), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    canvas.put(np.ones((h, w), bool), (0.5 + 0.5 * ramp).astype(np.float32), far)
    for _ in range(rng.integers(40, 110)):
        r = min(6 * (1 - rng.random()) ** -0.8, 0.4 * h)
        angle, long = rng.uniform(0, 180), rng.uniform(0.4, 1) * r
        centre = rng.uniform(0, w), rng.uniform(0, h)
        mask = np.zeros((h, w), np.uint8)
        if rng.random() < 0.5:
            cv2.ellipse(mask, (centre, (2 * r, 2 * long), angle), 1, -1)
        else:
            cv2.fillPoly(mask, [cv2.boxPoints((centre, (2 * r, 2 * long), angle)).round().astype(np.int32)], 1)
        base = colour(rng, 0.03, 0.97, 0.9)
        tilt = rng.uniform(-0.4, 0.4, 2)
        light = 1 + tilt[0] * (canvas.x - centre[0]) / r + tilt[1] * (canvas.y - centre[1]) / r
        if r > 10:
            light = light * (1 + rng.uniform(0, 0.25) * noise(rng, h, w, int(rng.integers(3, 40)), 5, 0.8))
        depth = np.full((h, w), rng.uniform(0.1, 0.95), np.float32)
        canvas.put(mask.astype(bool), depth, np.clip(base * light[..., None], 0, 1).astype(np.float32))
    return canvas


DRAWN = {"street": street, "hills": hills, "room": room, "leaves": leaves}
KINDS = tuple(DRAWN)


def scene(seed: int, w: int = 320, h: int = 240, kind: str | None = None) -> tuple[Array, Array]:
    """A clear picture, u8 `[h, w, 3]`, and its depth, f32 `[h, w]`. Drawn at 1.5 times the size, for smooth edges."""
    rng = np.random.default_rng(seed)
    kind = kind or KINDS[rng.choice(4, p=[0.35, 0.25, 0.2, 0.2])]
    canvas = DRAWN[kind](rng, h * 3 // 2, w * 3 // 2)
    picture = cv2.resize(canvas.picture, (w, h), interpolation=cv2.INTER_AREA)
    depth = cv2.resize(canvas.depth, (w, h), interpolation=cv2.INTER_AREA)
    shade = 1 + rng.uniform(0, 0.12) * noise(rng, h, w, 2, 3)[..., None]
    balance = rng.uniform(0.92, 1.08, 3).astype(np.float32)
    picture = np.clip(picture * shade * balance, 0, 1) ** rng.uniform(0.8, 1.3)
    return np.floor(picture * 255 + 0.5).astype(np.uint8), depth


def haze(rng: Rng, clear: Array, depth: Array) -> Array:
    """`clear` (0..1) behind haze: I = J·t + A·(1 − t), t = exp(−β·depth); β 0.6 to 1.8, A 0.7 to 1, a little tinted."""
    beta = rng.uniform(0.6, 1.8)
    light = np.clip(rng.uniform(0.7, 1.0) + rng.uniform(-0.03, 0.03, 3), 0, 1).astype(np.float32)
    t = np.exp(-beta * depth)[..., None].astype(np.float32)
    return clear * t + light * (1 - t)


def to_u8(picture: Array) -> Array:
    return np.floor(np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
