"""SmolVLM-256M's true size with random weights beside transformers: a picture prepared, read and answered, time and memory.

python tests/benchmarks/bench_smolvlm.py                                everything, some minutes
python tests/benchmarks/bench_smolvlm.py pictures|whole|split|memory    one part

``whole``: one sub-picture of 512 x 512 and 8 new tokens. ``split``: sixteen and the whole. Seconds are the process's own, so that other
programs do not count. ``memory``: the peak of a process that loads the folder and answers about the split picture. Targets: no slower, no
more memory, below 2.5 GB.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from paired import paired, report
from PIL import Image
from sklearn.datasets import load_sample_images
from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from minimllm import UnifiedMLLM, generate, split_pictures

VISION = dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, image_size=512, patch_size=16)
TEXT = dict(model_type="llama", hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, head_dim=64)
TEXT |= dict(num_key_value_heads=3, vocab_size=49_280, max_position_embeddings=8192, rms_norm_eps=1e-5, rope_theta=100_000.0)
IMAGE, TOKENS, NEW = 49_190, 64, 8
SUB_PICTURES = {"whole": 1, "split": 17}


def prompt(sub_pictures: int) -> torch.Tensor:
    words = torch.arange(300, 312)
    return torch.cat([torch.cat([words[:2], torch.full((TOKENS,), IMAGE)]) for _ in range(sub_pictures)] + [words])[None]


def answers(name: str, folder: Path):
    """What reads a prompt with sub-pictures and writes ``NEW`` tokens."""
    if name == "minimllm":
        ours = UnifiedMLLM.from_pretrained(folder)
        return lambda ids, images: generate(ours, ids, NEW, images=images)
    theirs = SmolVLMForConditionalGeneration.from_pretrained(folder).eval()
    settings = dict(max_new_tokens=NEW, do_sample=False, eos_token_id=None, pad_token_id=0, suppress_tokens=[IMAGE])
    return lambda ids, images: theirs.generate(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=images[None], **settings)


def inputs(part: str) -> tuple[torch.Tensor, torch.Tensor]:
    count = SUB_PICTURES[part]
    return prompt(count), torch.randn(count, 3, 512, 512, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)


def prepared() -> None:
    photograph = Image.fromarray(load_sample_images().images[0])
    processor = SmolVLMImageProcessorPil(size={"longest_edge": 2048}, max_image_size={"longest_edge": 512})
    for picture in (photograph, photograph.resize((4032, 3024))):
        contestants = {
            "minimllm": lambda picture=picture: split_pictures([picture]),
            "transformers": lambda picture=picture: processor([[picture]], return_tensors="pt"),
        }
        report(f"a photograph of {picture.width} x {picture.height}, cut", paired(contestants, 7, clock=time.process_time), "minimllm")


def main() -> None:
    wanted = sys.argv[1:] or ["pictures", "whole", "split", "memory"]
    if wanted[0] == "peak":  # a process of its own, started below
        answers(wanted[1], Path(wanted[2]))(*inputs("split"))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2)
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    if "pictures" in wanted:
        prepared()
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        if set(wanted) - {"pictures"}:
            config = SmolVLMConfig(vision_config=VISION, text_config=TEXT, image_token_id=IMAGE, scale_factor=4)
            SmolVLMForConditionalGeneration(config).save_pretrained(folder)
        for part in [part for part in SUB_PICTURES if part in wanted]:
            given = inputs(part)
            contestants = {name: partial(answers(name, Path(folder)), *given) for name in ("minimllm", "transformers")}
            title = f"{part}: {SUB_PICTURES[part]} sub-pictures, a prompt of {given[0].shape[1]} tokens and {NEW} new ones"
            report(title, paired(contestants, rounds=3, warm_up=0, clock=time.process_time), "minimllm")
            assert torch.equal(*(answer() for answer in contestants.values())), "other words"
        for name in ("minimllm", "transformers") if "memory" in wanted else ():
            command = [sys.executable, __file__, "peak", name, folder]
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            print(f"  {name:<28}{float(told.split()[-1]):>10.2f} GB at its peak")


if __name__ == "__main__":
    main()
