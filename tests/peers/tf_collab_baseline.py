"""TF-Collab written down plainly in Python: OpenCV decodes and resizes, onnxruntime runs the nets, one after the other.

    python tf_collab_baseline.py VIDEO MODELS [--threads 2]

MODELS is a folder with tf-cls-*.onnx, tf-det-*.onnx and tf-net-*.onnx as `tapetum demo` keeps them. As in TF-Collab the
localizer runs on clear and broken frames, the segmenter on broken ones. Prints one JSON object.
"""
import argparse
import glob
import json
import os
import resource
import time

parser = argparse.ArgumentParser()
parser.add_argument("video")
parser.add_argument("models")
parser.add_argument("--threads", type=int, default=2)
args = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(args.threads)
import cv2
import numpy as np
import onnxruntime as ort

CLEAR, CLOSED, BROKEN, BLUR = range(4)
cv2.setNumThreads(args.threads)
options = ort.SessionOptions()
options.intra_op_num_threads = args.threads
options.inter_op_num_threads = 1


def load(stem):
    (path,) = glob.glob(f"{args.models}/{stem}-*.onnx")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


cls, det, net = (load(stem) for stem in ("tf-cls", "tf-det", "tf-net"))


def run(session, rgb, size):
    x = cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR).astype(np.float32) / 255.0
    return session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(x.transpose(2, 0, 1))[None]})[0][0]


def edge(value, limit):
    return int(min(max(np.floor(value + 0.5), 0), limit))


capture = cv2.VideoCapture(args.video)
classes, areas = [], []
start = time.perf_counter()
while True:
    ok, bgr = capture.read()
    if not ok:
        break
    rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    height, width = rgb.shape[:2]
    state, area = int(run(cls, rgb, (224, 224)).argmax()), 0
    if state in (CLEAR, BROKEN):
        boxes = run(det, rgb, (320, 240))
        best = int(boxes[6].argmax())
        cx, cy, w, h = boxes[:4, best] * np.array([width / 320, height / 240] * 2, np.float32)
        x1, x2 = edge(cx - w / 2, width), edge(cx + w / 2, width)
        y1, y2 = edge(cy - h / 2, height), edge(cy + h / 2, height)
        if state == BROKEN and boxes[6, best] >= 0.25 and min(x2 - x1, y2 - y1) >= 16:
            broken = run(net, rgb[y1:y2, x1:x2], (512, 512))[1] > 0.5
            mask = cv2.resize(broken.astype(np.uint8), (x2 - x1, y2 - y1), interpolation=cv2.INTER_NEAREST)
            area = int(mask.sum())
    classes.append(state)
    areas.append(area)
seconds = time.perf_counter() - start
print(json.dumps({
    "fps": len(classes) / seconds,
    "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    "classes": classes,
    "areas": areas,
    "onnxruntime": ort.__version__,
    "opencv": cv2.__version__,
}))
