"""Makes tests/data/restoration: pictures restored by the goldens' networks in PyTorch, whole and in tiles.

Usage: make_restoration_vectors.py OUT_FOLDER     (needs torch, safetensors, numpy and pillow)

index.json lists the cases. `near_ties` counts the values that lay within 0.002 of a rounding step (of 255), which are
those that another order of summation may round the other way. `decisions` has, for each network input in turn (one, or
the tiles row by row), each predictor's windows row by row, 1 = kept.
"""
import json
import pathlib
import sys

import numpy as np
import torch
from PIL import Image

from restoration_nets import DEANet, load_golden, restore

NETS = {"deanet_train_dim8": 96, "lmdvit_tiny_dim8": 128}  # golden, and the side of its tiles
SIZES = [(1, 1), (7, 5), (33, 16), (96, 64), (127, 129), (130, 260)]  # width, height
FRAMES = [(300, 200), (200, 60)]
OVERLAP = 32
MARGIN = 1e-4  # least distance of a window's score to the threshold
NEAR = 0.002


def picture(seed: int, width: int, height: int) -> np.ndarray:
    """u8 `[height, width, 3]`: a bilinear surface over a few random colours, and a little noise."""
    rng = np.random.default_rng(seed)
    grid = rng.uniform(0, 255, (6, 6, 3))

    def axis(size: int) -> tuple[np.ndarray, np.ndarray]:
        at = (np.arange(size) + 0.5) / size * 5
        low = np.minimum(at.astype(int), 4)
        return low, at - low

    (y, fy), (x, fx) = axis(height), axis(width)
    fy, fx = fy[:, None, None], fx[None, :, None]
    upper = grid[y][:, x] * (1 - fx) + grid[y][:, x + 1] * fx
    lower = grid[y + 1][:, x] * (1 - fx) + grid[y + 1][:, x + 1] * fx
    values = upper * (1 - fy) + lower * fy + rng.integers(-6, 7, (height, width, 3))
    return np.clip(np.floor(values + 0.5), 0, 255).astype(np.uint8)


class Run:
    """Restores pictures and keeps what the networks decided and how near their values came to a rounding step."""

    def __init__(self, net: torch.nn.Module):
        self.net, self.near_ties, self.margin = net, 0, 1.0
        self.decisions: list[list[str]] = []
        net.register_forward_hook(self.count)

    def count(self, _net: torch.nn.Module, _inputs: tuple, out: torch.Tensor) -> None:
        """Padding is counted too: the number is a bound."""
        scaled = out.clamp(0, 1) * 255
        self.near_ties += int(((scaled - scaled.floor() - 0.5).abs() < NEAR).sum())

    def __call__(self, image: np.ndarray) -> np.ndarray:
        if isinstance(self.net, DEANet):
            return restore(self.net, image)
        scores: list[torch.Tensor] = []
        out = restore(self.net, image, scores=scores)
        self.margin = min(self.margin, *(float((s - 0.5).abs().min()) for s in scores))
        self.decisions.append(["".join("01"[int(v > 0.5)] for v in s.flatten()) for s in scores])
        return out


def starts(size: int, tile: int, overlap: int) -> list[int]:
    """Where tiles of side `tile` begin along one axis; one shorter tile where the axis is no longer than that."""
    if size <= tile:
        return [0]
    count = -(-(size - overlap) // (tile - overlap))
    return [i * (size - tile) // (count - 1) for i in range(count)]


def weights(size: int, tile: int, overlap: int) -> np.ndarray:
    """Sixteenths `[tiles, size]` that sum to 16 at each pixel; at most two tiles share one."""
    at = starts(size, tile, overlap)
    side = min(tile, size)
    # How much of each pixel belongs to tile i + 1 or a later one, with ramps centred in what both tiles cover.
    after, last_end = [], 0
    for begin, previous in zip(at[1:], at):
        shared = previous + side - begin
        ramp = min(overlap, shared)
        first = begin + (shared - ramp) // 2
        assert first >= last_end, "ramps of different neighbours overlap"
        last_end = first + ramp
        step = np.arange(size) - first
        share = np.clip(16 * (2 * step + 1) // (2 * ramp), 0, 16)
        after.append(np.where(step < 0, 0, np.where(step >= ramp, 16, share)))
    later = np.array([np.full(size, 16), *after, np.zeros(size)], dtype=np.int64)
    parts = later[:-1] - later[1:]
    assert parts.min() >= 0 and (parts.sum(0) == 16).all() and ((parts > 0).sum(0) <= 2).all()
    for begin, part in zip(at, parts):
        assert not part[:begin].any() and not part[begin + side:].any(), "a weight outside its tile"
    return parts


def restore_tiled(run: Run, image: np.ndarray, tile: int, overlap: int) -> np.ndarray:
    """Each tile restored to u8 on its own, then blended: (Σ value·wx·wy + 128) >> 8."""
    height, width = image.shape[:2]
    total = np.zeros(image.shape, np.int64)
    for y, wy in zip(starts(height, tile, overlap), weights(height, tile, overlap)):
        for x, wx in zip(starts(width, tile, overlap), weights(width, tile, overlap)):
            down, across = slice(y, y + min(tile, height)), slice(x, x + min(tile, width))
            restored = run(np.ascontiguousarray(image[down, across]))
            total[down, across] += restored.astype(np.int64) * (wy[down, None] * wx[None, across])[..., None]
    return ((total + 128) >> 8).astype(np.uint8)


def cases(net: torch.nn.Module, tile: int, seed: int) -> list[dict]:
    made = []
    for n, (width, height) in enumerate([*SIZES, *FRAMES]):
        run = Run(net)
        image = picture(seed + n, width, height)
        if (width, height) in FRAMES:
            out, tiles = restore_tiled(run, image, tile, OVERLAP), {"tile": tile, "overlap": OVERLAP}
        else:
            out, tiles = run(image), {}
        net._forward_hooks.clear()
        facts = {"width": width, "height": height, **tiles, "near_ties": run.near_ties}
        if run.decisions:
            facts |= {"decisions": run.decisions, "margin": float(f"{run.margin:.2g}")}
        made.append({"image": image, "out": out, "facts": facts})
    return made


def main(folder: str) -> None:
    out = pathlib.Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    nets = {name: load_golden(name) for name in NETS}
    for seed in range(1, 1000, 100):
        made = {name: cases(nets[name], tile, seed) for name, tile in NETS.items()}
        margin = min(case["facts"].get("margin", 1.0) for one in made.values() for case in one)
        if margin >= MARGIN:
            break
    else:
        sys.exit("no seed keeps the scores off the threshold")
    index = []
    for name, one in made.items():
        for case in one:
            facts = case["facts"]
            size = f"{facts['width']}x{facts['height']}"
            files = {"input": f"{size}.png", "output": f"{name}_{size}.png"}
            Image.fromarray(case["image"]).save(out / files["input"], optimize=True)
            Image.fromarray(case["out"]).save(out / files["output"], optimize=True)
            index.append({"golden": name, **files, **facts})
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in index)
    made_by = f"torch {torch.__version__.split('+')[0]}, numpy {np.__version__}, seed {seed}"
    (out / "index.json").write_text(f'{{"made_by":{json.dumps(made_by)},"cases":[\n{lines}\n]}}\n')
    total = sum(file.stat().st_size for file in out.iterdir())
    print(f"{len(index)} cases, {total} bytes, {made_by}, smallest margin {margin:.1e}")


if __name__ == "__main__":
    main(*sys.argv[1:])
