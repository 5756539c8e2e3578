"""Messages for a persona of the dataset and one of its questions, in the mode that a model was trained with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from builder.errors import InputError
from builder.randomness import rng_for
from training.conditioning import (
    FEW_SHOT_MODES,
    Conditioning,
    LabelledPair,
    Messages,
    persona_messages,
    persona_text,
)


@dataclass(frozen=True)
class PersonaPrompts:
    """profiles: persona id -> published profile. labelled: persona id -> its labelled pairs (read in the few-shot modes only)."""

    conditioning: Conditioning
    profiles: Mapping[str, str]
    labelled: Mapping[str, Sequence[LabelledPair]]

    def messages(self, persona_id: str | None, prompt_id: str, question: str) -> Messages:
        """What stands before the answer; None: the neutral text. Raises InputError for a persona without a profile, and for one with too
        few labelled pairs (see `has_examples`).
        """
        if persona_id is None:
            return persona_messages(self.conditioning, None, question)
        return persona_messages(
            self.conditioning, self.profile(persona_id), question, self.examples(persona_id, prompt_id)
        )

    def text(self, persona_id: str, prompt_id: str, question: str) -> str:
        """What stands for the persona alone."""
        examples = self.examples(persona_id, prompt_id)
        return persona_text(self.conditioning, self.profile(persona_id), question, examples)

    def profile(self, persona_id: str) -> str:
        if persona_id not in self.profiles:
            raise InputError(
                f"The rows name persona {persona_id!r}, but the personas config has no such persona. The dataset is incomplete: build or "
                "download it again."
            )
        return self.profiles[persona_id]

    def has_examples(self, persona_id: str | None, prompt_id: str) -> bool:
        """Whether the persona has as many labelled pairs on other questions as the mode shows."""
        if persona_id is None or self.conditioning.mode not in FEW_SHOT_MODES:
            return True
        return len(self._other_questions(persona_id, prompt_id)) >= self.conditioning.few_shot_pairs

    def examples(self, persona_id: str, prompt_id: str) -> list[LabelledPair]:
        """The labelled pairs shown with this question, none of them on it; those of a smaller k are the first of a larger one."""
        if self.conditioning.mode not in FEW_SHOT_MODES:
            return []
        return draw_examples(
            self.labelled.get(persona_id, ()),
            persona_id,
            prompt_id,
            self.conditioning.few_shot_pairs,
            self.conditioning.seed,
        )

    def _other_questions(self, persona_id: str, prompt_id: str) -> set[str]:
        return {pair.prompt_id for pair in self.labelled.get(persona_id, ())} - {prompt_id}


def draw_examples(
    pairs: Sequence[LabelledPair], persona_id: str, prompt_id: str, count: int, seed: int
) -> list[LabelledPair]:
    """`count` pairs, each on a question of its own and none on `prompt_id`. Raises InputError if there are fewer such questions."""
    usable = sorted(
        (pair for pair in pairs if pair.prompt_id != prompt_id),
        key=lambda pair: (pair.prompt_id, pair.preferred, pair.other),
    )
    order = rng_for(seed, "few_shot", f"{persona_id}/{prompt_id}").permutation(len(usable))
    drawn: dict[str, LabelledPair] = {}
    for place in order:
        drawn.setdefault(usable[place].prompt_id, usable[place])
    if len(drawn) < count:
        raise InputError(
            f"Persona {persona_id} has labelled pairs on {len(drawn)} questions other than {prompt_id}, and few_shot_pairs is {count}. "
            "Lower few_shot_pairs, or build with more train pairs a persona."
        )
    return list(drawn.values())[:count]
