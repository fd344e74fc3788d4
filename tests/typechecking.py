"""The run-time type checker of the tests: beartype, where an int will do for a float, as type checkers have it (PEP 484)."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
