"""Tapetum beside the plain Python pipeline: the same clip, the same models, the same cores, run by run in turn.

    python compare_tf_collab.py TAPETUM [--rounds 5] [--engine ort] [--threads 2]

TAPETUM is the program. Needs numpy, opencv-python-headless and onnxruntime; the models are those that `tapetum` fuses from
pipelines/demo. Prints frames per second and peak memory of both, and whether both found the same.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("tapetum")
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--engine", default="ort")
parser.add_argument("--threads", type=int, default=2)
args = parser.parse_args()

root = Path(__file__).resolve().parents[2]
clip = root / "pipelines/demo/dev_a.mp4"
LABELS = ["clear", "closed", "broken", "blur"]


def tapetum(folder, cache):
    command = [args.tapetum, "run", root / "pipelines/tf-collab.toml", "--source", clip, "--engine", args.engine,
               "--out", folder, "--sink", "jsonl", "--json", "--workers", str(args.threads), "--threads", "1"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                             env={**os.environ, "TAPETUM_CACHE": cache})
    summary = json.loads(child.stdout.read())
    _, status, usage = os.wait4(child.pid, 0)
    assert status == 0, command
    frames = [json.loads(line)["findings"] for line in open(Path(folder) / "results.jsonl")]
    return {
        "fps": summary["fps"],
        "rss_mib": usage.ru_maxrss / 1024,
        "classes": [LABELS.index(f["state"]["class"]) for f in frames],
        "areas": [f["tfbu"].get("area_px", {}).get("tfbu", 0) for f in frames],
    }


def baseline(models):
    script = Path(__file__).with_name("tf_collab_baseline.py")
    command = [sys.executable, script, clip, models, "--threads", str(args.threads)]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


with tempfile.TemporaryDirectory() as folder:
    cache = f"{folder}/cache"
    tapetum(folder, cache)  # fuses the models, warms the disk cache
    ours, theirs = [], []
    for _ in range(args.rounds):
        theirs.append(baseline(f"{cache}/models"))
        ours.append(tapetum(folder, cache))

print("| | frames/s, median (from – to) | peak memory, MiB |\n|---|---|---|")
for name, runs in (("Python: OpenCV + onnxruntime", theirs), (f"tapetum, {args.engine}", ours)):
    fps = sorted(run["fps"] for run in runs)
    rss = max(run["rss_mib"] for run in runs)
    print(f"| {name} | {statistics.median(fps):.1f} ({fps[0]:.1f} – {fps[-1]:.1f}) | {rss:.0f} |")
ratios = sorted(a["fps"] / b["fps"] for a, b in zip(ours, theirs))
other = sum(a != b for a, b in zip(ours[0]["classes"], theirs[0]["classes"]))
off = max(abs(a - b) for a, b in zip(ours[0]["areas"], theirs[0]["areas"]))
print(f"\nratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} – {ratios[-1]:.2f}); {len(ours[0]['classes'])} frames, "
      f"{other} of another class, break-up area at most {off} px off")
if other > 2:
    sys.exit("they do not find the same")
