"""SmolLM2 writing one row and reading a prompt of 500 tokens, beside transformers: same weights and threads, in turn in one process.

One row is bound by memory: for each token all weights are read once. What share of the memory's speed that reaches is measured against a
plain sum over a gigabyte, in the same run.

python tests/benchmarks/bench_released.py             both dtypes
python tests/benchmarks/bench_released.py float32     one of them
"""

import os
import statistics
import sys
from functools import partial

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from paired import paired, report
from transformers import AutoModelForCausalLM

from minimllm import LanguageModel, generate, released

NEW, ROUNDS = 48, 5


def memory_rate(rounds: int = 7) -> float:
    """Bytes a second of a sum over a gigabyte of float32."""
    numbers = torch.zeros(2**28)
    seconds = paired({"sum": numbers.sum}, rounds)["sum"]
    return numbers.nbytes / statistics.median(seconds)


@torch.inference_mode()
def compare(folder: str, dtype: torch.dtype) -> None:
    ours = LanguageModel.from_pretrained(folder, dtype=dtype)
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    name, rate = str(dtype).removeprefix("torch."), memory_rate()
    size = sum(parameter.nbytes for parameter in ours.parameters())
    print(f"\n{name}: {size / 1e6:.0f} MB of weights, memory is read at {rate / 1e9:.1f} GB/s")

    ids = torch.randint(100, 49_000, (1, 20), generator=torch.Generator().manual_seed(0))
    their_way = partial(theirs.generate, ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, do_sample=False, eos_token_id=None)
    contestants = {"minimllm": partial(generate, ours, ids, NEW), "transformers": partial(their_way, pad_token_id=2)}
    seconds = paired(contestants, ROUNDS, warm_up=1)
    report(f"{name}: writing {NEW} tokens after 20, one row", seconds, "minimllm")
    for key, times in seconds.items():
        speed = NEW / statistics.median(times)
        print(f"  {key:<28}{speed:>10.1f} tokens/s{speed * size / rate:>8.0%} of the memory's speed")

    ids = torch.randint(100, 49_000, (1, 500), generator=torch.Generator().manual_seed(1))

    def read() -> torch.Tensor:
        return ours(ids, cache=ours.new_cache(), only_last=True)

    def their_read() -> torch.Tensor:
        return theirs(ids, use_cache=True, logits_to_keep=1).logits

    if dtype == torch.float32:
        difference = (read() - their_read()).abs().max().item()
        assert difference < 1e-3, f"the two models differ by {difference}"
    report(f"{name}: reading 500 tokens", paired({"minimllm": read, "transformers": their_read}, ROUNDS, warm_up=1), "minimllm")


if __name__ == "__main__":
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for dtype in (torch.float32, torch.bfloat16):
        if not sys.argv[1:] or str(dtype).removeprefix("torch.") in sys.argv[1:]:
            compare(str(released("smollm2-135m-instruct")), dtype)
