"""What a trained model is used for: writing, answering, chatting, classifying without training."""
