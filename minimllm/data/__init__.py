"""What models are shown: the generated world, digits, photographs, words and their ids, and how a picture becomes a tensor.

The world is scenes of coloured shapes with known ground truth, drawn, described and asked about:

    world = scenes(64, seed=0, split="train")         # what is where: world
    images = render(world, size=32)                    # (64, 3, 32, 32) in [0, 1]: rendering
    captions(world)                                    # 64 sentences: captioning
    questions(world)                                   # per scene (question, answer, kind): asking

A scene holds one or more objects, each with a shape, a colour, a size and a place. Everything is a pure function of a seed, and nothing
of a scene depends on the batch it stands in.
"""
