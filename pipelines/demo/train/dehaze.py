"""Trains and measures the demo's dehazing network: a DEA-Net of base width 8 on drawn scenes behind computed haze.

    python dehaze.py train WORK [--minutes 30]        draws the scenes into WORK once, then trains; dehaze.safetensors
    python dehaze.py measure [--video FILE ...]       PSNR and SSIM on held-back scenes, and on frames of real videos
    python dehaze.py pictures                         the held-back pairs and the clip in pipelines/demo/haze

Needs torch, safetensors, numpy, opencv-python-headless and, to measure, scikit-image. The five branches of the
detail-enhanced convolutions are trained as such, but run as the one 3x3 convolution that they are together. The
schedule is a cosine over the wall time, so the weights cannot be had again bit for bit; the scenes can, each being its
seed.
"""
import argparse
import copy
import math
import multiprocessing
import pathlib
import sys
import time

import cv2
import numpy as np
import torch
from safetensors.torch import load_file, save_file

from scenes import KINDS, haze, noise, scene, to_u8

DEMO = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(DEMO.parents[1] / "tests/peers"))
from restoration_nets import DEANet, DetailConv, deanet, restore  # noqa: E402

WEIGHTS = DEMO / "dehaze.safetensors"
TRAINING, HELD_BACK, VALIDATION = 0, 1_000_000, 2_000_000  # first seeds; the three never meet
SCENES, EYES = 560, 30
WIDTH, HEIGHT = 320, 240
# (up to this share of the time, side of a crop, crops in a batch)
PHASES = ((0.5, 64, 8), (0.88, 96, 6), (1.0, 144, 4))
RATE, WARM_UP, AVERAGE = 1e-3, 100, 0.998
DetailConv.merged = True
Pair = tuple[np.ndarray, np.ndarray]


# -------------------------------------------------------------------------------------------------------------- data

