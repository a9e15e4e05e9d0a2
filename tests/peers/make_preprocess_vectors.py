"""Makes runtime/tests/data/preprocess: inputs of models as OpenCV, Pillow and numpy make them.

Usage: make_preprocess_vectors.py OUT_FOLDER     (needs PyPI's `opencv-python-headless`, `pillow`, `numpy`)

The filters are the libraries' own. The geometry around them is written here from the conventions that the contract
names: ultralytics' LetterBox, torchvision's Resize and CenterCrop, numpy's pad. Pictures are not stored but made of a
seed (SplitMix64, one byte each); results are stored, large ones as the SHA-256 of their bytes.
"""
import hashlib
import json
import pathlib
import sys

import cv2
import numpy as np
import PIL
from PIL import Image

F32 = np.float32
FILTERS = ("nearest", "bilinear", "bilinear_antialiased", "area")
# (width, height) from and to: down, up, mixed, odd, whole factors, single pixels, both orders of Pillow's passes.
SIZES = [
    ((1, 1), (5, 4)), ((7, 5), (13, 11)), ((13, 11), (7, 5)), ((33, 47), (33, 20)), ((40, 30), (20, 15)),
    ((45, 33), (15, 11)), ((64, 40), (16, 10)), ((31, 77), (30, 35)), ((50, 40), (30, 35)), ((23, 24), (50, 50)),
    ((50, 40), (60, 20)), ((17, 9), (5, 30)), ((1, 9), (4, 3)), ((9, 1), (3, 4)), ((97, 61), (1, 1)), ((3, 2), (7, 1)),
    ((16, 12), (16, 12)),
]
LARGE = [((640, 480), (224, 224)), ((640, 480), (320, 240)), ((223, 224), (512, 512))]
TWENTY_MEGAPIXELS = ((5472, 3648), (512, 341))


def picture(seed, width, height, channels):
    n = np.arange(1, width * height * channels + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + n * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(56)).astype(np.uint8).reshape(height, width, channels)


def resize(image, width, height, name):
    shape = (height, width, image.shape[2])
    if name == "bilinear_antialiased":
        flat = image[:, :, 0] if image.shape[2] == 1 else image
        return np.asarray(Image.fromarray(flat).resize((width, height), Image.BILINEAR)).reshape(shape)
    how = {"nearest": cv2.INTER_NEAREST, "bilinear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA}[name]
    return cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=how).reshape(shape)


def apply_resize(image, contract):
    """The 8-bit picture, then where it lies in the canvas, then the canvas (height, width) and its fill."""
    height, width = image.shape[:2]
    rule = contract["resize"]
    if rule == "none":
        return image, (0, 0), (height, width), 0
    (kind, rule), = rule.items()
    h, w = (contract["size"]["fixed"][k] for k in ("height", "width"))
    if kind == "stretch":
        return resize(image, w, h, rule["filter"]), (0, 0), (h, w), 0
    if kind == "letterbox":
        gain = min(h / height, w / width)
        size = round(width * gain), round(height * gain)
        left, top = (round((a - b) / 2 - 0.1) for a, b in zip((w, h), size))
        return resize(image, *size, rule["filter"]), (top, left), (h, w), rule["fill"]
    short, long = min(width, height), max(width, height)
    long = int(rule["shorter_side"] * long / short)
    size = (rule["shorter_side"], long) if width <= height else (long, rule["shorter_side"])
    left, top = (int(round((a - b) / 2.0)) for a, b in zip(size, (w, h)))
    return resize(image, *size, rule["filter"])[top:top + h, left:left + w], (0, 0), (h, w), 0


def colour(image, name):
    if name == "grey":
        return image if image.shape[2] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :, None]
    if image.shape[2] == 1:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    return image if name == "rgb" else image[:, :, ::-1]


