#!/usr/bin/env python3
"""The same model files on the same engines, ours beside Python's: onnxruntime, onnxruntime-openvino, openvino.

    python compare_engines.py ENGINE_SPEED MODEL[@SIZE][xBATCH]... [--threads 2] [--rounds 12] [--every 33]
        [--ort-python PYTHON] [--ov-python PYTHON] [--ort LIB] [--ov-ort LIB] [--tract]
        [--markdown FILE] [--json FILE] [--most 1.02]

ENGINE_SPEED is the program of that name (cargo build --workspace --bins). SIZE (256) and BATCH (1) are for extents that
the model leaves open; the int8 form of net.onnx is net-int8.onnx beside it, if there is one. --ort-python has onnxruntime
and openvino, --ov-python onnxruntime-openvino; ours loads the very libraries of those packages unless --ort and --ov-ort
say others.

Every side is a process of its own. They are asked in turn, in a new order each round, for a few runs one after the
other, of which the first 60 ms are not counted; then all rest until no thread spins any more. With --every a side begins
a run every so many milliseconds, as for a camera, and only ort:cpu is looked at: threads that spin between frames as Python's
do, and threads that sleep as a pipeline's do.

GFLOP/s count a multiply-accumulate as two; the share is of the best square matrix product in fp32 on ort:cpu, measured
before and after each network. A ratio is ours by theirs: the median over the rounds of the rounds' medians. With --most,
fails if one is above it.
"""
import argparse
import json
import math
import os
import random
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

# ONNX Runtime's threads spin for some 25 ms.
REST = 0.06
# Milliseconds until the scheduler has spread threads that slept over the cores.
SETTLE = 60
WORKER = Path(__file__).with_name("engine_worker.py")
# Engine, precision as results name it, what ours is asked for, the same from Python, openvino itself, whether int8.
ROWS = [
    ("tract", "fp32", "tract", None, None, False),
    ("tract", "int8", "tract", None, None, True),
    ("ort:cpu", "fp32", "ort:cpu", "ort", None, False),
    ("ort:cpu", "int8", "ort:cpu", "ort", None, True),
    ("ort:openvino", "fp32", "ort:openvino/fp32", "ort-openvino/f32", "openvino/f32", False),
    ("ort:openvino", "bf16", "ort:openvino/bf16", "ort-openvino/bf16", "openvino/bf16", False),
    ("ort:openvino", "int8", "ort:openvino/fp32", "ort-openvino/f32", "openvino/f32", True),
    ("ort:openvino", "int8+bf16", "ort:openvino/bf16", "ort-openvino/bf16", "openvino/bf16", True),
]


class Side:
    """A process that runs one model when it is asked."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **env})
        ready = self.process.stdout.readline().split(maxsplit=2)
        if ready[:1] != ["ready"]:
            self.process.wait()
            raise RuntimeError((self.process.stderr.read().strip().splitlines() or ["it ended"])[-1])
        self.gmac, self.engine = float(ready[1]), ready[2].strip()
        self.times: list[float] = []
        self.rounds: list[float] = []
        self.cpu_ms = 0.0

    def ask(self, count: int, every: int) -> list[float]:
        self.process.stdin.write(f"{count} {every}\n")
        self.process.stdin.flush()
        return [float(t) for t in self.process.stdout.readline().split()]

    def warm_up(self) -> None:
        """Also finds how many runs make a turn long enough to be worth it."""
        least = min(self.ask(3, 0))
        self.unsettled = math.ceil(SETTLE / least)
        self.count = self.unsettled + max(1, min(10, round(150 / least)))

    def turn(self, every: int) -> None:
        before = self.cpu()
        times = self.ask(self.count, every)[self.unsettled if not every else 1 :]
        time.sleep(REST)
        self.cpu_ms += (self.cpu() - before) / self.count
        self.times += times
        self.rounds.append(statistics.median(times))

    def cpu(self) -> float:
        """Milliseconds of CPU time so far, in steps of the kernel's tick."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) * 1e3 / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()

    def figures(self) -> dict:
        return {"engine": self.engine, "median_ms": statistics.median(self.times), "least_ms": min(self.times),
                "cpu_ms": self.cpu_ms / len(self.rounds), "runs": len(self.times)}


def library(python: str) -> str:
    code = ("import onnxruntime, pathlib;"
            "print(next(pathlib.Path(onnxruntime.__file__).parent.glob('capi/libonnxruntime.so.*'), ''))")
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def ratio(ours: Side, theirs: Side | None) -> float | None:
    """Round by round: what disturbs the machine disturbs both."""
    return theirs and statistics.median(a / b for a, b in zip(ours.rounds, theirs.rounds))


