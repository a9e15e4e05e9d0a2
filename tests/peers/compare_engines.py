"""The same model file on the same engine, ours beside Python's: onnxruntime, onnxruntime-openvino, openvino.

    python compare_engines.py ENGINE_SPEED MODEL... [--threads 2] [--rounds 40] [--batch 1] [--size 256]
        [--ort-python PYTHON] [--ov-python PYTHON] [--ort LIB] [--ov-ort LIB] [--most 1.02] [--json FILE]

ENGINE_SPEED is the program of that name (cargo build --release -p tapetum-tests). Every side is a process of its own
that runs the model once when it is asked; they are asked in turn, in a new order each round, with a pause in between, so that no
side's threads still spin when another runs. --ort-python has onnxruntime, --ov-python onnxruntime-openvino; openvino itself is
taken from --ort-python. --ort and --ov-ort are the libraries for ours, the very files of those packages if nothing is said.
Prints Markdown; with --most, fails if ours is slower than the same engine from Python by more than that factor (median of
the ratios of each round).
"""
import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

PAUSE = 0.015
WORKER = Path(__file__).with_name("engine_worker.py")


class Side:
    """A process that runs one model when it is asked."""

    def __init__(self, name: str, command: list[str], env: dict[str, str] | None = None) -> None:
        import os

        self.name, self.times = name, []
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **(env or {})})
        self.ready = self.process.stdout.readline().strip()
        if not self.ready.startswith("ready"):
            self.process.wait()
            raise RuntimeError(self.process.stderr.read().strip().splitlines()[-1])

    def run(self) -> None:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.times.append(float(self.process.stdout.readline()))

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def library(python: str) -> str:
    code = "import onnxruntime, pathlib; print(next(pathlib.Path(onnxruntime.__file__).parent.glob('capi/libonnxruntime.so.*'), ''))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def sides(args: argparse.Namespace, model: str) -> tuple[list[Side], list[tuple[str, str]]]:
    """Every side that can run `model`, and which of ours is held against which of theirs."""
    speed = [args.engine_speed, "serve", model]
    numbers = [str(args.threads), str(args.batch), str(args.size)]
    ort_lib, ov_lib = ({"TAPETUM_ORT": lib} if lib else {} for lib in (args.ort, args.ov_ort))
    wanted = [
        ("ours, ort:cpu", [*speed, "ort:cpu", *numbers], ort_lib),
        ("onnxruntime-python", [args.ort_python, str(WORKER), "ort", model, *numbers], {}),
        ("ours, ort:openvino/fp32", [*speed, "ort:openvino/fp32", *numbers], ov_lib),
        ("onnxruntime-openvino-python/fp32", [args.ov_python, str(WORKER), "ort-openvino/f32", model, *numbers], {}),
        ("ours, ort:openvino/bf16", [*speed, "ort:openvino/bf16", *numbers], ov_lib),
        ("onnxruntime-openvino-python/bf16", [args.ov_python, str(WORKER), "ort-openvino/bf16", model, *numbers], {}),
        ("openvino-python/fp32", [args.ort_python, str(WORKER), "openvino/f32", model, *numbers], {}),
        ("openvino-python/bf16", [args.ort_python, str(WORKER), "openvino/bf16", model, *numbers], {}),
    ]
    if args.tract:
        wanted.append(("ours, tract", [*speed, "tract", *numbers], {}))
    running = []
    for name, command, env in wanted:
        try:
            running.append(Side(name, command, env))
        except (OSError, RuntimeError, IndexError) as e:
            print(f"not run: {name}: {e}", file=sys.stderr)
    pairs = [(wanted[i][0], wanted[i + 1][0]) for i in (0, 2, 4)]
    return running, pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine_speed")
    parser.add_argument("models", nargs="+")
    for name, default in (("threads", 2), ("rounds", 40), ("batch", 1), ("size", 256)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--ort-python", default=sys.executable)
    parser.add_argument("--ov-python", default=sys.executable)
    parser.add_argument("--ort")
    parser.add_argument("--ov-ort")
    parser.add_argument("--tract", action="store_true", help="also on tract, which is far slower")
    parser.add_argument("--most", type=float)
    parser.add_argument("--json")
    args = parser.parse_args()
    args.ort = args.ort or library(args.ort_python)
    args.ov_ort = args.ov_ort or library(args.ov_python)
    found, slower = {}, []
    for model in args.models:
        running, pairs = sides(args, model)
        for n in range(args.rounds + 3):
            for side in random.sample(running, len(running)):
                side.run()
                time.sleep(PAUSE)
        for side in running:
            side.close()
            side.times = side.times[3:]  # warming up
        by_name = {side.name: side for side in running}
        base = by_name.get("onnxruntime-python")
        print(f"\n{Path(model).name}, batch {args.batch}, {args.threads} threads, {args.rounds} rounds in turn; ms\n")
        print("| | p50 | p90 | least | of onnxruntime-python |\n|---|---|---|---|---|")
        for side in running:
            cuts = statistics.quantiles(side.times, n=10)
            ratio = f"{statistics.median(side.times) / statistics.median(base.times):.2f}" if base else ""
            print(f"| {side.name} | {statistics.median(side.times):.2f} | {cuts[8]:.2f} | {min(side.times):.2f} | {ratio} |")
        print()
        for ours, theirs in pairs:
            if ours in by_name and theirs in by_name:
                # Round by round: what disturbs the machine disturbs both.
                ratio = statistics.median(a / b for a, b in zip(by_name[ours].times, by_name[theirs].times))
                print(f"{ours} takes {ratio:.3f} of the time of {theirs}")
                if args.most and ratio > args.most:
                    slower.append(f"{Path(model).name}: {ours}: {ratio:.3f}")
        found[Path(model).name] = {side.name: side.times for side in running}
    if args.json:
        Path(args.json).write_text(json.dumps(found))
    if slower:
        sys.exit("slower than from Python: " + "; ".join(slower))


if __name__ == "__main__":
    main()
