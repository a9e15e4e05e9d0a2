"""Tapetum beside the plain Python pipeline: the same clip, the same models, the same cores, run by run in turn.

    python compare_tf_collab.py TAPETUM [--rounds 5] [--engine ort] [--threads 2] [--precision auto [--calibrate CLIP]]

TAPETUM is the program. Needs numpy, opencv-python-headless and onnxruntime; the models are those that `tapetum` fuses from
pipelines/demo. With --precision auto, `tapetum tune` measures first, on another clip (tests/clips/dev_c.mp4). Prints frames per second and peak memory of both, and whether both found the same.
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
parser.add_argument("--precision")
parser.add_argument("--calibrate")
args = parser.parse_args()

root = Path(__file__).resolve().parents[2]
clip = root / "pipelines/demo/dev_a.mp4"
LABELS = ["clear", "closed", "broken", "blur"]


def tune(cache):
    """Measures engines and precisions on this machine; prints what was chosen."""
    command = [args.tapetum, "tune", root / "pipelines/tf-collab.toml", "--engine", args.engine, "--calibrate",
               args.calibrate or root / "tests/clips/dev_c.mp4", "--workers", str(args.threads), "--threads", "1"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "TAPETUM_CACHE": cache})
    print(done.stdout)


def tapetum(folder, cache):
    command = [args.tapetum, "run", root / "pipelines/tf-collab.toml", "--source", clip, "--engine", args.engine,
               "--out", folder, "--sink", "jsonl", "--json", "--workers", str(args.threads), "--threads", "1"]
    command += ["--precision", args.precision] if args.precision else []
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                             env={**os.environ, "TAPETUM_CACHE": cache})
    summary = json.loads(child.stdout.read())
    _, status, usage = os.wait4(child.pid, 0)
    assert status == 0, command
    frames = [json.loads(line)["findings"] for line in open(Path(folder) / "results.jsonl")]
    return {
        "fps": summary["fps"],
        "but_s": [i["but_s"] for i in summary["break_up_time"]["intervals"]],
        "rss_mib": usage.ru_maxrss / 1024,
        "classes": [LABELS.index(f["state"]["class"]) for f in frames],
        "areas": [f["tfbu"].get("area_px", {}).get("tfbu", 0) for f in frames],
    }


def break_up_times(classes, fps=30.0):
    """The rule of pipelines/tf-collab.toml on class indices: from the first clear frame of an interval between blinks to the
    first of three broken ones; None if there are none."""
    clear, closed, broken = LABELS.index("clear"), LABELS.index("closed"), LABELS.index("broken")
    times, i = [], 0
    while i < len(classes):
        if classes[i] == closed:
            i += 1
            continue
        j = i
        while j < len(classes) and classes[j] != closed:
            j += 1
        first = next((k for k in range(i, j) if classes[k] == clear), None)
        if first is not None:
            at = next((k for k in range(first, j - 2) if classes[k] == classes[k + 1] == classes[k + 2] == broken), None)
            times.append(None if at is None else round((at - first) / fps, 3))
        i = j
    return times


def baseline(models):
    script = Path(__file__).with_name("tf_collab_baseline.py")
    command = [sys.executable, script, clip, models, "--threads", str(args.threads)]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


with tempfile.TemporaryDirectory() as folder:
    # Tuning leaves other files beside the models; Python gets those in fp32 alone.
    cache, fp32 = f"{folder}/cache", f"{folder}/fp32"
    tapetum(folder, fp32)  # fuses the models, warms the disk cache
    if args.precision == "auto":
        tune(cache)
    tapetum(folder, cache)
    ours, theirs = [], []
    for _ in range(args.rounds):
        theirs.append(baseline(f"{fp32}/models"))
        ours.append(tapetum(folder, cache))

print("| | frames/s, median (from – to) | peak memory, MiB |\n|---|---|---|")
for name, runs in (("Python: OpenCV + onnxruntime", theirs), (f"tapetum, {args.engine}" + (f", precision {args.precision}" if args.precision else ""), ours)):
    fps = sorted(run["fps"] for run in runs)
    rss = max(run["rss_mib"] for run in runs)
    print(f"| {name} | {statistics.median(fps):.1f} ({fps[0]:.1f} – {fps[-1]:.1f}) | {rss:.0f} |")
ratios = sorted(a["fps"] / b["fps"] for a, b in zip(ours, theirs))
other = sum(a != b for a, b in zip(ours[0]["classes"], theirs[0]["classes"]))
off = max(abs(a - b) for a, b in zip(ours[0]["areas"], theirs[0]["areas"]))
print(f"\nratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} – {ratios[-1]:.2f}); {len(ours[0]['classes'])} frames, "
      f"{other} of another class, break-up area at most {off} px off")
theirs[0]["but_s"] = break_up_times(theirs[0]["classes"])
print(f"break-up times, s: {ours[0]['but_s']}, from Python {theirs[0]['but_s']}")
same_times = all((a is None) == (b is None) and (a is None or abs(a - b) < 0.04)
                 for a, b in zip(ours[0]["but_s"], theirs[0]["but_s"], strict=True))
if other > 2 or not same_times:
    sys.exit("they do not find the same")
