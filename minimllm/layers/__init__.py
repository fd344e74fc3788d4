"""What every model is made of: patches, attention and its masks, norms, rotary positions, blocks."""
