"""Questions in, the prompts table out: read, filter, score, sort by topic, choose, hold out."""
