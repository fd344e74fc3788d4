"""Opening a model makes no second copy of its weights: the most memory that a process of its own ever held is measured."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from minimllm import LanguageModelConfig
from minimllm.models.language_model import LLAMA_NAMES, LanguageModel
from minimllm.models.language_model_config import config_to_transformers
from minimllm.weights.pretrained import file_names

# Counted is what the process holds beyond what it held before: its own memory, and the pages of the files that it has touched.
MEASURE = """
import sys
import torch
from minimllm import LanguageModel, LanguageModelConfig

def held(what):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(what))

dtype = getattr(torch, sys.argv[2]) if sys.argv[2] != "None" else None
with torch.device("meta"):
    LanguageModel(LanguageModelConfig.tiny(50))  # what torch loads for that at its first use is no weight
open("/proc/self/clear_refs", "w").write("5")  # the peak is counted from here
before = held("VmRSS")
model = LanguageModel.from_pretrained(sys.argv[1], dtype=dtype)
total = sum(float(parameter.flatten()[::512].sum()) for parameter in model.parameters())  # touches every page
weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
print((held("VmHWM") - before) / weights, weights, {str(parameter.dtype) for parameter in model.parameters()})
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """100 million parameters in float16 in two files, 200 MB, with the index that names them."""
    folder = tmp_path_factory.mktemp("large")
    config = LanguageModelConfig(8000, dim=1024, layers=7, heads=8, mlp_dim=2816, key_value_heads=8, context_length=64, tied=True)
    with torch.device("meta"):
        shapes = {file_names(name, LLAMA_NAMES)[0]: tuple(p.shape) for name, p in LanguageModel(config).named_parameters()}
    names, places = sorted(shapes), {}
    for part in (0, 1):
        file = f"model-0000{part + 1}-of-00002.safetensors"
        tensors = {name: torch.full(shapes[name], 0.01, dtype=torch.float16) for name in names[part::2]}
        save_file(tensors, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(tensors, file)
    (folder / "config.json").write_text(json.dumps(config_to_transformers(config)))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux how much memory a process holds")
@pytest.mark.parametrize("dtype", ["None", "bfloat16", "float32"])
def test_the_peak_is_at_most_1_15_times_the_weights(folder, dtype):
    ran = subprocess.run([sys.executable, "-c", MEASURE, str(folder), dtype], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    share, weights, dtypes = ran.stdout.split(maxsplit=2)
    assert int(weights) > 150e6 and ("float16" if dtype == "None" else dtype) in dtypes
    # float32 of float16 is converted tensor by tensor: beside the weights, one tensor of the file is held at a time.
    assert 0.8 < float(share) < 1.15, ran.stdout
