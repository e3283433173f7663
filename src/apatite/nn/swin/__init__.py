"""A hierarchical transformer: attention inside shifted windows, four stages, each followed by a merging of tokens."""
