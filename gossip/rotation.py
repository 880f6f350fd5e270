"""Keys of a running pool: questions about keyrings, and their answers, over streams.

To change the key of a pool without cutting anybody off:

    install the new key at every member     all can read it
    use it at every member                  all send under it
    remove the old one at every member      nobody reads the old one any more

`Endpoint` answers such a question by itself, from the keyring of the pool it came by:
whoever could seal the question already holds a key of the pool, and nothing of it ever
travels in clear. A pool without a keyring refuses them all.

`ask_keys` puts one question to one member; `ask_all` to many, a few at a time. Neither
decides anything: `key_messages.objection` says, from the answers to LIST, what would cut
members off.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from gossip.key_messages import (
    KeyQuestion,
    KeyTarget,
    MemberKeys,
    decode_answers,
    encode_question,
)

if TYPE_CHECKING:
    from gossip.endpoint import Endpoint

ASKED_AT_ONCE: Final = 64
ANSWER_TIMEOUT_S: Final = 5.0
RELAYED_TIMEOUT_S: Final = 9.0  # whoever relays asks many others before it answers


async def ask_keys(
    endpoint: "Endpoint", target: KeyTarget, question: KeyQuestion
) -> list[MemberKeys]:
    """Ask one member; of a relay come the answers of all it asked. Never raises."""
    if target.is_relay:
        question = msgspec.structs.replace(question, is_relayed=True)
    if not target.addresses:
        own = await endpoint.change_keys(target.pool, question)
        return [msgspec.structs.replace(own, name=target.name)]
    timeout_s = RELAYED_TIMEOUT_S if target.is_relay else ANSWER_TIMEOUT_S
    for address in target.addresses:
        reply = await endpoint.exchange(target.pool, address, encode_question(question), timeout_s)
        answers = decode_answers(reply)
        if answers is not None:
            if target.is_relay:
                return answers
            # the name by which we know it; an endpoint knows none of its own
            return [
                msgspec.structs.replace(one, name=target.name, pool=target.pool) for one in answers
            ]
    return [MemberKeys(target.name, "no answer: it may lack the key", (), target.pool)]


async def ask_all(
    endpoint: "Endpoint", targets: Sequence[KeyTarget], question: KeyQuestion
) -> list[MemberKeys]:
    """Ask many members at once; the answers come in the order of the targets."""
    found: list[list[MemberKeys]] = [[] for _ in targets]
    limiter = trio.CapacityLimiter(ASKED_AT_ONCE)

    async def ask(number: int, target: KeyTarget) -> None:
        async with limiter:
            found[number] = await ask_keys(endpoint, target, question)

    async with trio.open_nursery() as nursery:
        for number, target in enumerate(targets):
            nursery.start_soon(ask, number, target)
    return [one for answers in found for one in answers]
