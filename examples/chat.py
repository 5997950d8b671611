"""Signs in with a throw-away wallet, streams a chat, and says how fast it was."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from examples.sign_in import arguments, post, sign_in, wallet

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
QUESTION = "What is a blockchain? Answer in two sentences."


def events(base_url: str, token: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The chunks of a streamed chat. A stream without its end mark, or with an error, ends the program."""
    with post(f"{base_url}/v1/chat/completions", body, token) as answer:
        for line in answer:
            if line.startswith(b"data: [DONE]"):
                return
            if line.startswith(b"data: "):
                chunk = json.loads(line.removeprefix(b"data: "))
                if "error" in chunk:
                    raise SystemExit(f"\n{chunk['error']['message']}")
                yield chunk
    raise SystemExit("\nThe answer broke off.")


def chat(base_url: str, token: str, body: dict[str, Any]) -> None:
    """Prints the answer as it comes, then one line: time to first token, tokens, tokens a second."""
    began = time.perf_counter()
    first, tokens = 0.0, 0
    for chunk in events(base_url, token, body):
        for choice in chunk["choices"]:
            if content := choice["delta"].get("content"):
                first = first or time.perf_counter()
                print(content, end="", flush=True)
        if usage := chunk.get("usage"):
            tokens = usage["completion_tokens"]
    ended = time.perf_counter()
    if not first:
        raise SystemExit("The answer was empty.")
    rate = tokens / (ended - first)
    print(f"\n\n[first token after {(first - began) * 1000:.0f} ms, {tokens} tokens, {rate:.0f} tokens/s]")


def main() -> None:
    """Reads the options, signs in, chats."""
    parser = arguments(__doc__)
    parser.add_argument("--model", default=MODEL, help="default: %(default)s")
    parser.add_argument("--max-tokens", type=int, default=128, help="default: %(default)s")
    parser.add_argument("question", nargs="?", default=QUESTION, help="default: %(default)s")
    options = parser.parse_args()
    body = {
        "model": options.model,
        "messages": [{"role": "user", "content": options.question}],
        "max_tokens": options.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    chat(options.url, sign_in(options.url, wallet(options.key_file)), body)


if __name__ == "__main__":
    main()
