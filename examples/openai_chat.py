"""The official OpenAI SDK against the gateway: a wallet's token is the API key."""

from __future__ import annotations

from openai import OpenAI

from examples.sign_in import arguments, sign_in, wallet

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"


def main() -> None:
    """Signs in and prints a chat as it is streamed."""
    parser = arguments(__doc__)
    parser.add_argument("--model", default=MODEL, help="default: %(default)s")
    parser.add_argument("question", nargs="?", default="What is a wallet?", help="default: %(default)s")
    options = parser.parse_args()
    client = OpenAI(base_url=f"{options.url}/v1", api_key=sign_in(options.url, wallet(options.key_file)))
    stream = client.chat.completions.create(
        model=options.model,
        messages=[{"role": "user", "content": options.question}],
        max_tokens=128,
        stream=True,
    )
    for chunk in stream:
        for choice in chunk.choices:
            print(choice.delta.content or "", end="", flush=True)
    print()


if __name__ == "__main__":
    main()
