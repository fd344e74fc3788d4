"""What several tests share."""

import inspect
from contextlib import contextmanager

import jaxtyping
from light import largest_difference, launch, randomise, torchrun
from transformers import LlamaForCausalLM

__all__ = ["CACHE", "largest_difference", "launch", "randomise", "torchrun", "unchecked"]

# What transformers calls the keys and values of the past: "cache" from 5.24 on.
CACHE = "cache" if "cache" in inspect.signature(LlamaForCausalLM.forward).parameters else "past_key_values"


@contextmanager
def unchecked():
    """Switch off the run-time shape checks of the tests, to meet a function's own errors as a user does."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
