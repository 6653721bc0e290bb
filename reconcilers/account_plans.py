"""What is done about an account, in values. Pure. The account's name is each action's first argument."""

from __future__ import annotations

from reconcilers.actions import Action, Disruption, Effect, FieldChange, secret_change
from specs.desired import DesiredAccount

_TO_BE_CHANGED = "the tester must change the one-time password at the first sign-in"


def create(wanted: DesiredAccount) -> Action:
    return Action(
        "create",
        _target(wanted.name),
        Effect.CREATE,
        changes=(
            FieldChange("name", None, wanted.name),
            FieldChange("email", None, wanted.email),
            secret_change("oneTimePassword", known=False),
        ),
        consequences=(_TO_BE_CHANGED,),
        reason="AccountCreated",
    )


def enable(login: str) -> Action:
    change = FieldChange("prohibitLogin", "true", "false")
    return Action("enable", _target(login), changes=(change,), args=(login,), reason="AccountEnabled")


def reset_password(login: str, made_for: int, wanted: int) -> Action:
    """The spec's counter was raised."""
    return Action(
        "reset_password",
        _target(login),
        changes=(
            FieldChange("passwordReset", str(made_for), str(wanted)),
            secret_change("oneTimePassword", known=True),
        ),
        consequences=("the present password stops working at once", _TO_BE_CHANGED),
        args=(login, str(wanted)),
        reason="PasswordReset",
    )


def give_access(login: str, repository: str) -> Action:
    return Action(
        "give_access",
        _target(login),
        changes=(FieldChange("feedbackRepository", None, repository),),
        args=(login, repository),
        reason="FeedbackAccessGiven",
    )


def take_access(login: str, repository: str) -> Action:
    return Action(
        "take_access",
        _target(login),
        changes=(FieldChange("feedbackRepository", repository, None),),
        args=(login, repository),
        reason="FeedbackAccessTaken",
    )


def disable(login: str) -> Action:
    change = FieldChange("prohibitLogin", "false", "true")
    return Action(
        "disable",
        _target(login),
        changes=(change,),
        disruption=Disruption.REMOVE,
        consequences=("the account stays, nobody can sign in with it",),
        args=(login,),
        reason="AccountDisabled",
    )


def remove(login: str, *, purge: bool) -> Action:
    owned = "everything that it owns is deleted with it" if purge else "the account is deleted"
    return Action(
        "delete",
        _target(login),
        Effect.DELETE,
        disruption=Disruption.REMOVE,
        consequences=(owned,),
        args=(login,),
        reason="AccountDeleted",
    )


def _target(login: str) -> str:
    return f"account {login}"
