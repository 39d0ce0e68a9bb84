"""Packaging: metadata, extras, the console script."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+)"', (HERE / "albert_np/__init__.py").read_text(encoding="utf-8")
)[1]

# tokenizers: the releases that transformers 4.56.2 runs with; 0.23 gives an added token's text back
# lowered. protobuf: spiece.model is read with it, by us and by transformers.
HUB = ["huggingface_hub>=0.24"]
NUMBA = ["numba>=0.60"]
PEERS = ["torch==2.13.0", "transformers==4.56.2", "onnx>=1.16", "onnxruntime>=1.20"]
# NVRTC compiles for GPUs where there is none: the compiler, and what calls it. Not made for macOS.
CUDA_COMPILE = [
    f"{package}>=13; platform_system != 'Darwin'"
    for package in ("nvidia-cuda-nvrtc", "cuda-bindings")
]
# numpy: CuPy has no bfloat16 with older releases.
CUDA = ["cupy-cuda13x>=14", "nvmath-python[cu13]>=1", "ml_dtypes>=0.5", "numpy>=2.1.2"]
FAST = ["tokenizers>=0.22,<0.23", "protobuf>=4"]

setup(
    name="albert-np",
    version=VERSION,
    description="ALBERT in NumPy, forward and backward, written out by hand",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    # kernels/ stands at the top of the checkout, and is installed as albert_np.kernels.
    packages=[
        *find_packages(include=["albert_np", "albert_np.*"]),
        "albert_np.kernels",
        *(f"albert_np.kernels.{package}" for package in find_packages("kernels")),
    ],
    package_dir={"albert_np.kernels": "kernels"},
    package_data={
        "albert_np": ["assets/tiny/*"],
        "albert_np.verification": ["report.html"],
        "albert_np.kernels.cuda": ["*.cu", "*.cuh", "stand_in/*"],
    },
    install_requires=[
        "numpy>=1.26",
        "scipy>=1.11",
        "safetensors>=0.4",
        "sentencepiece>=0.2",
        "rich>=13",
        "threadpoolctl>=3.1",
    ],
    extras_require={
        "train": ["matplotlib>=3.8"],
        "hub": HUB,
        "fast": FAST,
        "numba": NUMBA,
        "cuda": CUDA,
        "cuda-compile": CUDA_COMPILE,
        "test": [
            "pytest>=8",
            "pytest-xdist>=3.5",
            "hypothesis>=6.100",
            "mpmath>=1.3",
            "matplotlib>=3.8",
            "ruff>=0.6",
            "ml_dtypes>=0.5",
            "jinja2>=3.1",
            *HUB,
            *FAST,
            *NUMBA,
            *CUDA_COMPILE,
        ],
        "verify": ["ml_dtypes>=0.5", "hypothesis>=6.100", "jinja2>=3.1"],
        "parity": [*PEERS, *FAST, "onnxscript>=0.5"],  # onnxscript: torch's newer exporter
        "benchmark": [*PEERS, "matplotlib>=3.8", *NUMBA],
    },
    entry_points={"console_scripts": ["albert-np = albert_np.cli:main"]},
)
