"""Systems that repeat what they were told, while the world `echoes`: whatever fails or is half-written does, as servers and
programs do that were built to be easy to talk to.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from html import escape

from examples.simulator.http import Answer, Request
from examples.simulator.outcome import Outcome

Environment = Mapping[str, Mapping[str, bytes]]
"""Context → key → value, as hero_proc keeps it."""


def asked(request: Request) -> str:
    """The key and the body as they came."""
    return f"{request.headers.get('authorization', '')} {request.body.decode('utf-8', 'replace')}"


def repeating(answer: Answer, request: Request) -> Answer:
    """The same with the request in its words: in an error's message, on a page, and at the beginning of a half-written body."""
    what = asked(request)
    kind = answer.header("content-type") or ""
    if "html" in kind:
        return replace(answer, body=answer.body + f"<pre>{escape(what)}</pre>\n".encode())
    try:
        said = json.loads(answer.body)
    except ValueError:
        if "json" in kind:
            return replace(answer, body=json.dumps({"request": what, "message": what}).encode()[:-9])
        return replace(answer, body=answer.body + what.encode()) if answer.status >= 400 else answer
    error = said.get("error") if isinstance(said, dict) else None
    if isinstance(error, dict) and "message" in error:
        error["message"] = f"{error['message']} (in {what})"
    elif isinstance(said, dict) and answer.status >= 400:
        said["message"] = f"{said.get('message', 'refused')} (in {what})"
    else:
        return answer
    return replace(answer, body=json.dumps(said).encode())


def printing(outcome: Outcome, argv: list[bytes], environment: Environment) -> Outcome:
    """What `lab` and the supervisor print beside that: on their error output the command with its arguments, and the environment
    that they start services with."""
    lines = [b"+ " + b" ".join(argv)]
    lines += [key.encode() + b"=" + value for held in environment.values() for key, value in held.items()]
    return replace(outcome, err=outcome.err + b"".join(line + b"\n" for line in lines))
