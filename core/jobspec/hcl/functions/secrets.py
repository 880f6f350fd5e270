"""`bcrypt`, `uuidv4` and `rsadecrypt`: what takes randomness from the host, or a key."""

import base64
import binascii
import uuid
from collections.abc import Callable
from typing import Any, Final

from core.jobspec.hcl.functions.function import Function
from core.jobspec.hcl.values import ValueProblem, to_int, to_string

Entropy = Callable[[int], bytes]  # as many random bytes as asked for

_DEFAULT_COST: Final = 10
_MAX_COST: Final = 14  # a second; each more doubles it
_RSA_STEPS: Final = 5000
_STANDARD: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_BCRYPT: Final = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
RANDOM_NAMES: Final = ("bcrypt", "uuidv4")


def random_functions(entropy: Entropy) -> dict[str, Function]:
    """Return the functions whose result is another each time."""

    def bcrypt(password: Any, cost: Any = _DEFAULT_COST) -> str:
        return _bcrypt(to_string(password), to_int(cost), entropy(16))

    def uuidv4() -> str:
        return str(uuid.UUID(bytes=entropy(16), version=4))

    return {"bcrypt": Function(bcrypt, 1, 2, _bcrypt_steps), "uuidv4": Function(uuidv4, 0, 0)}


def _bcrypt_steps(password: Any, cost: Any = _DEFAULT_COST) -> int:
    return 20 << min(max(to_int(cost), 0), _MAX_COST)


def _bcrypt(password: str, cost: int, salt: bytes) -> str:
    import bcrypt

    if not 4 <= cost <= _MAX_COST:
        raise ValueProblem(f"the cost is between 4 and {_MAX_COST}")
    spelled = base64.b64encode(salt).rstrip(b"=").translate(bytes.maketrans(_STANDARD, _BCRYPT))
    try:
        return bcrypt.hashpw(password.encode(), b"$2a$%02d$%s" % (cost, spelled)).decode()
    except ValueError:
        raise ValueProblem("a password of bcrypt has at most 72 bytes") from None


def _rsadecrypt(text: Any, key: Any) -> str:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        sealed = base64.b64decode(to_string(text), validate=True)
    except (binascii.Error, ValueError):
        raise ValueProblem("the text is not base64") from None
    try:
        private = load_pem_private_key(to_string(key).encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueProblem("the key is not a PEM private key without a password") from None
    if not isinstance(private, RSAPrivateKey):
        raise ValueProblem("the key is not an RSA key")
    try:
        return private.decrypt(sealed, PKCS1v15()).decode("utf-8")
    except ValueError:  # UnicodeDecodeError too: a wrong key gives noise
        raise ValueProblem("the key does not decrypt the text") from None


FUNCTIONS: Final = {"rsadecrypt": Function(_rsadecrypt, 2, 2, lambda *_: _RSA_STEPS)}
