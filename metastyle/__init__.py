"""MetaStyle (Zhang, Zhu and Zhu, AAAI 2019): an independent replication."""

__version__ = "0.1.0"