def expected(image, roi, contract):
    x, y, w, h = roi
    made, (top, left), canvas, fill = apply_resize(image[y:y + h, x:x + w], contract)
    whole = np.full((*canvas, 3 if contract["colour"] != "grey" else 1), fill, np.uint8)
    whole[top:top + made.shape[0], left:left + made.shape[1]] = colour(made, contract["colour"])
    values = whole.astype(F32)
    values = values / F32(255) if contract["scale"] != 1.0 else values
    values = (values - np.array(contract["mean"], F32)) / np.array(contract["std"], F32)
    values = values.transpose(2, 0, 1)
    if contract["pad"] != "none":
        (kind, rule), = contract["pad"].items()
        least = contract["size"].get("multiple") or {"min_height": 1, "min_width": 1}
        up = lambda v, least: -(-max(v, least) // rule["multiple"]) * rule["multiple"]
        more = up(values.shape[1], least["min_height"]) - values.shape[1], \
            up(values.shape[2], least["min_width"]) - values.shape[2]
        if kind == "reflect_right_bottom":
            values = np.pad(values, ((0, 0), (0, more[0]), (0, more[1])), mode="reflect")
        else:
            values = np.pad(values, ((0, 0), *((m // 2, m - m // 2) for m in more)))
    return np.ascontiguousarray(values, F32)


def contract(size, resize_rule, colour="rgb", pad="none", normalised=False):
    channels = 1 if colour == "grey" else 3
    mean, std = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]) if normalised else ([0.0] * 3, [1.0] * 3)
    return {
        "name": "image", "size": size, "resize": resize_rule, "colour": colour,
        "scale": float(F32(1 / 255)) if normalised else 1.0,
        "mean": mean[:channels], "std": std[:channels], "pad": pad,
    }


def fixed(size):
    return {"fixed": {"height": size[1], "width": size[0]}}


def cases():
    for n, (a, b) in enumerate(SIZES):
        for name in FILTERS:
            one = contract(fixed(b), {"stretch": {"filter": name}}, "grey" if n % 3 == 1 else "rgb")
            yield f"{name} {a}->{b}", a, 1 if n % 3 == 1 else 3, None, one
    for a, b in LARGE:
        for name in FILTERS:
            yield f"{name} {a}->{b}", a, 3, None, contract(fixed(b), {"stretch": {"filter": name}})
    for name in FILTERS:
        a, b = TWENTY_MEGAPIXELS
        yield f"{name} {a}->{b}", a, 3, None, contract(fixed(b), {"stretch": {"filter": name}})
        yield f"{name} crop", (60, 50), 3, (11, 7, 23, 31), contract(fixed((24, 16)), {"stretch": {"filter": name}})
        crop = {"shorter_side_crop": {"filter": name, "shorter_side": 20}}
        for size in ((45, 31), (31, 45), (16, 16), (33, 33)):
            yield f"{name} centre {size}", size, 3, None, contract(fixed((17, 14)), crop)
        box = {"letterbox": {"filter": name, "fill": 114}}
        for size in ((45, 31), (31, 45), (9, 200), (12, 12), (7, 5)):
            yield f"{name} letterbox {size}", size, 3, None, contract(fixed((32, 24)), box)
    for name, given, channels in (("rgb", 3, 3), ("bgr", 3, 3), ("grey", 3, 1), ("rgb", 1, 3), ("bgr", 1, 3),
                                  ("grey", 1, 1)):
        for rule in ({"stretch": {"filter": "bilinear"}}, {"letterbox": {"filter": "area", "fill": 114}}):
            one = contract(fixed((12, 10)), rule, name, normalised=True)
            yield f"{given} channels as {name} {list(rule)[0]}", (17, 23), given, None, one
    reflect = {"reflect_right_bottom": {"multiple": 4}}
    least = {"multiple": {"of": 4, "min_height": 16, "min_width": 16}}
    for size in ((17, 18), (16, 20), (23, 3), (1, 1), (2, 40), (5, 5)):
        yield f"reflect {size}", size, 3, None, contract(least, "none", pad=reflect, normalised=True)
    yield "reflect crop", (40, 30), 3, (5, 6, 21, 19), contract(least, "none", pad=reflect, normalised=True)
    zero = {"zero_centred": {"multiple": 8}}
    least = {"multiple": {"of": 8, "min_height": 8, "min_width": 8}}
    for size in ((17, 18), (16, 24), (1, 1), (7, 9)):
        yield f"zero {size}", size, 3, None, contract(least, "none", pad=zero, normalised=True)
    yield "letterbox in padding", (40, 30), 1, None, contract(
        fixed((24, 24)), {"letterbox": {"filter": "bilinear", "fill": 9}}, "grey", zero, True)


def main(folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    blob, index = bytearray(), []
    for seed, (name, (width, height), channels, roi, one) in enumerate(cases()):
        roi = roi or (0, 0, width, height)
        values = expected(picture(seed, width, height, channels), roi, one)
        if one["scale"] == 1.0 and one["pad"] == "none":
            values = values.astype(np.uint8)
        data = values.tobytes()
        case = {
            "name": name, "seed": seed, "width": width, "height": height, "channels": channels, "roi": roi,
            "contract": one, "shape": values.shape, "element": "u8" if values.dtype == np.uint8 else "f32",
        }
        if len(data) > 20000:
            case["sha256"] = hashlib.sha256(data).hexdigest()
        else:
            case["offset"] = len(blob)
            blob += data
        index.append(case)
    made_by = f"opencv {cv2.__version__}, pillow {PIL.__version__}, numpy {np.__version__}"
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in index)
    (folder / "index.json").write_text(f'{{"made_by":{json.dumps(made_by)},"cases":[\n{lines}\n]}}\n')
    (folder / "values.bin").write_bytes(blob)
    print(f"{len(index)} cases, {len(blob)} bytes, {made_by}")


if __name__ == "__main__":
    main(*sys.argv[1:])
