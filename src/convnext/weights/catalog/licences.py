"""Terms of the licences of published weights, in one line each. They are no legal advice."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

__all__ = ["TERMS", "Licence", "Terms", "forbids_commerce"]

Licence = Literal[  # SPDX identifiers, or the names of licences that have none
    "MIT",
    "Apache-2.0",
    "BSD-3-Clause",
    "CC-BY-NC-4.0",
    "DINOv3 License",
    "FAIR Noncommercial Research License",
    "none stated",
]


class Terms(NamedTuple):
    """A licence in short.

    Attributes:
        hub_id: Its name on the Hugging Face Hub and in timm.
        demands: Its main obligations and prohibitions.
        commercial: Whether it allows commercial use.
    """

    hub_id: str
    demands: str
    commercial: bool = True


TERMS: Mapping[Licence, Terms] = MappingProxyType(
    {
        "MIT": Terms("mit", "keep the copyright notice"),
        "Apache-2.0": Terms("apache-2.0", "keep the licence and notices"),
        "BSD-3-Clause": Terms(
            "bsd-3-clause", "keep the copyright notice; no advertising with the authors' names"
        ),
        "CC-BY-NC-4.0": Terms("cc-by-nc-4.0", "credit the authors; no commercial use", False),
        "DINOv3 License": Terms(
            "dinov3-license",
            "pass on under this licence only, with a copy of it; acknowledge DINOv3 in "
            "publications; no military or ITAR-controlled use",
        ),
        "FAIR Noncommercial Research License": Terms(
            "fair-noncommercial-research-license",
            "noncommercial research only, with what the model puts out as well",
            False,
        ),
        "none stated": Terms("unknown", "ask the authors before any use", False),
    }
)
"""Every licence of published weights."""

_IN_WORDS = ("-nc", "noncommercial", "non-commercial")


def forbids_commerce(licence: str | None) -> bool:
    """Whether a licence, by whatever name, is known to forbid commercial use.

    Example:
        >>> forbids_commerce("cc-by-nc-sa-4.0"), forbids_commerce("mit")
        (True, False)
    """
    named = (licence or "").lower()
    known = {name.lower(): terms for name, terms in TERMS.items()}
    return any(part in named for part in _IN_WORDS) or (
        named in known and not known[named].commercial
    )
