"""The checker that annotations meet when tests run: beartype, with whole numbers serving as floats."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
