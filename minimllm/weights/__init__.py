"""Weights in files: reading and writing the folders of transformers, released weights, GGUF. Nothing here knows a model."""
