"""Public SSH keys as a spec may hold them: one line, no options, no private key, nothing that splits on the way."""

import base64
import binascii
import struct
from typing import Annotated, Final

from pydantic import AfterValidator, WithJsonSchema

from specs.errors import refusal
from specs.secrecy import looks_private_key

TYPES: Final = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
MIN_RSA_BITS: Final = 2048
MAX_LENGTH: Final = 16 * 1024
PATTERN: Final = (
    r"^(" + "|".join(each.replace(".", r"\.") for each in TYPES) + r") [A-Za-z0-9+/]+={0,3}( [^,\u0000-\u001f]*)?$"
)
_EXAMPLE: Final = "write the one line of the .pub file: ssh-ed25519 AAAA… comment"


def parse_ssh_key(value: str) -> str:
    """The key's line, normalised to `type base64[ comment]`.

    Raises a refusal for private keys, options before the type, unknown types, damaged data, short RSA keys, and for the
    newlines and commas at which the grid would split one key into two (P).
    """
    if len(value) > MAX_LENGTH:
        raise refusal(f"this is {len(value)} characters long", f"a key has at most {MAX_LENGTH}; {_EXAMPLE}")
    if looks_private_key(value):
        raise refusal("this is a private key", "take it out, make a new pair, and write the public half")
    if any(ord(character) < 32 or ord(character) == 127 for character in value.strip()):
        raise refusal("a key is one line without control characters", _EXAMPLE)
    kind, _, rest = value.strip().partition(" ")
    if kind not in TYPES:
        raise _wrong_start(value)
    blob, _, comment = rest.strip().partition(" ")
    if "," in value:
        raise refusal("the key's comment holds a comma", "take the comma out: the grid splits keys at it")
    _check_blob(kind, blob)
    return f"{kind} {blob} {comment.strip()}".strip()


def parse_host_key(value: str) -> str:
    """A server's key as `type base64`, from a line of its .pub file. Raises as parse_ssh_key does."""
    return key_identity(parse_ssh_key(value))


def key_identity(key: str) -> str:
    """Type and data without the comment: what makes two lines the same key."""
    return " ".join(key.split(" ")[:2])


def _wrong_start(value: str) -> Exception:
    if any(f"{each} AAAA" in value for each in TYPES):
        return refusal("options before the key are not allowed", "write only type, data and comment")
    if value.strip().startswith(("ssh-dss", "ssh-dsa")):
        return refusal("DSA keys are no longer accepted anywhere", "make an ed25519 key")
    return refusal("this is not a public SSH key", _EXAMPLE)


def _check_blob(kind: str, blob: str) -> None:
    damaged = refusal("the key's data is damaged", f"copy the whole line again; {_EXAMPLE}")
    try:
        data = base64.b64decode(blob, validate=True)
        fields = _fields(data)
    except (binascii.Error, struct.error, ValueError):
        raise damaged from None
    if len(fields) < 2 or fields[0] != kind.encode():
        raise damaged
    if kind == "ssh-ed25519" and (len(fields) != 2 or len(fields[1]) != 32):
        raise damaged
    if kind == "ssh-rsa":
        bits = int.from_bytes(fields[-1]).bit_length()
        if bits < MIN_RSA_BITS:
            raise refusal(f"the RSA key has {bits} bits", f"at least {MIN_RSA_BITS}; better, make an ed25519 key")


def _fields(data: bytes) -> list[bytes]:
    """The length-prefixed strings of which a key's data consists."""
    fields: list[bytes] = []
    while data:
        (length,) = struct.unpack(">I", data[:4])
        if length > len(data) - 4:
            raise ValueError
        fields.append(data[4 : 4 + length])
        data = data[4 + length :]
    return fields


HostKey = Annotated[str, AfterValidator(parse_host_key), WithJsonSchema({"type": "string", "pattern": PATTERN})]
"""A server's public key, as in a .pub file; a comment is dropped."""

SshKey = Annotated[str, AfterValidator(parse_ssh_key), WithJsonSchema({"type": "string", "pattern": PATTERN})]
"""One public SSH key, as in a .pub file."""
