"""Makes runtime/tests/data/pixels: buffers as cameras pack them, and the pictures that OpenCV and numpy make of them.

Usage: make_pixels_vectors.py OUT_FOLDER     (needs PyPI's `opencv-python-headless`, `numpy`)

BT.601 in limited range, Bayer and the order of colours are OpenCV's; its pictures must have even sides, so a picture with an
odd one is cut from the next larger. Bayer is given to it mirrored by two pixels on each side, and cut again. The other YUV
encodings, which OpenCV does not have, are the standards' equations in float64; `within` is what integers may differ by.
"""
import json
import pathlib
import sys

import cv2
import numpy as np

RANDOM = np.random.default_rng(601)
SIZES = [(2, 2), (4, 2), (3, 3), (5, 4), (6, 5), (33, 18)]
BAYER = {  # OpenCV names a mosaic by its second row and column.
    "rg": cv2.COLOR_BayerBG2RGB, "gr": cv2.COLOR_BayerGB2RGB,
    "gb": cv2.COLOR_BayerGR2RGB, "bg": cv2.COLOR_BayerRG2RGB,
}
WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}


def by_equation(y, cb, cr, matrix, limited):
    kr, kb = WEIGHTS[matrix]
    kg = 1 - kr - kb
    y, cb, cr = (v.astype(float) for v in (y, cb, cr))
    if limited:
        y, cb, cr = np.maximum(y - 16, 0) * 255 / 219, (cb - 128) * 255 / 224, (cr - 128) * 255 / 224
    else:
        cb, cr = cb - 128, cr - 128
    r = y + 2 * (1 - kr) * cr
    b = y + 2 * (1 - kb) * cb
    g = (y - kr * r - kb * b) / kg
    return np.clip(np.floor(np.stack([r, g, b], -1) + 0.5), 0, 255).astype(np.uint8)


def even(n):
    return (n + 1) // 2 * 2


def yuv(packing, width, height, matrix, limited):
    """The rows of a buffer for a picture, and the picture."""
    w, h = even(width), even(height) if packing == "nv12" else height
    y = RANDOM.integers(0, 256, (h, w), np.uint8)
    if packing == "nv12":
        c = RANDOM.integers(0, 256, (h // 2, w // 2, 2), np.uint8)
        each = c.repeat(2, 0).repeat(2, 1)
        rows = np.concatenate([y, c.reshape(h // 2, w)])
        # The luma row and column that the picture does not have are not in its buffer.
        stored = np.concatenate([y[:height], c.reshape(h // 2, w)])
        code, given = cv2.COLOR_YUV2RGB_NV12, rows
    else:
        c = RANDOM.integers(0, 256, (h, w // 2, 2), np.uint8)
        each = c.repeat(2, 1)
        pairs = np.empty((h, w, 2), np.uint8)
        pairs[..., 0] = y
        pairs[:, 0::2, 1], pairs[:, 1::2, 1] = c[..., 0], c[..., 1]
        stored = pairs.reshape(h, 2 * w)
        code, given = cv2.COLOR_YUV2RGB_YUYV, pairs
    if (matrix, limited) == ("bt601", True):
        picture = cv2.cvtColor(given, code)
    else:
        picture = by_equation(y, each[..., 0], each[..., 1], matrix, limited)
    return stored, picture[:height, :width]


def bayer(corner, width, height):
    raw = RANDOM.integers(0, 256, (height, width), np.uint8)
    wide = raw
    for side, pad in ((height, ((2, 2), (0, 0))), (width, ((0, 0), (2, 2)))):
        # Two pixels cannot be mirrored twice; to go on in turn is the same.
        wide = np.pad(wide, pad, mode="reflect" if side > 2 else "wrap")
    return raw, cv2.cvtColor(wide, BAYER[corner])[2:-2, 2:-2]


def cases():
    for width, height in SIZES:
        name = f"{width}x{height}"
        grey = RANDOM.integers(0, 256, (height, width), np.uint8)
        yield f"grey {name}", "grey", None, grey, grey[..., None]
        rgb = RANDOM.integers(0, 256, (height, width, 3), np.uint8)
        yield f"rgb {name}", "rgb", None, rgb.reshape(height, -1), rgb
        yield f"bgr {name}", "bgr", None, rgb.reshape(height, -1), cv2.cvtColor(rgb, cv2.COLOR_BGR2RGB)
        for packing in ("yuyv", "nv12"):
            for matrix in WEIGHTS:
                for limited in (True, False):
                    range_ = "limited" if limited else "full"
                    yield (f"{packing} {matrix} {range_} {name}", packing, (matrix, range_),
                           *yuv(packing, width, height, matrix, limited))
        for corner in BAYER:
            yield f"bayer {corner} {name}", f"bayer-{corner}", None, *bayer(corner, width, height)


def main():
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    values, index = bytearray(), []
    for n, (name, packing, encoding, rows, picture) in enumerate(cases()):
        # Every other buffer has bytes between its rows.
        gap = [0, 7][n % 2]
        stored = np.pad(rows, ((0, 0), (0, gap)), constant_values=0xA5)
        matrix, range_ = encoding or ("bt601", "limited")
        height, width, channels = picture.shape
        exact = encoding in (None, ("bt601", "limited"))
        entry = dict(name=name, packing=packing, matrix=matrix, range=range_, width=width, height=height,
                     channels=channels, stride=stored.shape[1], within=0 if exact else 1)
        for key, data in (("buffer", stored.tobytes()[:stored.size - gap]), ("picture", picture.tobytes())):
            entry[key] = [len(values), len(data)]
            values += data
        index.append(entry)
    (out / "values.bin").write_bytes(values)
    made_by = f"OpenCV {cv2.__version__}, numpy {np.__version__}"
    lines = ",\n".join(json.dumps(entry) for entry in index)
    (out / "index.json").write_text(f'{{"made_by": "{made_by}", "cases": [\n{lines}\n]}}\n')
    print(f"{len(index)} cases, {len(values)} bytes, {made_by}")


main()
