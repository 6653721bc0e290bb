"""What people are told about a tester's access to the shared engines. Pure."""

from __future__ import annotations

from reconcilers.actions import Finding
from reconcilers.engine_rules import SeenEngine, SeenEngines, Verdict, answers_of, is_registered
from reconcilers.engine_tokens import engine_facts
from reconcilers.facts import Facts


def findings_of(observed: SeenEngines, facts: Facts) -> tuple[Finding, ...]:
    """EngineAccessProven, and EngineTokensRevoked while one is left at an engine that the Fleet names no more."""
    wanted = [seen for seen in observed.engines if seen.wanted]
    left = [seen.name for seen in observed.engines if seen.left and not seen.wanted]
    found = [_proven_finding(wanted, facts)] if wanted else []
    if left:
        text = (
            f"a token is still registered at {', '.join(left)}, which the Fleet no longer names: "
            "put it back with retired: true until its tokens are revoked, or with gone: true if it is gone for good"
        )
        found.append(Finding("EngineTokensRevoked", False, "EngineLeft", text))
    return tuple(found)


def _proven_finding(wanted: list[SeenEngine], facts: Facts) -> Finding:
    kind, proven = "EngineAccessProven", engine_facts(facts).proven
    bad = [(each, seen) for each in (Verdict.OPEN, Verdict.REFUSED) for seen in wanted if seen.verdict is each]
    if bad:
        words = "; ".join(f"{seen.name} {_WRONG[verdict]} ({answers_of(seen)})" for verdict, seen in bad)
        return Finding(kind, False, "EngineOpen" if bad[0][0] is Verdict.OPEN else "TokenRefused", words)
    out = [f"{seen.name}: {seen.error.message}" for seen in wanted if seen.error is not None]
    if out:
        return Finding(kind, None, "EngineUnreachable", f"cannot be looked at: {'; '.join(out)}")
    unproven = [seen.name for seen in wanted if seen.name not in proven or not is_registered(seen, facts)]
    if unproven:
        return Finding(kind, None, "Proving", f"not proven yet: {', '.join(unproven)}")
    names = ", ".join(seen.name for seen in wanted)
    text = f"{names}: no token, a wrong one and ours under a neighbour's name are refused, ours is taken"
    return Finding(kind, True, "Proven", text)


_WRONG = {Verdict.OPEN: "lets strangers in", Verdict.REFUSED: "refuses our token"}