class Comparison:
    """One network on all engines."""

    def __init__(self, args: argparse.Namespace, wanted: str) -> None:
        name, size, batch = re.fullmatch(r"(.+?)(?:@(\d+))?(?:x(\d+))?", wanted).groups()
        self.args, self.model = args, Path(name)
        self.numbers = [str(args.threads), batch or "1", size or "256"]
        self.name = self.model.stem + (f", batch {batch}" if batch else "")
        self.sides: dict[tuple, Side] = {}
        self.int8 = self.model.with_name(f"{self.model.stem}-int8.onnx")

    def add(self, key: tuple, command: list[str], lib: str) -> None:
        try:
            self.sides[key] = Side(command, {"TAPETUM_ORT": lib} if lib else {})
        except (OSError, RuntimeError) as e:
            print(f"not run: {self.name}: {' '.join(map(str, key))}: {e}", file=sys.stderr)

    def start(self) -> None:
        args = self.args
        for engine, precision, ours, theirs, openvino, int8 in ROWS:
            model = str(self.int8 if int8 else self.model)
            if (int8 and not self.int8.is_file()) or (engine == "tract" and not args.tract):
                continue
            if args.every and (engine, precision) != ("ort:cpu", "fp32"):
                continue
            on_openvino = engine == "ort:openvino"
            lib = args.ov_ort if on_openvino else args.ort
            for cores in ["own", "shared"] if args.every else ["in-turn"]:
                self.add((engine, precision, cores),
                         [args.engine_speed, "serve", model, ours, *self.numbers, cores], lib)
            if theirs:
                python = args.ov_python if on_openvino else args.ort_python
                self.add((engine, precision, "python"), [python, str(WORKER), theirs, model, *self.numbers], "")
            if openvino:
                self.add((engine, precision, "openvino"),
                         [args.ort_python, str(WORKER), openvino, model, *self.numbers], "")

    def run(self) -> list[dict]:
        """A row per engine and precision."""
        self.start()
        for side in self.sides.values():
            side.warm_up()
        peak = self.peak()
        for n in range(self.args.rounds):
            for key in random.sample(list(self.sides), len(self.sides)):
                if key[0] != "tract" or n % 4 == 0:  # an order of magnitude slower than all others
                    self.sides[key].turn(self.args.every)
        peak = max(peak, self.peak())
        for side in self.sides.values():
            side.close()
        base = self.sides.get(("ort:cpu", "fp32", "own" if self.args.every else "in-turn"))
        return [self.row(key, side, peak, base) for key, side in self.sides.items() if key[2] not in ("python", "openvino")]

    def row(self, key: tuple, side: Side, peak: float, base: Side | None) -> dict:
        engine, precision, cores = key
        peers = {name: self.sides.get((engine, precision, name)) for name in ("python", "openvino")}
        # That of the fp32 file, as int8 weights stand behind other nodes.
        gmac = max((s.gmac for s in self.sides.values()), default=0.0)
        gflops = 2 * gmac / statistics.median(side.times) * 1e3
        return {
            "network": self.name, "engine": engine, "precision": precision, "cores": cores, "ours": side.figures(),
            **{name: peer and peer.figures() for name, peer in peers.items()},
            **{f"of_{name}": ratio(side, peer) for name, peer in peers.items()},
            "gmac": gmac, "gflops": gflops, "matmul_gflops": peak,
            "share": gflops / peak if precision == "fp32" else None,
            "times_as_fast_as_ort_fp32": base and statistics.median(base.times) / statistics.median(side.times),
        }

    def peak(self) -> float:
        command = [self.args.engine_speed, "peak", "ort:cpu", str(self.args.threads)]
        env = {**os.environ, "TAPETUM_ORT": self.args.ort}
        return float(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout)


def both(figures: dict | None) -> str:
    return f"{figures['median_ms']:.2f} / {figures['least_ms']:.2f}" if figures else ""


def cell(number: float | None, shown: str) -> str:
    return "" if number is None else format(number, shown)


def markdown(rows: list[dict], every: int) -> str:
    if every:
        head = ["network", "threads between runs", "ours", "onnxruntime-python", "ratio", "CPU ms a run", "from Python"]
        told = {"own": "spin", "shared": "sleep"}
        lines = [[r["network"], told[r["cores"]], both(r["ours"]), both(r["python"]), cell(r["of_python"], ".2f"),
                  f"{r['ours']['cpu_ms']:.1f}", cell(r["python"] and r["python"]["cpu_ms"], ".1f")] for r in rows]
    else:
        head = ["network", "engine", "precision", "ours", "same engine from Python", "ratio", "openvino-python", "ratio",
                "× ort fp32", "GFLOP/s", "of the product's"]
        lines = [[r["network"], r["engine"], r["precision"], both(r["ours"]), both(r["python"]),
                  cell(r["of_python"], ".2f"), both(r["openvino"]), cell(r["of_openvino"], ".2f"),
                  cell(r["times_as_fast_as_ort_fp32"], ".2f"), f"{r['gflops']:.0f}",
                  cell(r["share"] and r["share"] * 100, ".0f") + (" %" if r["share"] else "")] for r in rows]
    table = [head, ["---"] * len(head), *lines]
    return "".join("| " + " | ".join(line) + " |\n" for line in table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine_speed")
    parser.add_argument("models", nargs="+")
    for name, default in (("threads", 2), ("rounds", 12), ("every", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name in ("ort-python", "ov-python"):
        parser.add_argument(f"--{name}", default=sys.executable)
    for name in ("ort", "ov-ort", "markdown", "json"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--tract", action="store_true", help="also on tract, which is far slower")
    parser.add_argument("--most", type=float)
    args = parser.parse_args()
    args.ort = args.ort or library(args.ort_python)
    args.ov_ort = args.ov_ort or library(args.ov_python)
    rows = [row for model in args.models for row in Comparison(args, model).run()]
    table = markdown(rows, args.every)
    print(table)
    if args.markdown:
        Path(args.markdown).write_text(table)
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=1))
    slower = [f"{r['network']}: {r['engine']}/{r['precision']}: {r['of_python']:.3f}" for r in rows
              if args.most and r["cores"] != "shared" and (r["of_python"] or 0) > args.most]
    if slower:
        sys.exit("slower than from Python: " + "; ".join(slower))


if __name__ == "__main__":
    main()
