"""Open-ended attributes: by rule and from lists, or written by the language model in the role `enricher`.

Without a model the job description follows from the census codes and the rest was drawn from the curated lists. With a model, one
request a persona asks for three attributes at once; a reply that cannot be read is asked for again, and after three retries the rule and
the lists stand and the ledger says so.
"""

import re
from typing import Any

from builder.llm.messages import Answer, ChatRequest, Sampling
from builder.llm.templates import PromptTemplate, load_template
from builder.personas.attributes import Attributes
from builder.personas.profile import profile_lines
from builder.schema import ATTRIBUTES

TEMPLATE = "enrich_persona"
# Section of the template -> attribute.
WRITTEN = {"job": "detailed_job_description", "lifestyle": "lifestyle", "personal_time": "personal_time"}
# Beliefs stay out of what the writer sees: a lifestyle made from a party would be a stereotype, and would leak the attribute.
HIDDEN = ("political_views", "ideology", "religion", *WRITTEN.values())
YOUNGEST = 6
MAX_RETRIES = 3
MAX_CHARACTERS = 240
SAMPLING = Sampling(max_tokens=300, temperature=0.8, top_p=0.95)


def enrich(personas: dict[str, Attributes], calls: Any, seed: int) -> list[dict[str, str]]:
    """Let the enricher write the open-ended attributes in place (provenance `lm`). Returns ledger entries for what it could not.

    personas: id -> attributes with the rule's and the lists' values already in. Children under six are left as they are.
    """
    template = load_template(TEMPLATE)
    waiting = [identity for identity, attributes in personas.items() if attributes.values["age"] >= YOUNGEST]
    failures: dict[str, tuple[str, str]] = {}
    for attempt in range(MAX_RETRIES + 1):
        if not waiting:
            break
        requests = [request_for(template, personas[identity], seed, attempt) for identity in waiting]
        replies = calls.generate("enricher", requests, "personas: enrichment")
        again = []
        for identity, reply in zip(waiting, replies, strict=True):
            written = read_phrases(template, reply.text) if isinstance(reply, Answer) else None
            if written is not None:
                failures.pop(identity, None)
                for section, attribute in WRITTEN.items():
                    personas[identity].put(attribute, written[section], "lm")
            elif isinstance(reply, Answer):
                failures[identity] = ("unreadable", f"not the form of the template: {reply.text[:120]!r}")
                again.append(identity)
            else:
                failures[identity] = (reply.reason, reply.detail)
                again += [] if reply.may_pass else [identity]
        waiting = again
    return [
        {
            "stage": "personas",
            "item": identity,
            "reason": reason,
            "detail": f"kept the sampled phrases; {detail}".strip(),
        }
        for identity, (reason, detail) in failures.items()
    ]


def request_for(template: PromptTemplate, attributes: Attributes, seed: int, attempt: int) -> ChatRequest:
    shown = [attribute for attribute in ATTRIBUTES if attribute not in HIDDEN]
    profile = "\n".join(profile_lines(attributes.values, shown))
    return ChatRequest(
        messages=template.render(profile=profile),
        sampling=SAMPLING,
        template=template.label,
        seed=seed,
        attempt=attempt,
    )


def read_phrases(template: PromptTemplate, reply: str) -> dict[str, str] | None:
    """The three phrases, each on one line, or None where one is missing, too long or still the placeholder."""
    sections = template.read(reply)
    if sections is None:
        return None
    phrases = {}
    for section in WRITTEN:
        phrase = re.sub(r"\s+", " ", sections[section]).strip().strip('"').rstrip(".").strip()
        if not phrase or len(phrase) > MAX_CHARACTERS or phrase.startswith("<"):
            return None
        phrases[section] = phrase
    return phrases
