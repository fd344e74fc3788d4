"""What models are shown: the generated world, digits, photographs, words and their ids, and how a picture becomes a tensor."""
