"""The models of the course, each with its config, and the trained ones that come with it."""
