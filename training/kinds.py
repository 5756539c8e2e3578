"""The kinds of model that can be trained, by the names of their scripts. Imports nothing, because the launcher reads it."""

# On TRL's trainers: they read a persona as text, and transformers and PEFT load what they write.
TRL_KINDS = ("dpo", "reward")
# With a loop of their own: only this project loads them.
OWN_KINDS = ("low_rank", "vpl", "p_dpo", "per_persona")
METHODS = (*TRL_KINDS, *OWN_KINDS)
