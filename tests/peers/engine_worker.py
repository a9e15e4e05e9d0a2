"""One model on one engine from Python, run when it is asked: see compare_engines.py.

    python engine_worker.py ort|ort-openvino/PRECISION|openvino/PRECISION MODEL THREADS BATCH SIZE

Protocol, in lines: out `ready GMAC ENGINE` (0: not known here), then for each line `COUNT EVERY` in the milliseconds of
COUNT runs, of which one begins every EVERY milliseconds (0: one after the other).
"""
import json
import sys
import time

import numpy as np

engine, model, threads, batch, size = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
kind, _, precision = engine.partition("/")


def ramp(shape: list) -> np.ndarray:
    extents = [d if isinstance(d, int) and d > 0 else o for d, o in zip(shape, (batch, 3, size, size))]
    count = int(np.prod(extents))
    return ((np.arange(count) % 251) / 251).astype(np.float32).reshape(extents)


if kind == "openvino":
    import openvino

    core = openvino.Core()
    network = core.read_model(model)
    x = ramp([d.get_length() if d.is_static else None for d in network.inputs[0].partial_shape])
    network.reshape({network.inputs[0].any_name: list(x.shape)})
    options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(network, "CPU", options).create_infer_request()
    version = f"openvino {openvino.__version__}"

    def run() -> None:
        request.infer([x])
else:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    providers: list = ["CPUExecutionProvider"]
    if kind == "ort-openvino":
        load = json.dumps({"CPU": {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": str(threads)}})
        providers = [("OpenVINOExecutionProvider", {"device_type": "CPU", "load_config": load})]
    session = onnxruntime.InferenceSession(model, options, providers=providers)
    if kind == "ort-openvino" and session.get_providers()[0] != "OpenVINOExecutionProvider":
        sys.exit("OpenVINO does not run here")
    feed = session.get_inputs()[0]
    x = ramp(feed.shape)
    version = f"onnxruntime {onnxruntime.__version__}"

    def run() -> None:
        session.run(None, {feed.name: x})


def burst(count: int, every: float) -> list[float]:
    times = []
    for _ in range(count):
        start = time.perf_counter()
        run()
        took = (time.perf_counter() - start) * 1e3
        times.append(took)
        if every > took:
            time.sleep((every - took) / 1e3)
    return times


run()
print("ready 0", version, flush=True)
for line in sys.stdin:
    count, every = map(int, line.split())
    print(*burst(count, every), flush=True)