def eyes() -> Pair:
    """Frames of the demo clip, whose depth is made up, so that grey and dark pictures are seen too."""
    video = cv2.VideoCapture(str(DEMO / "dev_a.mp4"))
    rng = np.random.default_rng(TRAINING)
    pictures, depths = [], []
    for n in range(20 * EYES):
        ok, frame = video.read()
        if ok and n % 20 == 0:
            pictures.append(cv2.resize(frame[..., ::-1], (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA))
            depths.append(np.clip(0.5 + 0.15 * noise(rng, HEIGHT, WIDTH, 2, 3), 0.05, 1))
    return np.stack(pictures), np.stack(depths)


def training_set(work: pathlib.Path) -> Pair:
    """u8 `[N, H, W, 3]` and f16 `[N, H, W]`, kept in `work`."""
    file = work / "scenes.npz"
    if not file.exists():
        work.mkdir(parents=True, exist_ok=True)
        with multiprocessing.Pool(2) as pool:
            pictures, depths = zip(*pool.map(scene, range(TRAINING, TRAINING + SCENES), chunksize=8))
        more = eyes()
        np.savez(file, pictures=np.concatenate([pictures, more[0]]),
                 depths=np.concatenate([depths, more[1]]).astype(np.float16))
    stored = np.load(file)
    return stored["pictures"], stored["depths"]


def crop(rng: np.random.Generator, pictures: np.ndarray, depths: np.ndarray, side: int) -> Pair:
    """A hazy and a clear crop `[side, side, 3]`, 0..1; the hazy one rounded to 8 bits, as a camera's frame is."""
    n = rng.integers(len(pictures))
    wide = min(int(side * rng.choice([1.0, 1.0, 1.5])), HEIGHT)
    y, x = rng.integers(HEIGHT - wide + 1), rng.integers(WIDTH - wide + 1)
    clear, depth = pictures[n, y:y + wide, x:x + wide], depths[n, y:y + wide, x:x + wide].astype(np.float32)
    if wide != side:
        clear, depth = (cv2.resize(one, (side, side), interpolation=cv2.INTER_AREA) for one in (clear, depth))
    if rng.random() < 0.5:
        clear, depth = clear[:, ::-1], depth[:, ::-1]
    if rng.random() < 0.3:
        clear = clear[..., rng.permutation(3)]
    clear = clear.astype(np.float32) / 255
    hazy = haze(rng, clear, depth)
    if rng.random() < 0.5:
        hazy = hazy + rng.uniform(0, 2 / 255) * rng.standard_normal(hazy.shape).astype(np.float32)
    return to_u8(hazy).astype(np.float32) / 255, clear


def held_back(first: int, count: int) -> list[Pair]:
    """Hazy and clear pictures, u8, of scenes that were not trained on, the kinds in turn."""
    pairs = []
    for seed in range(first, first + count):
        clear, depth = scene(seed, WIDTH, HEIGHT, KINDS[seed % len(KINDS)])
        pairs.append((to_u8(haze(np.random.default_rng([seed, 1]), clear.astype(np.float32) / 255, depth)), clear))
    return pairs


# ---------------------------------------------------------------------------------------------------------- training

@torch.no_grad()
def near_identity(net: DEANet) -> None:
    """Starts where the output is about the input, so that a short training is spent on the haze.

    The colours of each 2x2 pixels travel as 12 channels at half the size; the blocks add little at first.
    """
    for name, parameter in net.named_parameters():
        if name.endswith(("conv2.weight", "conv2.bias")):
            parameter.mul_(0.1)
    net.up1[0].weight.mul_(0.1)
    net.up1[0].bias.zero_()
    for colour in range(3):
        for layer in (net.down1[0], net.up3[0]):
            layer.weight[colour] = 0
            layer.weight[colour, colour, 1, 1] = 1
            layer.bias[colour] = 0
        net.up2[0].weight[:, colour] = 0
        for phase in range(4):
            y, x, channel = 1 + phase // 2, 1 + phase % 2, 3 * phase + colour
            net.down2[0].weight[channel] = 0
            net.down2[0].weight[channel, colour, y, x] = 1
            net.down2[0].bias[channel] = 0
            net.up2[0].weight[channel, colour, y, x] = 1
            net.mix2.conv.weight[channel] *= 0.1
            net.mix2.conv.weight[channel, channel] = 0.62  # the gate lets about 0.62 of the skip through, twice summed
    net.up2[0].bias[:3] = 0


def train(work: pathlib.Path, minutes: float, seed: int) -> None:
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 7])
    pictures, depths = training_set(work)
    validation = held_back(VALIDATION, 8)
    net = DEANet(8)
    near_identity(net)
    net = net.to(memory_format=torch.channels_last).train()
    average = copy.deepcopy(net).eval()
    optimiser = torch.optim.Adam(net.parameters(), lr=RATE, betas=(0.9, 0.99))
    start, step, seen, said, loss_mean = time.time(), 0, 0, 0.0, None
    while (progress := (time.time() - start) / (60 * minutes)) < 1:
        _, side, batch = next(phase for phase in PHASES if progress < phase[0])
        rate = RATE * min(1, (step + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * progress)) + 1e-6
        for group in optimiser.param_groups:
            group["lr"] = rate
        hazy, clear = (torch.from_numpy(np.stack(part)).permute(0, 3, 1, 2)
                       for part in zip(*(crop(rng, pictures, depths, side) for _ in range(batch))))
        loss = (net(hazy) - clear).abs().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        optimiser.step()
        step, seen = step + 1, seen + batch
        decay = min(AVERAGE, step / (step + 20))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1 - decay)
        loss_mean = loss.item() if loss_mean is None else 0.98 * loss_mean + 0.02 * loss.item()
        if progress - said > 0.04 or step == 20:
            said = progress
            got = np.mean([psnr(restore(average, hazy), clear) for hazy, clear in validation])
            at = f"{progress:.2f} step {step} crops {seen}"
            print(f"{at} loss {loss_mean:.4f} rate {rate:.1e} psnr {got:.2f}", flush=True)
            save(average, {})
    took = (time.time() - start) / 60
    save(average, {"steps": str(step), "crops": str(seen), "minutes": f"{took:.1f}"})
    print(f"{step} steps, {seen} crops, {took:.1f} minutes")


def save(net: DEANet, notes: dict[str, str]) -> None:
    about = {"network": "deanet, base width 8, training form", "trained_on": "drawn scenes behind computed haze"}
    save_file({name: value.detach().contiguous().clone() for name, value in net.state_dict().items()}, WEIGHTS,
              metadata=about | notes)


# --------------------------------------------------------------------------------------------------------- measuring

def psnr(got: np.ndarray, wanted: np.ndarray) -> float:
    """dB over all values of two u8 pictures."""
    return 10 * math.log10(255**2 / max(1e-9, np.mean((got.astype(np.float64) - wanted) ** 2)))


def ssim(got: np.ndarray, wanted: np.ndarray) -> float:
    """Mean over the channels; Gaussian window 11x11 of deviation 1.5."""
    from skimage.metrics import structural_similarity
    return structural_similarity(got, wanted, channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5,
                                 use_sample_covariance=False)


