"""Runs ONNX's own checker, with full shape inference, over every model given.

Usage: check_onnx.py MODEL.onnx...     (needs PyPI's `onnx`)
"""
import sys

import onnx


def main(paths):
    failed = 0
    for path in paths:
        try:
            model = onnx.load(path)
            onnx.checker.check_model(model, full_check=True)
            inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
            described = {v.name for v in model.graph.value_info} | {v.name for v in model.graph.output}
            missing = [o for n in model.graph.node for o in n.output if o and o not in described]
            assert len(inferred.graph.node) == len(model.graph.node)
            contract = {p.key for p in model.metadata_props}
            assert "tapetum.contract" in contract, "no contract in the metadata"
            print(f"ok   {path}: {len(model.graph.node)} nodes, {len(missing)} values without a shape")
        except Exception as error:  # every file is reported, then the exit code says it
            failed += 1
            print(f"FAIL {path}: {error}")
    print(f"{len(paths) - failed} passed, {failed} failed")
    return 1 if failed or not paths else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
