"""Llama 3.2 Vision: tiles, the encoder that reads them, and a Llama with gated cross-attention between its blocks."""
