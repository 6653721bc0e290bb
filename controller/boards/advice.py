"""What a person does about a reason: a title in plain words, and the next move. What is wrong, the condition says. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Advice:
    """`title`: what it is; `todo`: what to do, one sentence or two."""

    title: str
    todo: str


_ACCOUNT: Final[Mapping[str, Advice]] = {
    "AccountExists": Advice(
        "The account is somebody's already",
        "If it is theirs, write existing: true under spec.identity; else choose another account name.",
    ),
    "AccountIsOrganisation": Advice(
        "The account's name is an organisation's", "Choose another name in spec.identity.account."
    ),
    "AccountMissing": Advice(
        "There is no such account",
        "Correct spec.identity.account, or take existing: true out to have the account made.",
    ),
    "AccountRenamed": Advice("The account has another name now", "Write its new name into spec.identity.account."),
    "AccountRefused": Advice("Forge refuses the account", "Choose another account name or address in spec.identity."),
    "AppRefused": Advice(
        "Forge refuses the sign-in app", "Look at the address that the message names; nothing else helps."
    ),
    "PasswordRefused": Advice(
        "Forge refuses the one-time password", "Bring Forge's password rules back to usual ones."
    ),
    "EmailTaken": Advice(
        "The address belongs to another account",
        "Name another address in spec.identity.email, or adopt the account that has it.",
    ),
    "ForeignSource": Advice("The account signs in elsewhere", "Do it by hand in Forge's site administration."),
    "OwnsRepositories": Advice(
        "The account still owns something",
        "Move its repositories to somebody else, or say whenRemoved: purge to have them deleted.",
    ),
    "SshKeyRequired": Advice(
        "The tester has to bring an SSH key",
        "Ask them to add a public key in their Forge settings; the machine is built then.",
    ),
}
_MACHINE: Final[Mapping[str, Advice]] = {
    "NoCapacity": Advice(
        "No node has room",
        "Remove a tester, add a node to the Fleet, or ask for less in spec.machine. It goes on as soon as there is room.",
    ),
    "NodeUnknown": Advice("There is no such node", "Name one of the Fleet's nodes in spec.machine.node, or auto."),
    "NodeOffline": Advice("The node is offline", "Bring it back, or choose another one in spec.machine.node."),
    "NeverReachable": Advice(
        "The machine never came within reach",
        "Look at the node, or name another one in spec.machine.node; then raise spec.machine.rebuild.",
    ),
    "MachineFailed": Advice(
        "A machine in use has failed", "See what can be saved; then raise spec.machine.rebuild to have it built anew."
    ),
    "HostKeyChanged": Advice(
        "The machine is not the one that it was",
        "Find out why before anything else. If none of us changed it, have it built anew: raise spec.machine.rebuild.",
    ),
    "DaemonInUse": Advice(
        "The Fleet has dropped a host that is in use",
        "Put it back under spec.compute; say gone: true there if it is gone for good.",
    ),
    "DaemonUnknown": Advice("The Fleet does not name that host", "Put the daemon back under spec.compute."),
    "MethodMissing": Advice("The daemon is too old or too new", "Have it updated, or change its dialect in the Fleet."),
    "DaemonConnectionDead": Advice("A daemon has lost the chain", "Have it restarted by whoever runs it."),
    "InvalidParameters": Advice("The daemon refuses what the spec asks", "Correct spec.machine as the message says."),
    "NotOurs": Advice(
        "Something of that name is there and is not ours",
        "Have it taken away, or choose another name. We do not delete what our books do not know.",
    ),
    "TooManyLost": Advice(
        "Too much is missing at once",
        "Check the daemon and the Forge token first. If it is really gone, raise safety.maxLost; nothing is made anew before.",
    ),
    "OrphansFound": Advice(
        "Leftovers in nobody's books",
        "Find out whose they are, and delete them there if nobody needs them. Nothing is done by itself.",
    ),
    "InQuarantine": Advice(
        "Something stands beside what is in use",
        "Its page says whether it goes by itself; else find out whose it is, and delete it there.",
    ),
}
_SOFTWARE: Final[Mapping[str, Advice]] = {
    "ComponentFailing": Advice(
        "A component keeps failing",
        "Read its log on the tester's page. It is tried again; pin another version (spec.version.pin), "
        "or leave it out (spec.components.remove), if that does not mend it.",
    ),
    "InstallFailed": Advice(
        "An install keeps failing", "Read its log on the tester's page; pin another version if it does not mend itself."
    ),
    "SecretMissing": Advice(
        "A secret is missing",
        "Set it (testerctl secret set, or the variable or file it names), or take it out of the spec.",
    ),
    "SecretUnusable": Advice(
        "A secret cannot be sent",
        "Set it anew, as one line of plain letters: an editor may have saved the file with something before or in it.",
    ),
    "BadName": Advice("A name cannot be used on a machine", "Correct the name in the spec that the message tells of."),
    "BadValue": Advice(
        "A value cannot be used on a machine", "Correct the value in the spec that the message tells of."
    ),
    "BadKeys": Advice(
        "The SSH keys cannot be used", "Correct keys.ssh in the spec, and the admins' keys in the Fleet."
    ),
    "SupervisorSilent": Advice(
        "The machine's supervisor is silent", "Look at hero_proc there, or raise spec.machine.rebuild."
    ),
    "FrontDoorRefused": Advice(
        "The front door refuses its settings", "Look at hero_proxy's log there; another version may be needed."
    ),
    "SeenOpen": Advice(
        "A door stood open",
        "Find out who came in meanwhile. It is shut at once, and opens by itself when it is proven anew.",
    ),
    "WelcomeUnknown": Advice(
        "Nobody knows whether the letter went out",
        "Ask the tester; raise welcomeEmail.resend to have it sent once more.",
    ),
    "LetterDiffers": Advice(
        "The letter was begun otherwise", "Ask the tester; raise welcomeEmail.resend to send it anew."
    ),
    "LetterRefused": Advice("The letter is refused", "Correct the address in spec.identity.email."),
    "MailRefused": Advice("The mail service refuses our key", "Put a valid key where the Fleet's mail section points."),
    "ReadBackMismatch": Advice(
        "A value read back differs",
        "The machine's tools disagree: update hero_proc and lab there, or have it built anew.",
    ),
}
_FLEET: Final[Mapping[str, Advice]] = {
    "TooManyRemovals": Advice(
        "Too many would be removed at once",
        "If it is meant, set safety.allowRemovals to that number in the same commit; else put the files back.",
    ),
    "TooManyUnrouted": Advice(
        "The grid leads nowhere for many",
        "Look at the grid, or at this controller's own way out. Nothing is made anew.",
    ),
    "TokenRefused": Advice(
        "A token is not accepted", "Make a new one and put it where the spec points; everybody goes on within minutes."
    ),
    "MissingRights": Advice(
        "Our token may not do this", "Give it the rights that the message names; testerctl doctor tries them all."
    ),
    "TooManyAccounts": Advice(
        "Forge has more accounts than are read",
        "Delete accounts at Forge that nobody needs: no more than 100,000 are read.",
    ),
    "ForgeIdentityChanged": Advice(
        "The Forge token belongs to somebody else",
        "Put a token of the old account back, or name the new one in spec.forge.owner if it takes over for good.",
    ),
    "RepositoryMissing": Advice(
        "The feedback repository is not there",
        "Correct spec.forge.feedbackRepository, or give the token's owner access.",
    ),
    "EngineUnknown": Advice("The Fleet does not name that engine", "Put the engine back under spec.engines."),
    "EngineOpen": Advice(
        "An engine lets strangers in", "Have it mended where it runs; nobody is given a token before."
    ),
    "TenantsUnreadable": Advice(
        "An engine's list of tenants is broken", "Mend the file on its host; we do not write over it."
    ),
    "InstallerKeyUnusable": Advice(
        "The installer's key cannot be used", "Put a private key without a passphrase there, with its last newline."
    ),
    "KeyUnreadable": Advice(
        "The installer's key cannot be read",
        "Put a private key without a passphrase where spec.installer.privateKey points.",
    ),
    "CertificateUnreadable": Advice(
        "The Fleet's certificates cannot be read", "Correct spec.network.certificateAuthority."
    ),
    "AddressUnusable": Advice("A notice has no address", "Correct the address under spec.notify."),
    "NoticeRefused": Advice(
        "A notice is refused", "Correct the address under spec.notify, or mend what listens there."
    ),
    "ExpiresSoon": Advice("The last day is near", "Let its last day come, or write a later one into spec.expires."),
    "SpecBroken": Advice("A spec is broken", "Mend that line and commit. Nobody is changed or removed meanwhile."),
    "SpecsUnreadable": Advice(
        "The specs cannot be read", "Mend the server, the credential or the branch; it is tried every minute."
    ),
    "FleetUnusable": Advice(
        "The Fleet cannot be used", "Mend what it names; testerctl doctor tries everything that the Fleet needs."
    ),
    "ForgeSilent": Advice(
        "Forge does not answer as it should", "Ask whoever runs Forge. When it answers, everybody goes on without you."
    ),
}
ADVICE: Final[Mapping[str, Advice]] = {**_ACCOUNT, **_MACHINE, **_SOFTWARE, **_FLEET}
"""By reason, for all at which somebody must act."""

_TYPE: Final = re.compile(r"^[A-Z][A-Za-z]*: ")
_BEGINNING: Final = re.compile(r"^[a-z](?=[a-z]*[ :])")
"""Of a plain word. Components and settings have signs in their names, and stay as they are."""

STUCK: Final = "Do what the message says, or look at who it waits for; it goes on by itself when that is done."
TRIED_AGAIN: Final = (
    "Nothing yet: it is tried again by itself, less and less often. If it lasts, look at who it waits for."
)


def advice(reason: str, *, tried_again: bool = False) -> Advice:
    """For a reason that nobody foresaw, its own words and what holds for all. `tried_again`: it may mend itself."""
    return ADVICE.get(reason) or Advice(in_words(reason), TRIED_AGAIN if tried_again else STUCK)


def plainly(message: str) -> str:
    """`Machine: no node has room` → `No node has room`: `Ready` and `Stalled` name first what they speak of."""
    return sentence(_TYPE.sub("", message))


def sentence(message: str) -> str:
    """With a capital, where it begins with a plain word."""
    return _BEGINNING.sub(lambda found: found[0].upper(), message)


def in_words(reason: str) -> str:
    """`NoCapacity` → `No capacity`."""
    words = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in reason).strip()
    return words[:1].upper() + words[1:]
