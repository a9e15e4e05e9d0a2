"""Makes runtime/tests/data/quality: PSNR and SSIM as scikit-image computes them, flicker as plain numpy does.

Usage: make_quality_vectors.py OUT_FOLDER     (needs PyPI's `scikit-image`, `numpy`)

All pictures are stored, one after the other, as they are in memory: rows from the top, channels interleaved. The PSNR
of equal pictures, which is infinite, and the report of a video without static pixels are null.
"""
import json
import pathlib
import sys
import warnings

import numpy as np
import skimage
from skimage.filters import gaussian
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

# (width, height): the window alone, a single row or column of places, odd ones, more than one strip of work.
SIZES = [(11, 11), (11, 40), (40, 11), (12, 13), (37, 23), (300, 12)]
RANDOM = np.random.default_rng(20040413)


def scene(width, height, channels):
    """Edges, ramps and a little texture: what restorations are about."""
    y, x = np.mgrid[:height, :width]
    planes = [128 + 60 * np.sin(x / (3 + c) + c) + 50 * ((x + y * (c + 1)) // 7 % 2) + y - 9 * c
              for c in range(channels)]
    return rounded(np.stack(planes, -1) + RANDOM.normal(0, 3, (height, width, channels)))


def rounded(values):
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def pairs():
    for width, height in SIZES:
        for channels in (1, 3):
            a = scene(width, height, channels)
            name = f"{width}x{height}x{channels}"
            yield f"equal {name}", a, a
            yield f"noise {name}", a, rounded(a + RANDOM.normal(0, 12, a.shape))
            yield f"blur {name}", a, rounded(gaussian(a, 1.2, channel_axis=-1, preserve_range=True))
            yield f"brighter {name}", a, rounded(a + 17.0)
            yield f"inverse {name}", a, 255 - a
            yield f"unrelated {name}", *RANDOM.integers(0, 256, (2, *a.shape), dtype=np.uint8)
    for channels in (1, 3):
        flat = lambda value: np.full((14, 17, channels), value, np.uint8)
        for a, b in ((0, 0), (255, 255), (0, 255), (100, 101), (7, 200)):
            yield f"constant {a} {b} x{channels}", flat(a), flat(b)
        yield f"constant and noise x{channels}", flat(128), rounded(RANDOM.normal(128, 20, (14, 17, channels)))
    one = scene(23, 19, 3)
    off = one.copy()
    off[9, 11, 1] ^= 1
    yield "one step in one sample", one, off


def video(width, height, channels, noise, count):
    """The middle moves, the rest is still but for noise."""
    base = scene(width, height, channels).astype(float)
    for n in range(count):
        frame = base.copy()
        frame[height // 4:height // 2, width // 4:3 * width // 4] += 40 * n
        yield rounded(frame + RANDOM.normal(0, noise, frame.shape))


def grey(frames):
    return [frame.mean(-1, keepdims=True).astype(np.uint8) for frame in frames]


def videos():
    calm, noisy = list(video(13, 9, 3, 1.0, 6)), list(video(13, 9, 3, 5.0, 6))
    yield "noise amplified", 4, calm, noisy
    yield "noise calmed", 9, noisy, calm
    yield "threshold 0", 0, calm, noisy
    yield "threshold 255", 255, calm, noisy
    yield "grey to RGB", 4, grey(calm), noisy
    yield "RGB to grey", 4, calm, grey(noisy)
    yield "grey to grey", 4, grey(calm), grey(noisy)
    wide, other = list(video(16, 5, 3, 2.0, 3)), list(video(16, 5, 3, 3.0, 3))
    yield "another size in between", 5, calm + wide + calm[:2], noisy + other + noisy[:2]
    yield "grey in between", 5, calm + grey(calm) + noisy, noisy + noisy + calm
    yield "one frame", 5, calm[:1], noisy[:1]
    yield "a new size every frame", 5, [calm[0], wide[0], calm[0]], [noisy[0], other[0], noisy[0]]
    yield "nothing is still", 5, [np.full((4, 5, 3), 60 * n, np.uint8) for n in range(4)], [f[:4, :5] for f in calm[:4]]
    yield "nothing moves", 0, calm[:1] * 4, calm[:1] * 4


def flicker(threshold, captured, restored):
    fractions, before, after = [], [], []
    wide = lambda frame: np.repeat(frame, 3 // frame.shape[2], 2).astype(float)
    for (a, b), (c, d) in zip(zip(captured, captured[1:]), zip(restored, restored[1:])):
        if a.shape != b.shape or c.shape != d.shape:
            continue
        change = np.abs(wide(b) - wide(a))
        still = (change <= threshold).all(-1)
        fractions.append(still.ravel())
        before.append(change.mean(-1)[still])
        after.append(np.abs(wide(d) - wide(c)).mean(-1)[still])
    found = {"frames": len(captured)}
    if not fractions or not np.concatenate(fractions).any():
        return None
    for key, values in (("static_fraction", fractions), ("before", before), ("after", after)):
        found[key] = float(np.concatenate(values).mean())
    return found


class Pictures:
    """One after the other in one file; a picture that was stored before is not stored again."""

    def __init__(self):
        self.bytes, self.known = bytearray(), {}

    def add(self, picture):
        data = np.ascontiguousarray(picture).tobytes()
        if data not in self.known:
            self.known[data] = len(self.bytes)
            self.bytes += data
        height, width, channels = picture.shape
        return {"width": width, "height": height, "channels": channels, "offset": self.known[data]}


def pair_case(name, a, b, pictures):
    # Equal pictures divide by zero, as they should.
    with warnings.catch_warnings(), np.errstate(divide="ignore"):
        psnr = float(peak_signal_noise_ratio(a, b, data_range=255))
    ssim = structural_similarity(a, b, data_range=255, gaussian_weights=True, sigma=1.5,
                                 use_sample_covariance=False, channel_axis=-1)
    return {
        "name": name, "a": pictures.add(a), "b": pictures.add(b), "mse": float(mean_squared_error(a, b)),
        "psnr": psnr if np.isfinite(psnr) else None, "ssim": float(ssim),
    }


def main(folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    pictures = Pictures()
    index = {
        "made_by": f"scikit-image {skimage.__version__}, numpy {np.__version__}",
        "pairs": [pair_case(*case, pictures) for case in pairs()],
        "videos": [
            {
                "name": name, "threshold": threshold, "captured": [pictures.add(f) for f in captured],
                "restored": [pictures.add(f) for f in restored], "report": flicker(threshold, captured, restored),
            }
            for name, threshold, captured, restored in videos()
        ],
    }
    lines = lambda cases: "[\n" + ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases) + "\n]"
    parts = [f"{json.dumps(k)}:{lines(v) if isinstance(v, list) else json.dumps(v)}" for k, v in index.items()]
    (folder / "index.json").write_text("{" + ",\n".join(parts) + "}\n")
    (folder / "pictures.bin").write_bytes(pictures.bytes)
    print(f"{len(index['pairs'])} pairs, {len(index['videos'])} videos, {len(pictures.bytes)} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
