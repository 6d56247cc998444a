"""A stand-in for a language model: answers the prompts of `reflect` by rules, over HTTP as a model's server would.

The replies in the demo's journal are its work. It knows nothing: it numbers sentences, adds stock phrases, and takes
more sentences from the demo's own banks where it recognises a topic. Some replies are faulty on purpose.

    python -m pipelines.demo.teacher --port 8765      # then: reflect: {endpoint: "http://127.0.0.1:8765/v1", model: …}
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any, Final, NamedTuple

from pipelines.demo.texts import TOPICS
from schemas.hashing import digest

_SECTION: Final = re.compile(
    r"^\[\[(?P<mark>[0-9a-f]{8}) (?P<name>[a-z ]+)\]\]\n(?P<text>.*?)\n\[\[(?P=mark) end\]\]", re.S | re.M
)
_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+|\n+")
_FENCE: Final = re.compile(r"^(```|~~~).*?^\1[ \t]*$", re.S | re.M)
_REFUSAL: Final = "I'm sorry, but I cannot help with this request."
_DEMANDS: Final = (
    "Give at least six points in an order that makes sense to somebody new to it, and say why each of them counts.",
    "Go through the matter step by step, with a reason for every step, and end with what is forgotten most.",
    "Answer in numbered points, explain what follows from each, and close with advice for somebody in a hurry.",
)
_REASONS: Final = (
    "Whoever skips this notices it late.", "It costs little and saves trouble.", "The rest depends on it.",
    "It is easy to check for yourself.", "Here the time is well spent.", "This is where habits go wrong.",
    "It holds in most cases.", "Take it first if time is short.", "Nothing else makes up for it.",
)  # fmt: skip


class Said(NamedTuple):
    """A reply and its finish reason."""

    text: str
    finish_reason: str = "stop"


def reply_to(prompt: str) -> Said:
    """What the rules answer to a prompt of `reflect`; the same for the same prompt."""
    sections: dict[str, str] = {}
    for match in _SECTION.finditer(prompt):  # the form of the reply comes after the example and has the same names
        sections.setdefault(match["name"], match["text"])
    instruction, answer = sections["instruction"], sections["answer"]
    luck = digest(prompt.encode()).hex()
    if "Then write a new example." in prompt:
        demand = _DEMANDS[int(luck[:4], 16) % len(_DEMANDS)]
        parts = {
            "critique": _CRITIQUE,
            "instruction": f"{instruction}\n\n{demand}",
            "answer": _longer(instruction, answer),
        }
    else:
        parts = {"critique": _CRITIQUE, "answer": _better(instruction, answer)}
    return _spoilt(parts, prompt, int(luck[4:8], 16) % 24)


_CRITIQUE: Final = (
    "Complexity: the topic is simple. Detail: little is asked for. Knowledge: everyday. Ambiguity: the length is open. "
    "Reasoning: none is needed. The answer is relevant and accurate, but short, and gives no reasons, because the "
    "instruction asks for none."
)


def _longer(instruction: str, answer: str) -> str:
    """Numbered sentences with a reason each: of the demo's bank where the topic is known, else of the old answer."""
    topic = next((name for name in TOPICS if name in instruction.lower()), None)
    sentences = TOPICS[topic] if topic else [part for part in _SENTENCE.split(answer) if part.strip()]
    points = [f"{at + 1}. {text} {_REASONS[at % len(_REASONS)]}" for at, text in enumerate(sentences)]
    return "Here is what matters, in order:\n\n" + "\n".join(points)


def _better(instruction: str, answer: str) -> str:
    """The old answer between an opening and an end of its own; code and a final result stay last."""
    blocks = [match.group() for match in _FENCE.finditer(answer)]
    if blocks:
        return f"{_ABOUT_CODE}\n\n{blocks[-1]}"
    lines = answer.strip().split("\n")
    result = lines[-1] if lines[-1].startswith("####") else None
    said = "\n".join(lines[:-1] if result else lines)
    more = _longer(instruction, said) if "Here is what matters" not in said else said
    closing = "In short: begin with the first point, and come back to the others once it has become a habit."
    return "\n\n".join(filter(None, (_OPENING, more, closing, result)))


_OPENING: Final = "A good way to look at this is to ask what would go wrong if nobody took care of it."
_ABOUT_CODE: Final = (
    "The program below reads what it is given once and computes the result directly, so its running time grows with "
    "the size of the input and no more. It keeps nothing that it does not need, and it gives a result for the smallest "
    "input too. Every step is one expression, easy to check by hand on a small example before the program is run."
)


def _spoilt(parts: dict[str, str], prompt: str, fault: int) -> Said:
    """One reply in six has a fault that a gate of `reflect` finds, or that takes a second request."""
    sections = "[[" in prompt.rpartition("Reply ")[2]
    if fault == 0:
        parts = {**parts, "answer": _REFUSAL}
    elif fault == 1:
        parts = {**parts, "answer": f"The original answer was too short. {parts['answer']}"}
    elif fault == 2 and not sections:
        return Said("Certainly! I would start by making the instruction harder.")
    elif fault == 3:
        return Said(json.dumps(parts)[:150], "length")
    if not sections:
        return Said(json.dumps(parts))
    marks = re.findall(r"\[\[([0-9a-f]{8}) answer\]\]", prompt)
    return Said("\n".join(f"[[{marks[-1]} {name}]]\n{text}\n[[{marks[-1]} end]]" for name, text in parts.items()))


@contextmanager
def serving(port: int = 0, answer: Callable[[str], Said] = reply_to) -> Iterator[str]:
    """A chat server on this machine that answers by rules; gives its base URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                said = answer(asked["messages"][-1]["content"])
            except (KeyError, ValueError):  # no prompt of `reflect`
                self.send_error(500)
            else:
                self._send(_completion(asked, said))

        def do_GET(self) -> None:
            self._send({"object": "list", "data": []})

        def _send(self, value: dict[str, Any]) -> None:
            body = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing on the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            server.shutdown()


def _completion(asked: dict[str, Any], said: Said) -> dict[str, Any]:
    """A chat completion; its token counts are words and punctuation marks."""
    sent = sum(_count(message["content"]) for message in asked["messages"])
    usage = {"prompt_tokens": sent, "completion_tokens": _count(said.text), "total_tokens": sent + _count(said.text)}
    message = {"role": "assistant", "content": said.text}
    choice = {"index": 0, "message": message, "finish_reason": said.finish_reason}
    return {"object": "chat.completion", "model": asked["model"], "choices": [choice], "usage": usage}


def _count(text: str) -> int:
    return len(re.findall(r"\w+|[^\w\s]", text))


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, default=8765)
    with serving(parser.parse_args().port) as url:
        print(f"answering by rules at {url}; interrupt to stop")
        with suppress(KeyboardInterrupt):
            Event().wait()


if __name__ == "__main__":
    main()
