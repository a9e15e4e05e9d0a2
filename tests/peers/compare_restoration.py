"""DEA-Net and LMD-ViT: eager PyTorch beside the fused models on ONNX Runtime, call by call in turn, on the same threads.

    python compare_restoration.py TAPETUM [--rounds 20] [--threads 2] [--size 256] [--variant released] [--only deanet]

TAPETUM is the program; it makes the weights up and fuses them. Needs torch, safetensors, numpy and onnxruntime. Prints
the times and ratios in Markdown; fails if both sides' outputs differ by more than 1e-3 of the largest value.
"""
import argparse
import copy
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from safetensors.torch import load_file, save_file

from restoration_nets import DetailConv, State, deanet, lmdvit, merge_branches

ALLOWED = 1e-3
PAUSE = 0.02  # seconds between calls, so that neither side's threads still spin when the other runs


@dataclass
class Side:
    """One way of running a network on `[1, 3, size, size]`."""

    name: str
    run: Callable[[np.ndarray], np.ndarray]
    ours: bool = False
    times: list[float] = field(default_factory=list)


def tapetum(program: str, *arguments: str | Path) -> None:
    subprocess.run([program, *arguments], check=True, stdout=subprocess.DEVNULL)


def made_up(args: argparse.Namespace, folder: Path, network: str, variant: str) -> State:
    file = folder / f"{network}.safetensors"
    tapetum(args.tapetum, "init", network, "--variant", variant, "--seed", "7", "-o", file)
    return load_file(file)


def fused(args: argparse.Namespace, folder: Path, name: str, state: State) -> Side:
    """Ours: `state` fused and loaded into ONNX Runtime."""
    checkpoint, model = folder / f"{name}.safetensors", folder / f"{name}.onnx"
    save_file({key: value.contiguous() for key, value in state.items()}, checkpoint)
    tapetum(args.tapetum, "fuse", checkpoint, "-o", model, "--input", f"{args.size}x{args.size}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = args.threads, 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed, out = session.get_inputs()[0].name, session.get_outputs()[0].name
    return Side("tapetum's fused model, ONNX Runtime", lambda x: session.run([out], {feed: x})[0], ours=True)


def eager(name: str, net: torch.nn.Module) -> Side:
    return Side(f"PyTorch eager{name}", lambda x: net(torch.from_numpy(x)).numpy())


def deanet_sides(args: argparse.Namespace, folder: Path) -> dict[str, list[Side]]:
    state = made_up(args, folder, "deanet", "dim32")
    branches = deanet(state)
    kernels = copy.deepcopy(branches)
    for module in kernels.modules():
        if isinstance(module, DetailConv):
            module.merged = True
    return {"DEA-Net": [
        eager(", training form, five convolutions", branches),
        eager(", training form, kernels summed in each call", kernels),
        eager(", deployment form", merge_branches(branches)),
        fused(args, folder, "deanet_fused", state),
    ]}


def lmdvit_sides(args: argparse.Namespace, folder: Path) -> dict[str, list[Side]]:
    """No window kept and all kept, by the bias of the last layer of each predictor."""
    state, sides = made_up(args, folder, "lmdvit", args.variant), {}
    for name, bias in (("no window kept", -1000.0), ("all windows kept", 1000.0)):
        changed = dict(state)
        for key in state:
            if key.endswith("score_predictor.out_conv.4.bias"):
                changed[key] = torch.tensor([bias, 0.0])
        sides[f"LMD-ViT, {name}"] = [eager("", lmdvit(changed)), fused(args, folder, f"lmdvit_{bias:.0f}", changed)]
    return sides


def load_average() -> str:
    return " ".join(f"{load:.1f}" for load in os.getloadavg())


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("tapetum")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=600, help="no further round of a network after this long")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--variant", default="released", help="of LMD-ViT")
    parser.add_argument("--only", choices=["deanet", "lmdvit"])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    makers = {"deanet": deanet_sides, "lmdvit": lmdvit_sides}
    with tempfile.TemporaryDirectory() as folder:
        groups = {}
        for network, make in makers.items():
            if args.only in (None, network):
                groups |= make(args, Path(folder))
        x = np.random.default_rng(1).random((1, 3, args.size, args.size), dtype=np.float32)
        differences, held = {}, True
        for name, sides in groups.items():
            outputs = [side.run(x) for side in sides]  # also warms up
            scale = np.abs(outputs[0]).max()
            differences[name] = max(float(np.abs(out - outputs[-1]).max() / scale) for out in outputs[:-1])
            held = held and differences[name] <= ALLOWED
        before = load_average()
        # Network by network: a call that comes seconds after its last one finds all caches cold.
        for sides in groups.values():
            begun, rounds = time.monotonic(), 0
            while rounds < args.rounds and (rounds == 0 or time.monotonic() - begun < args.seconds):
                rounds += 1
                for side in sides:
                    time.sleep(PAUSE)
                    start = time.perf_counter()
                    side.run(x)
                    side.times.append(1000 * (time.perf_counter() - start))
    print("| network | side | median, ms | p99, ms | times ours |\n|---|---|---|---|---|")
    for name, sides in groups.items():
        ours = np.array(next(side.times for side in sides if side.ours))
        for side in sides:
            ratio = "" if side.ours else f"{np.median(np.array(side.times) / ours):.2f}"
            print(f"| {name} | {side.name} | {np.median(side.times):.0f} | {np.percentile(side.times, 99):.0f} | {ratio} |")
    listed = ", ".join(f"{name} {difference:.1e}" for name, difference in differences.items())
    print(f"\n{args.size}×{args.size}, {args.threads} threads, up to {args.rounds} rounds in turn; torch {torch.__version__}, "
          f"onnxruntime {onnxruntime.__version__}; load average {before} before, {load_average()} after.\n"
          f"Largest difference between the sides, as a share of the largest output: {listed}.")
    if not held:
        sys.exit("the sides do not compute the same")


if __name__ == "__main__":
    main()
