"""Checksums: as values, in sums files, as servers declare them, and computed while the bytes arrive.

Nothing here knows of sockets, event loops or shared memory: it sees header fields and memoryviews.
"""

from getm.integrity.algorithms import available_algorithms, is_available, require_algorithm
from getm.integrity.declared.discover import Discovery, discover
from getm.integrity.declared.s3 import may_ask_checksums
from getm.integrity.declared.types import Declared
from getm.integrity.file_batch import FileReport, check_files
from getm.integrity.files import check_file, checksum, checksums
from getm.integrity.hashing.hasher import PartsHasher
from getm.integrity.hashing.threads import HashPool
from getm.integrity.sums_files import (
    SumsEntry,
    SumsFile,
    format_sums_line,
    hinted_algorithm,
    parse_sums,
    read_sums,
)
from getm.integrity.values import STRENGTH, Checksum, canonical_algorithm, make_checksum, parse_checksum, parse_pair
from getm.integrity.verdict import Mismatch, Verdict, unverified

__all__ = [
    "STRENGTH",
    "Checksum",
    "Declared",
    "Discovery",
    "FileReport",
    "HashPool",
    "Mismatch",
    "PartsHasher",
    "SumsEntry",
    "SumsFile",
    "Verdict",
    "available_algorithms",
    "canonical_algorithm",
    "check_file",
    "check_files",
    "checksum",
    "checksums",
    "discover",
    "format_sums_line",
    "hinted_algorithm",
    "is_available",
    "make_checksum",
    "may_ask_checksums",
    "parse_checksum",
    "parse_pair",
    "parse_sums",
    "read_sums",
    "require_algorithm",
    "unverified",
]
