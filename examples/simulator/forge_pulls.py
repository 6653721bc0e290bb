"""Forge's pull requests and their comments, as far as a reader of plans needs them (P)."""

from typing import Any

from examples.simulator.forge import refuse
from examples.simulator.forge_call import Call
from examples.simulator.forge_shapes import account_shape
from examples.simulator.http import Answer, json_answer
from examples.simulator.records import Comment, Pull


def pull_list(call: Call) -> Answer:
    """Newest first; `state` open, closed or all."""
    wanted = call.request.params().get("state", "open")
    rows = [one for one in reversed(call.repository().pulls) if wanted in ("all", "open" if one.open else "closed")]
    return call.paged(rows, lambda pull: pull_shape(call, pull))


def comment_list(call: Call) -> Answer:
    """All of them, oldest first: this listing knows no pages."""
    pull = _pull(call)
    return json_answer([comment_shape(call, one) for one in call.repository().comments if one.pull == pull.number])


def comment_create(call: Call) -> Answer:
    pull = _pull(call)
    made = Comment(id=call.forge.next_id(), pull=pull.number, author=call.me().name, body=call.field("body", str))
    call.repository().comments.append(made)
    return json_answer(comment_shape(call, made), 201)


def comment_change(call: Call) -> Answer:
    found = next((one for one in call.repository().comments if str(one.id) == call.path["id"]), None)
    comment = found or refuse(404, "The target couldn't be found.")
    if comment.author != call.me().name and not call.caller.is_admin:
        refuse(403, "")
    comment.body = call.field("body", str)
    comment.edits += 1
    return json_answer(comment_shape(call, comment))


def _pull(call: Call) -> Pull:
    found = next((one for one in call.repository().pulls if str(one.number) == call.path["index"]), None)
    return found or refuse(404, "issue does not exist")


def pull_shape(call: Call, pull: Pull) -> dict[str, Any]:
    author = call.forge.need_account(pull.author)
    return {
        "id": pull.number,
        "number": pull.number,
        "state": "open" if pull.open else "closed",
        "title": pull.title,
        "user": account_shape(call.forge, author, call.caller),
        "head": {"ref": pull.branch, "label": pull.branch, "sha": pull.sha},
        "base": {"ref": pull.base, "label": pull.base, "sha": ""},
        "merged": False,
    }


def comment_shape(call: Call, comment: Comment) -> dict[str, Any]:
    author = call.forge.need_account(comment.author)
    return {"id": comment.id, "user": account_shape(call.forge, author, call.caller), "body": comment.body}
