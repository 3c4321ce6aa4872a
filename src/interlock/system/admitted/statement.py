"""The signed statement of a model version, read and verified."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


class Statement(NamedTuple):
    """What was signed: the digests of the model and of the lock that its environment is made of."""

    model: str
    lock: str


def read_statement(envelope: Path, public_key: Path) -> Statement:
    """What the DSSE envelope says, if this key has signed it. ValueError where it has not, OSError as from any read.

    The signature is over ``DSSEv1 LENGTH TYPE LENGTH PAYLOAD`` (the protocol of DSSE 1.0).
    """
    key = serialization.load_pem_public_key(public_key.read_bytes())
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError(f"{public_key} is a key of another kind")  # noqa: TRY004 - what a file says is a value
    try:
        document = json.loads(envelope.read_bytes())
        kind, payload = str(document["payloadType"]), base64.b64decode(document["payload"])
        signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
        key.verify(base64.b64decode(document["signatures"][0]["sig"]), signed, ec.ECDSA(hashes.SHA256()))
        said = json.loads(payload)
        [[algorithm, value]] = said["subject"][0]["digest"].items()
        lock = said["predicate"]["buildDefinition"]["internalParameters"]["lock"]
    except (KeyError, IndexError, TypeError, AttributeError) as problem:
        raise ValueError(f"it is no signed statement: {problem!r}") from problem
    except InvalidSignature as problem:
        raise ValueError("the signature does not hold") from problem
    return Statement(f"{algorithm}:{value}", str(lock))
