"""Identifiers: uids and the random suffixes of generated names."""

import random
import uuid

# Without vowels and look-alikes, so that no suffix spells a word (Kubernetes' own alphabet, apimachinery/util/rand).
_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def new_uid() -> str:
    """A random UUID in text form."""
    return str(uuid.uuid4())


def suffix(rng: random.Random, length: int = 5) -> str:
    """A random suffix for a generated name."""
    return "".join(rng.choices(_SUFFIX_ALPHABET, k=length))
