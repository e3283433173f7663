"""From raw probabilities to a decision that fits the development cases. Knows no torch."""