def video_pairs(path: pathlib.Path, count: int = 24, every: int = 10) -> list[Pair]:
    """Frames of a real video behind haze over a plane that recedes from the bottom to the top."""
    video, pairs = cv2.VideoCapture(str(path)), []
    for n in range(count * every):
        ok, frame = video.read()
        if ok and n % every == 0:
            clear = np.ascontiguousarray(frame[..., ::-1])
            depth = np.repeat(np.linspace(1, 0.2, clear.shape[0], dtype=np.float32)[:, None], clear.shape[1], axis=1)
            pairs.append((to_u8(haze(np.random.default_rng([n, 2]), clear.astype(np.float32) / 255, depth)), clear))
    return pairs


def measure(videos: list[pathlib.Path], count: int) -> None:
    net = deanet(load_file(WEIGHTS))
    pairs = held_back(HELD_BACK, count)
    sets = {f"held-back scenes, {kind}": pairs[n::len(KINDS)] for n, kind in enumerate(KINDS)}
    sets |= {f"video {path.stem}": video_pairs(path) for path in videos}
    print("| pictures | count | PSNR hazy → restored, dB | SSIM hazy → restored | least gain, dB |\n|---|---|---|---|---|")
    held = []
    for name, pairs in sets.items():
        rows = []
        for hazy, clear in pairs:
            got = restore(net, hazy)
            rows.append((psnr(hazy, clear), psnr(got, clear), ssim(hazy, clear), ssim(got, clear)))
        if name.startswith("held-back"):
            held += rows
        print_row(name, rows)
    print_row("**held-back scenes, all**", held)


def print_row(name: str, rows: list[tuple[float, float, float, float]]) -> None:
    a, b, c, d = np.mean(rows, axis=0)
    least = min(row[1] - row[0] for row in rows)
    print(f"| {name} | {len(rows)} | {a:.2f} → {b:.2f} | {c:.3f} → {d:.3f} | {least:+.2f} |", flush=True)


# ---------------------------------------------------------------------------------------------------------- pictures

def pictures() -> None:
    """Held-back pairs as PNG, and a clip of a ball that passes in front of a hazy street, as MJPEG."""
    folder = DEMO / "haze"
    for name in ("hazy", "clear"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    shots = [("street", HELD_BACK + 500), ("street", HELD_BACK + 501), ("hills", HELD_BACK + 502),
             ("hills", HELD_BACK + 503), ("room", HELD_BACK + 504), ("leaves", HELD_BACK + 505)]
    for n, (kind, seed) in enumerate([*shots, ("street", HELD_BACK + 506)]):
        size = (WIDTH, HEIGHT) if n < len(shots) else (640, 360)
        clear, depth = scene(seed, *size, kind)
        hazy = to_u8(haze(np.random.default_rng([seed, 1]), clear.astype(np.float32) / 255, depth))
        for which, picture in (("hazy", hazy), ("clear", clear)):
            cv2.imwrite(str(folder / which / f"{n}_{kind}.png"), picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    clear, depth = scene(HELD_BACK + 600, WIDTH, HEIGHT, "street")
    clip = cv2.VideoWriter(str(folder / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 12, (WIDTH, HEIGHT))
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for n in range(24):
        u, v = (x - (20 + 12 * n)) / 18, (y - 175) / 18
        ball, shade = u**2 + v**2 < 1, np.clip(0.8 - 0.4 * v - 0.2 * u, 0, 1)[..., None]
        picture = np.where(ball[..., None], np.array([0.9, 0.35, 0.1]) * shade, clear / 255.0).astype(np.float32)
        hazy = haze(np.random.default_rng([HELD_BACK + 600, 1]), picture, np.where(ball, 0.15, depth))
        clip.write(to_u8(hazy)[..., ::-1])
    clip.release()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="more than are idle slow it down")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("train")
    one.add_argument("work", type=pathlib.Path)
    one.add_argument("--minutes", type=float, default=30)
    one.add_argument("--seed", type=int, default=1)
    one = commands.add_parser("measure")
    one.add_argument("--video", type=pathlib.Path, nargs="*", default=[])
    one.add_argument("--count", type=int, default=64)
    commands.add_parser("pictures")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(1)
    if args.command == "train":
        train(args.work, args.minutes, args.seed)
    elif args.command == "measure":
        measure(args.video, args.count)
    else:
        pictures()
