"""Whose what we make at Forge is: the account behind the token, one for the whole fleet (law 1).

Another account's token shows other OAuth apps than ours, and may lack every right. While the token belongs to anybody else than
what we made so far, nothing is looked for, made or taken away with it: a person decides, by putting the token back or by naming
the new account in the Fleet.
"""

from __future__ import annotations

from reconcilers.backends.forge import ForgeClient
from reconcilers.contract import Ports, TesterView
from reconcilers.errors import Blocked
from reconcilers.facts import Facts
from reconcilers.looks import TesterLooks

OWNER = "owner"  # in the identity of a row: the account that its object belongs to


def known_owner(facts: Facts) -> str:
    """Whom the Fleet names goes before whom the books know; "" while nothing was made at Forge."""
    return facts.fleet.spec.forge.owner or facts.forge_owner


async def check_owner(tester: TesterView, looks: TesterLooks) -> str:
    """The account behind the token. Raises Blocked ForgeIdentityChanged when what we made so far belongs to another one."""
    owner = await looks.forge_owner()
    _compare(owner, known_owner(tester.facts), tester.facts)
    return owner


async def claimed_owner(forge: ForgeClient, tester: TesterView, ports: Ports) -> str:
    """To be asked before every write to Forge: whose what it makes is. The very first write has that written down before.

    Raises Blocked ForgeIdentityChanged when another tester's first write was made for another account.
    """
    if tester.facts.forge_owner:
        return known_owner(tester.facts)  # `check_owner` has compared it in this very turn
    owner = (await forge.whoami()).login
    _compare(owner, tester.facts.fleet.spec.forge.owner or await ports.claim_forge(owner), tester.facts)
    return owner


def _compare(owner: str, known: str, facts: Facts) -> None:
    if not known or known.casefold() == owner.casefold():
        return
    if facts.fleet.spec.forge.owner:
        text = (
            f"the Fleet says that what we make at Forge belongs to {known} (spec.forge.owner), and the token belongs to {owner}: "
            f"put a token of {known} where spec.forge.token points, or correct the name"
        )
    else:
        text = (
            f"the Forge token belongs to {owner} now, and what we made at Forge to {known}: put a token of {known} where "
            f"spec.forge.token points; or, if {owner} takes over for good, set spec.forge.owner: {owner} in the Fleet (every "
            f"tester then gets a new OAuth app, and {known} deletes the old ones)"
        )
    raise Blocked(text, system="Forge", reason="ForgeIdentityChanged")
