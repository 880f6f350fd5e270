"""What is asked about keyrings over the streams of a pool, and what is answered.

The packets of gossip.rotation, which says how a key is changed; nothing here does I/O.
"""

from base64 import b64encode
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from gossip.messages import KEYS, Packet

if TYPE_CHECKING:
    from gossip.keyring import Keyring


class KeyOperation(StrEnum):
    LIST = "list"
    INSTALL = "install"
    USE = "use"
    REMOVE = "remove"


class KeyQuestion(msgspec.Struct, frozen=True, array_like=True):
    operation: KeyOperation
    key: bytes = b""
    is_relayed: bool = False  # ask all members of your own LAN pool, and answer for them


class MemberKeys(msgspec.Struct, frozen=True, array_like=True):
    """What one member answered. `keys` are those it accepts afterwards, its primary first."""

    name: str
    error: str = ""  # "" = done; else why not, and `keys` may be empty
    keys: tuple[bytes, ...] = ()
    pool: str = ""


class KeyTarget(msgspec.Struct, frozen=True):
    """One to be asked. Of several addresses the first that answers is taken; none: ourselves."""

    pool: str
    name: str
    addresses: tuple[str, ...] = ()
    is_relay: bool = False


def encode_question(question: KeyQuestion) -> Packet:
    return Packet(KEYS, data=msgspec.msgpack.encode(question))


def decode_question(packet: Packet) -> KeyQuestion | None:
    """Return the question that a packet holds, or None."""
    try:
        return msgspec.msgpack.decode(packet.data, type=KeyQuestion)
    except msgspec.MsgspecError:
        return None


def encode_answers(name: str, answers: Sequence[MemberKeys]) -> Packet:
    return Packet(KEYS, sender=name, data=msgspec.msgpack.encode(list(answers)))


def decode_answers(packet: Packet | None) -> list[MemberKeys] | None:
    """Return the answers that a packet holds; None if it holds none."""
    if packet is None or packet.kind != KEYS:
        return None
    try:
        return msgspec.msgpack.decode(packet.data, type=list[MemberKeys])
    except msgspec.MsgspecError:
        return None


def apply_question(keyring: "Keyring | None", question: KeyQuestion) -> str:
    """Do what is asked to a keyring; return why not, or ""."""
    if keyring is None:
        return "gossip is not encrypted here: give it a key first (server.encrypt)"
    try:
        if question.operation is KeyOperation.INSTALL:
            keyring.install(question.key)
        elif question.operation is KeyOperation.USE:
            keyring.use(question.key)
        elif question.operation is KeyOperation.REMOVE:
            keyring.remove(question.key)
    except (KeyError, ValueError) as error:
        return str(error.args[0])
    return ""


def objection(question: KeyQuestion, listed: Sequence[MemberKeys]) -> str:
    """Return why a change would cut members off, by their answers to LIST; "" when not.

    Members that did not answer are not counted: nobody knows what they hold.
    """
    answered = [one for one in listed if not one.error]
    shown = b64encode(question.key).decode()
    if question.operation is KeyOperation.USE:
        lacking = [one.name for one in answered if question.key not in one.keys]
        if lacking:
            return f"{_named(lacking)} would be cut off: install {shown} there first"
    elif question.operation is KeyOperation.REMOVE:
        using = [one.name for one in answered if one.keys[:1] == (question.key,)]
        if using:
            return f"{shown} is the key in use at {_named(using)}: use another one first"
    return ""


def _named(names: list[str], shown: int = 5) -> str:
    names = sorted(set(names))
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
