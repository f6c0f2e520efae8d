"""Everything that learns an embedding, and the evaluation of what was learnt."""
