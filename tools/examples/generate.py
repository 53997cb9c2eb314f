"""An example in Python, without any package: load a model directory, continue a prompt, go on from a kept state."""

import sys

import bdh


def main(directory, prompt="To be or not to be"):
    model = bdh.Model(directory, on_warning=lambda message: print("warning:", message, file=sys.stderr))
    print(f"{model.info.parameters} parameters, {model.memory().session} bytes a session, on {', '.join(bdh.devices())}")
    session = model.session()
    for piece in session.stream(prompt, max_new_tokens=40):
        print(piece, end="", flush=True)
    kept = session.save()
    print("\n---")
    again = model.session()
    again.restore(kept)
    nats = []
    result = again.generate("", max_new_tokens=20, on_token=lambda token, log_probability: nats.append(-log_probability))
    print(f"{result.text}\n{result.new_tokens} tokens more, {sum(nats) / len(nats):.3f} nats a token")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: generate.py DIR [PROMPT]")
    try:
        main(*sys.argv[1:])
    except bdh.Error as error:
        sys.exit(f"generate.py: {error}")
