"""The 33 attributes of one persona while it is being made: value, or why there is none, and where it came from."""

from dataclasses import dataclass, field
from typing import Any

from builder.schema import ATTRIBUTES, NULL_REASONS, PROVENANCE, empty_attributes


@dataclass
class Attributes:
    """Every attribute starts as null with reason `missing`. A value has a provenance and no reason; a null the other way round."""

    values: dict[str, Any] = field(default_factory=empty_attributes)
    reasons: dict[str, str | None] = field(default_factory=lambda: dict.fromkeys(ATTRIBUTES, "missing"))
    provenance: dict[str, str | None] = field(default_factory=lambda: dict.fromkeys(ATTRIBUTES))

    def put(self, attribute: str, value: Any, provenance: str) -> None:
        """Set a value; None is a null with reason `missing`."""
        assert attribute in self.values
        assert provenance in PROVENANCE
        if value is None:
            self.leave_out(attribute, "missing")
            return
        self.values[attribute] = value
        self.reasons[attribute] = None
        self.provenance[attribute] = provenance

    def leave_out(self, attribute: str, reason: str) -> None:
        assert attribute in self.values
        assert reason in NULL_REASONS
        self.values[attribute] = None
        self.reasons[attribute] = reason
        self.provenance[attribute] = None
