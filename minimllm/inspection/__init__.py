"""Looking into a model: its attention recorded, two models compared layer by layer, what it costs."""
