"""Identifiers: uids and the random suffixes of generated names."""

import os
import random

# Without vowels and look-alikes, so that no suffix spells a word (Kubernetes' own alphabet, apimachinery/util/rand).
_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def new_uid() -> str:
    """A random UUID in text form."""
    # RFC 9562, section 5.4: 122 random bits around the version (4) and the variant (binary 10).
    bits = bytearray(os.urandom(16))
    bits[6] = bits[6] & 0x0F | 0x40
    bits[8] = bits[8] & 0x3F | 0x80
    text = bits.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def suffix(rng: random.Random, length: int = 5) -> str:
    """A random suffix for a generated name."""
    # One draw for all letters: the system's generator answers each with a call of the kernel.
    number, letters = rng.randrange(len(_SUFFIX_ALPHABET) ** length), ""
    for _ in range(length):
        number, at = divmod(number, len(_SUFFIX_ALPHABET))
        letters += _SUFFIX_ALPHABET[at]
    return letters
