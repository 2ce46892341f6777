"""Serving: a trained embedding model as a SavedModel for TF Serving, LiteRT or ONNX."""

from keras_dml.serving.export import export
from keras_dml.serving.export_litert import export_litert
from keras_dml.serving.export_onnx import export_onnx

__all__ = ["export", "export_litert", "export_onnx"]
